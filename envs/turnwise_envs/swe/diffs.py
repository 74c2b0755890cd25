"""Unified diffs over files held in memory: read, applied, turned around, made. No program is called, no disk touched.

Task files bring diffs of other people's making, so paths that lead out of the repository are refused, and so is what
does not apply exactly (a hunk may stand some lines off, as `patch` allows, but its lines must be there).
Files are bytes, since a repository may hold what is no UTF-8.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

Files = Mapping[str, bytes]
"""Regular files by path, with `/`, from the repository's root."""

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NOTHING = "dev/null"
NO_NEWLINE = b"\\ No newline at end of file"


class DiffError(ValueError):
    """A diff cannot be read, leads out of the repository, or does not apply."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hunk:
    """One run of lines; each keeps its newline, or has none at the end of a file."""

    first: int  # line at which it begins in the old file, from 1 on; 0 for an empty one
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDiff:
    """What becomes of one file."""

    old: str | None  # path; None: the file is new
    new: str | None  # path; None: the file goes
    hunks: tuple[Hunk, ...] = ()


def parse(text: str) -> list[FileDiff]:
    """Return the diffs of a text, git's headers understood; DiffError for what is none, and for binary ones."""
    lines = text.encode(errors="surrogateescape").splitlines(keepends=True)
    found: list[FileDiff] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        if line.startswith(b"diff --git "):
            place, file = _git(lines, place)
            found += [file] if file is not None else []
        elif line.startswith(b"--- ") and place + 1 < len(lines) and lines[place + 1].startswith(b"+++ "):
            place, file = _plain(lines, place)
            found.append(file)
        elif line.startswith(b"@@ "):
            raise DiffError("a hunk without the name of its file")
        else:
            place += 1
    if text.strip() and not found:
        raise DiffError("no diff in it")
    return found


def apply(files: Files, diff: str | Sequence[FileDiff]) -> dict[str, bytes]:
    """Return the files with a diff applied; DiffError, naming the file, where it does not."""
    after = dict(files)
    for file in parse(diff) if isinstance(diff, str) else diff:
        before = b""
        if file.old is not None:
            if file.old not in after:
                raise DiffError(f"{file.old}: the file is not there")
            before = after.pop(file.old)
        elif file.new in after:
            raise DiffError(f"{file.new}: the file is there already")
        changed = _changed(before, file)
        if file.new is not None:
            after[file.new] = changed
        elif changed:
            raise DiffError(f"{file.old}: goes, but not all of it is in the diff")
    return after


def reverse(text: str) -> str:
    """Return the diff that undoes this one."""
    return render([replace(file, old=file.new, new=file.old, hunks=_turned(file.hunks)) for file in parse(text)])


def make(before: Files, after: Files) -> str:
    """Return the diff that leads from some files to others; DiffError for a changed binary file."""
    found = []
    for path in sorted(set(before) | set(after)):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if b"\0" in (old or b"") or b"\0" in (new or b""):
            raise DiffError(f"{path}: a binary file has no diff")
        names = (None if old is None else path, None if new is None else path)
        found.append(FileDiff(old=names[0], new=names[1], hunks=_hunks(old or b"", new or b"")))
    return render(found)


def render(files: Sequence[FileDiff]) -> str:
    """Return the text of diffs, with git's headers."""
    return b"".join(part for file in files for part in _rendered(file)).decode(errors="surrogateescape")


def paths(text: str) -> list[str]:
    """Return the files that a diff touches, each once."""
    return list(dict.fromkeys(path for file in parse(text) for path in (file.old, file.new) if path is not None))


