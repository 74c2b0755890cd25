"""The folder of one run: where everything lies, who may write in it, and which checkpoint is the newest.

Made by the command line before anything starts; the controller and the monitor take paths from it.

    runs_dir/name/  config.yaml  summary.json  metrics.jsonl  curve.png  lock
                    tensorboard/  trajectories/  scores/  warmstart/
                    checkpoints/update-000040/  checkpoints/latest (the newest one's name)

A run is never overwritten. Not promised: a lock on file systems where `flock` does not reach other machines.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Self

from turnwise.errors import UserError
from turnwise.store.atomic import (
    TMP_PREFIX,
    commit_folder,
    remove_folder,
    remove_leftovers,
    write_bytes_atomically,
    write_json_atomically,
)
from turnwise.store.lock import RunLock, RunLockedError

__all__ = ["RunFolder", "write_json_atomically"]

_CHECKPOINT = re.compile(r"update-(\d{6,})")
_LOCK = "lock"
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")


class RunFolder:
    """Paths of one run. `RunFolder(path)` is for readers; who writes calls `create`, which takes the lock."""

    def __init__(self, path: Path | str) -> None:
        """Take the folder as it is; nothing is made or checked."""
        self.path = Path(path)
        self._lock: RunLock | None = None

    @classmethod
    def create(cls, runs_dir: Path | str, name: str, resume: bool = False) -> Self:
        """Make and lock the folder of a new run, or lock that of an existing one to go on with it.

        UserError: a bad name, an unwritable `runs_dir`, a run that exists (or, with `resume`, that does not), or a
        driver that works on it now. Nothing is changed in a folder that is refused.
        """
        _check_name(name)
        folder = cls(Path(runs_dir) / name)
        folder._check_free(name)
        folder._check_contents(name, resume)
        _check_writable(Path(runs_dir), folder.path)
        folder._acquire(name)
        try:
            folder._check_contents(name, resume)
            folder._prepare()
        except BaseException:
            folder.close()
            raise
        return folder

    def close(self) -> None:
        """Give the lock back; the process's end does the same."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def config(self) -> Path:
        """The resolved configuration, secrets masked."""
        return self.path / "config.yaml"

    @property
    def summary(self) -> Path:
        """The result; there once the run has ended."""
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        """One JSON line an update."""
        return self.path / "metrics.jsonl"

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return self.path / "curve.png"

    @property
    def tensorboard(self) -> Path:
        """Folder of event files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def warmstart(self) -> Path:
        """The model after the supervised warm start, in Hugging Face format."""
        return self.path / "warmstart"

    def checkpoint(self, update: int) -> Path:
        """Return where the checkpoint after `update` updates lies."""
        return self.checkpoints / f"update-{update:06d}"

    def saved_updates(self) -> tuple[int, ...]:
        """Return the updates that have a complete checkpoint, oldest first."""
        names = (path.name for path in self.checkpoints.glob("update-*") if path.is_dir())
        matches = (_CHECKPOINT.fullmatch(name) for name in names)
        return tuple(sorted(int(match[1]) for match in matches if match))

    def latest(self) -> int | None:
        """Return the update of the newest complete checkpoint, or None."""
        saved = self.saved_updates()
        return saved[-1] if saved else None

    @contextmanager
    def new_checkpoint(self, update: int) -> Iterator[Path]:
        """Yield an empty temporary folder to save in; at the end it is made durable and gets its name.

        An error within leaves the former checkpoints as they were. The same update again replaces its own.
        """
        with new_folder(self.checkpoint(update)) as temporary:
            yield temporary
        write_bytes_atomically(self.checkpoints / "latest", f"{self.checkpoint(update).name}\n".encode())

    def prune(self, keep: int) -> tuple[int, ...]:
        """Delete all but the `keep` newest checkpoints (at least one stays); return the deleted ones' updates."""
        doomed = self.saved_updates()[: -max(keep, 1)]
        for update in doomed:
            remove_folder(self.checkpoint(update))
        return doomed

    def truncate_metrics(self, update: int) -> int:
        """Drop metrics of later updates, and a line that a crash cut off; return how many lines went."""
        if not self.metrics.exists():
            return 0
        lines = self.metrics.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _is_until(line, update)]
        if len(kept) < len(lines):
            write_bytes_atomically(self.metrics, b"".join(kept))
        return len(lines) - len(kept)

    def _check_free(self, name: str) -> None:
        if not (self.path / _LOCK).exists():
            return
        try:
            RunLock(self.path / _LOCK).release()
        except RunLockedError as error:
            raise _in_use(name, error) from None
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def _check_contents(self, name: str, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError("name", name, f"{self.path} exists and is no folder", "choose another name")
        has_run = any(path.name != _LOCK and not path.is_dir() for path in self.path.rglob("*"))
        if has_run and not resume:
            raise UserError("name", name, f"{self.path} holds a run already", "set resume=true or choose another name")
        if resume and not has_run:
            raise UserError("resume", True, f"there is no run in {self.path}", "set resume=false or another name")

    def _acquire(self, name: str) -> None:
        try:
            self._lock = RunLock(self.path / _LOCK)
        except RunLockedError as error:
            raise _in_use(name, error) from None
        except OSError as error:
            raise _unwritable(self.path.parent, error) from error

    def _prepare(self) -> None:
        self.checkpoints.mkdir(exist_ok=True)
        for folder in (self.path, self.checkpoints):
            remove_leftovers(folder)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; at the end it becomes `path`, durably; an error deletes it."""
    temporary = path.with_name(f"{TMP_PREFIX}{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        commit_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name in (".", "..") or name != name.strip():
        problem = "is not a folder name" if name.strip() else "is empty"
        raise UserError("name", name, problem, "use letters, digits, - and _, and set runs_dir for another place")


def _check_writable(runs_dir: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        raise _unwritable(runs_dir, error) from error


def _unwritable(runs_dir: Path, error: OSError) -> UserError:
    return UserError("runs_dir", runs_dir, f"cannot be written to ({error.strerror})", "choose a folder that can")


def _in_use(name: str, error: RunLockedError) -> UserError:
    return UserError("name", name, f"this run is in use by {error}", "wait for it, stop it or choose another name")


def _is_until(line: bytes, update: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and int(entry.get("update", 0)) <= update
