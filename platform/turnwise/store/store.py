"""The store: every episode and every score of a run, as Parquet in the run folder, queried with SQL.

One pair of files an update (`trajectories/update-000012.parquet`, `scores/update-000012.parquet`) or evaluation
(`eval-before-greedy.parquet`). The controller writes through the actor in `turnwise.store.actor`; notebooks read a
`Store` of their own, also while the run goes on.

A pair is committed by its trajectories file, which is renamed last and removed first: without it the scores do not
count. So a crash leaves an update whole or absent. Not promised: two writers at once on one folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.errors import UserError
from turnwise.records import Group, Trajectory
from turnwise.store.arrow import scores_to_table, table_to_scores, table_to_trajectories, trajectories_to_table
from turnwise.store.atomic import remove_leftovers, sync_folder, write_bytes_atomically
from turnwise.store.pending import assemble_groups, group_to_json, read_table, table_to_bytes
from turnwise.store.schema import GROUPS_KEY, check_version, with_header, with_metadata
from turnwise.store.views import run_query

_EVAL_TAG = re.compile(r"eval-[A-Za-z0-9_-]{1,80}")
_UPDATE_TAG = re.compile(r"update-(\d{6,})")


class Store:
    """Trajectories and scores in a folder. Reading creates nothing."""

    def __init__(self, folder: Path | str) -> None:
        """Take the run folder; its `trajectories` and `scores` are made at the first append."""
        self.folder = Path(folder)

    def append(self, update: int, groups: Sequence[Group], failed: Sequence[Trajectory] = ()) -> None:
        """Store what an update was trained on, and the episodes that failed meanwhile.

        Idempotent: the same update replaces its own files, and equal content leaves them as they are.
        """
        self._write(update_tag(update), groups, failed, update=update, is_eval=False)

    def append_eval(
        self, tag: str, groups: Sequence[Group], *, update: int = 0, failed: Sequence[Trajectory] = ()
    ) -> None:
        """Store the episodes of an evaluation under `eval-...`; `update` says which weights were measured."""
        if not _EVAL_TAG.fullmatch(tag):
            raise ValueError(f"evaluation tag {tag!r} must look like eval-before-greedy")
        self._write(tag, groups, failed, update=update, is_eval=True)

    def truncate_after(self, update: int) -> tuple[str, ...]:
        """Remove everything of later updates, and what a crash left half written; return the removed tags."""
        doomed = tuple(tag for tag in self.tags() if self._update_of(tag) > update)
        for tag in doomed:
            self._uncommit(tag)
            self._path("scores", tag).unlink(missing_ok=True)
        for orphan in set(self._stems("scores")) - set(self.tags()):
            self._path("scores", orphan).unlink(missing_ok=True)
        for part in ("trajectories", "scores"):
            remove_leftovers(self.folder / part)
        return doomed

    def tags(self) -> tuple[str, ...]:
        """Return the names of what is stored, evaluations first, updates in order."""
        return tuple(sorted(set(self._stems("trajectories")) & set(self._stems("scores"))))

    def updates(self) -> tuple[int, ...]:
        """Return the updates that are stored, in order."""
        matches = (_UPDATE_TAG.fullmatch(tag) for tag in self.tags())
        return tuple(sorted(int(match[1]) for match in matches if match))

    def groups(self, what: int | str) -> tuple[Group, ...]:
        """Return the groups of an update, or of an evaluation by its tag, as they were given; UserError if unknown."""
        table, headers = self._read_trajectories(what)
        scores = table_to_scores(read_table(self._path("scores", _tag_of(what))))
        return assemble_groups(headers, table_to_trajectories(table), scores)

    def failed(self, what: int | str) -> tuple[Trajectory, ...]:
        """Return the failed episodes that were stored beside the groups; UserError if unknown."""
        table, headers = self._read_trajectories(what)
        num_grouped = sum(header["num_trajectories"] for header in headers)
        return tuple(table_to_trajectories(table.slice(num_grouped).combine_chunks()))

    def query(self, sql: str, *, with_ids: bool = False) -> pa.Table:
        """Return the result of SQL over the views `trajectories`, `turns` and `scores` (see `views`).

        `with_ids` gives `turns` its per-token columns as well. UserError for bad SQL or a newer schema.
        """
        trajectories = [self._path("trajectories", tag) for tag in self.tags()]
        scores = [self._path("scores", tag) for tag in self.tags()]
        for path in (*trajectories, *scores):
            check_version(_metadata(path), path)
        return run_query(sql, trajectories, scores, with_ids=with_ids)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the result of a query as one dictionary a row."""
        rows: list[dict[str, Any]] = self.query(sql).to_pylist()
        return rows

    def _write(
        self, tag: str, groups: Sequence[Group], failed: Sequence[Trajectory], *, update: int, is_eval: bool
    ) -> None:
        trajectories = trajectories_to_table([*(each for group in groups for each in group.trajectories), *failed])
        scores = scores_to_table([score for group in groups for score in group.scores])
        headers = [group_to_json(group) for group in groups]
        header = (tag, update, is_eval)
        self._commit(
            tag,
            table_to_bytes(with_metadata(with_header(trajectories, *header), headers)),
            table_to_bytes(with_metadata(with_header(scores, *header))),
        )

    def _commit(self, tag: str, trajectories: memoryview, scores: memoryview) -> None:
        if self._holds("trajectories", tag, trajectories) and self._holds("scores", tag, scores):
            return
        for part in ("trajectories", "scores"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._uncommit(tag)
        write_bytes_atomically(self._path("scores", tag), scores)
        write_bytes_atomically(self._path("trajectories", tag), trajectories)

    def _uncommit(self, tag: str) -> None:
        path = self._path("trajectories", tag)
        if path.exists():
            path.unlink()
            sync_folder(path.parent)

    def _holds(self, part: str, tag: str, data: memoryview) -> bool:
        path = self._path(part, tag)
        return path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data

    def _read_trajectories(self, what: int | str) -> tuple[pa.Table, list[dict[str, Any]]]:
        tag = _tag_of(what)
        if tag not in self.tags():
            known = ", ".join(self.tags()) or "nothing"
            raise UserError("store", tag, f"is not stored in {self.folder}", f"there is {known}")
        table = read_table(self._path("trajectories", tag))
        return table, json.loads(table.schema.metadata[GROUPS_KEY])

    def _update_of(self, tag: str) -> int:
        if match := _UPDATE_TAG.fullmatch(tag):
            return int(match[1])
        column = pq.read_table(self._path("trajectories", tag), columns=["update"]).column("update")
        return column[0].as_py() if len(column) else 0

    def _stems(self, part: str) -> list[str]:
        return [path.stem for path in (self.folder / part).glob("[!.]*.parquet")]

    def _path(self, part: str, tag: str) -> Path:
        return self.folder / part / f"{tag}.parquet"


def update_tag(update: int) -> str:
    """Return the name under which an update is stored, for instance `update-000012`."""
    return f"update-{update:06d}"


def _tag_of(what: int | str) -> str:
    return what if isinstance(what, str) else update_tag(what)


def _metadata(path: Path) -> dict[bytes, bytes] | None:
    try:
        return pq.read_schema(path).metadata
    except pa.ArrowInvalid as error:
        raise UserError("store", path, f"is damaged ({error})", "remove the file") from error