def safe_path(path: str) -> str:
    """Return a path in its shortest form; DiffError for one that is absolute, leads out, or holds a NUL."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or not parts or "\0" in path or ".git" in parts:
        raise DiffError(f"{path[:200]!r} leads out of the repository")
    return "/".join(parts)


def _git(lines: Sequence[bytes], place: int) -> tuple[int, FileDiff | None]:
    """Read one file's diff with git's header, which begins at `place`; None for one that changes a mode only."""
    header: dict[bytes, bytes] = {}
    names = re.fullmatch(rb"diff --git a/(.*) b/(.*)", lines[place].rstrip(b"\r\n"))
    place += 1
    while place < len(lines) and not lines[place].startswith((b"diff --git ", b"--- ", b"@@ ")):
        if lines[place].startswith((b"GIT binary patch", b"Binary files ")):
            raise DiffError("a binary diff")
        words = re.match(rb"(new file mode|deleted file mode|rename from|rename to|copy from) ?(.*)", lines[place])
        if words:
            header[words[1]] = words[2].rstrip(b"\r")
        place += 1
    if place < len(lines) and lines[place].startswith(b"--- "):
        return _plain(lines, place)
    if b"copy from" in header:
        raise DiffError("a diff that copies a file")
    if b"rename from" in header:
        return place, FileDiff(old=_name(header[b"rename from"], 0), new=_name(header.get(b"rename to", b""), 0))
    if names is None or not {b"new file mode", b"deleted file mode"} & set(header):
        return place, None
    if b"new file mode" in header:
        return place, FileDiff(old=None, new=_name(names[2], 0))
    return place, FileDiff(old=_name(names[1], 0), new=None)


def _plain(lines: Sequence[bytes], place: int) -> tuple[int, FileDiff]:
    old, new = _name(lines[place][4:], 1), _name(lines[place + 1][4:], 1)
    if old is None and new is None:
        raise DiffError("a diff of no file")
    place += 2
    hunks = []
    while place < len(lines) and lines[place].startswith(b"@@ "):
        place, hunk = _hunk(lines, place)
        hunks.append(hunk)
    return place, FileDiff(old=old, new=new, hunks=tuple(hunks))


def _name(written: bytes, strip: int) -> str | None:
    name = written.split(b"\t")[0].strip(b"\r\n ").decode(errors="surrogateescape").strip('"')
    if name.strip("/") == _NOTHING:
        return None
    return safe_path(name[2:] if strip and name.startswith(("a/", "b/")) else name)


def _hunk(lines: Sequence[bytes], place: int) -> tuple[int, Hunk]:
    match = _HUNK.match(lines[place])
    if match is None:
        raise DiffError(f"no head of a hunk: {lines[place][:60]!r}")
    num_old, num_new = (1 if match[i] is None else int(match[i]) for i in (2, 4))
    old: list[bytes] = []
    new: list[bytes] = []
    place += 1
    while place < len(lines) and (len(old) < num_old or len(new) < num_new):
        place = _line(lines, place, old, new)
    if len(old) != num_old or len(new) != num_new:
        raise DiffError("a hunk whose lines are not as many as its head says")
    if place < len(lines) and lines[place].startswith(NO_NEWLINE[:4]):
        place = _line(lines, place, old, new)
    return place, Hunk(first=int(match[1]), old=tuple(old), new=tuple(new))


def _line(lines: Sequence[bytes], place: int, old: list[bytes], new: list[bytes]) -> int:
    sign, content = lines[place][:1], lines[place][1:]
    if sign == b"\\":
        last = lines[place - 1][:1]
        for side in [old] * (last in b"- ") + [new] * (last in b"+ "):
            side[-1] = side[-1].removesuffix(b"\n")
        return place + 1
    if sign in (b"\n", b"\r"):  # an empty line of context that lost its space
        sign, content = b" ", lines[place]
    if sign not in (b" ", b"-", b"+"):
        raise DiffError(f"no line of a hunk: {lines[place][:60]!r}")
    if not content.endswith(b"\n"):
        content += b"\n"  # the text itself ends without one
    old += [content] if sign != b"+" else []
    new += [content] if sign != b"-" else []
    return place + 1


def _changed(before: bytes, file: FileDiff) -> bytes:
    lines = _split(before)
    shift = 0
    for hunk in file.hunks:
        wanted = max(hunk.first - 1, 0) + shift if hunk.old else hunk.first + shift
        place = _place(lines, hunk.old, wanted)
        if place is None:
            raise DiffError(f"{file.old or file.new}: does not apply at line {hunk.first}")
        lines[place : place + len(hunk.old)] = hunk.new
        shift += len(hunk.new) - len(hunk.old) + place - wanted
    return b"".join(lines)


def _place(lines: Sequence[bytes], old: Sequence[bytes], wanted: int) -> int | None:
    """Return where some lines stand, the place nearest to the wanted one; None if nowhere."""
    last = len(lines) - len(old)
    for offset in range(max(wanted, last - wanted, 0) + 1):
        for place in dict.fromkeys((wanted - offset, wanted + offset)):
            if 0 <= place <= last and all(lines[place + i] == line for i, line in enumerate(old)):
                return place
    return None


def _split(data: bytes) -> list[bytes]:
    """Return lines with their newline; only a line feed ends a line."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _turned(hunks: Sequence[Hunk]) -> tuple[Hunk, ...]:
    shift = 0
    turned = []
    for hunk in hunks:
        is_before = bool(hunk.old) - bool(hunk.new)  # an empty side counts from the line before
        first = hunk.first + shift - is_before
        turned.append(Hunk(first=max(first, 0), old=hunk.new, new=hunk.old))
        shift += len(hunk.new) - len(hunk.old)
    return tuple(turned)


def _hunks(old: bytes, new: bytes) -> tuple[Hunk, ...]:
    before, after = _split(old), _split(new)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    found = []
    for group in matcher.get_grouped_opcodes(3):
        low, high, new_low, new_high = group[0][1], group[-1][2], group[0][3], group[-1][4]
        first = low + 1 if high > low else low
        found.append(Hunk(first=first, old=tuple(before[low:high]), new=tuple(after[new_low:new_high])))
    return tuple(found)


def _rendered(file: FileDiff) -> Iterator[bytes]:
    old, new = file.old or file.new, file.new or file.old
    yield f"diff --git a/{old} b/{new}\n".encode(errors="surrogateescape")
    yield b"new file mode 100644\n" if file.old is None else b""
    yield b"deleted file mode 100644\n" if file.new is None else b""
    if not file.hunks and file.old and file.new:
        yield f"rename from {old}\nrename to {new}\n".encode(errors="surrogateescape")
    if not file.hunks:
        return
    yield (f"--- a/{file.old}\n" if file.old else "--- /dev/null\n").encode(errors="surrogateescape")
    yield (f"+++ b/{file.new}\n" if file.new else "+++ /dev/null\n").encode(errors="surrogateescape")
    shift = 0
    for hunk in file.hunks:
        is_before = bool(hunk.old) - bool(hunk.new)
        new_first = max(hunk.first + shift - is_before, 0)
        yield f"@@ -{hunk.first},{len(hunk.old)} +{new_first},{len(hunk.new)} @@\n".encode()
        yield from _signed(hunk)
        shift += len(hunk.new) - len(hunk.old)


def _signed(hunk: Hunk) -> Iterator[bytes]:
    matcher = difflib.SequenceMatcher(None, hunk.old, hunk.new, autojunk=False)
    for kind, low, high, new_low, new_high in matcher.get_opcodes():
        if kind == "equal":
            yield from (_spelled(b" ", line) for line in hunk.old[low:high])
        else:
            yield from (_spelled(b"-", line) for line in hunk.old[low:high])
            yield from (_spelled(b"+", line) for line in hunk.new[new_low:new_high])


def _spelled(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n" + NO_NEWLINE + b"\n"
