"""Tasks of software engineering: one record with SWE-bench's fields, read from JSON lines, a JSON list or Parquet.

Files of SWE-bench, SWE-Gym, R2E-Gym and SWE-smith load as they are: their names of one thing are brought together here.
What a task needs to run without an image (the repository's archive, the bug, hidden tests, a reproduction) stands in
an object `turnwise` of its line. A line that lacks something is a `UserError` that names file, line and field.
It is not promised that a task can be run or solved: `workspace.py` and the builder find out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnwise.errors import UserError
from turnwise_envs.swe import diffs

IMAGES = ("image", "docker_image", "image_name")
FIELD = "env.kwargs.tasks"
EXTRA = "turnwise"
REMEDY = "correct the line"


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """Where a bug is; hidden from the agent, for compact renderings."""

    path: str
    first_line: int  # from 1 on, of the buggy file
    last_line: int
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A call whose value is compared outside; values are plain JSON, with marks for the rest (`probes.py`)."""

    call: str  # "package.module:function"
    expected: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a task is put together: the object `turnwise` of its line."""

    archive: str = ""  # tar of the clean repository with all its tests, from the task file's folder; none: in the image
    bug: str = ""  # unified diff, clean -> buggy; empty: the archive has the bug already
    hidden: tuple[str, ...] = ()  # test files that the workspace lacks; they are put back for grading
    added: Mapping[str, str] = field(default_factory=dict)  # path -> text of files that only the workspace has
    reproduction: tuple[str, ...] = ()  # command that fails because of the bug, for the agent to run
    root: str = "."  # import root within the repository: ".", "src", ...
    functions: tuple[Function, ...] = ()
    difficulty: Mapping[str, Any] = field(default_factory=dict)  # what the builder measured, plain JSON
    probes: tuple[Probe, ...] = ()
    conftest: tuple[str, ...] = ()  # conftest.py files of the archive that its tests need, loaded as trusted
    timeout_s: float | None = None  # seconds for all tests of a grading; None: the environment's


@dataclass(frozen=True, kw_only=True, slots=True)
class SweTask:
    """One task; the names are SWE-bench's."""

    instance_id: str
    repo: str
    problem_statement: str
    fail_to_pass: tuple[str, ...]  # tests that the bug makes fail, as pytest names them
    pass_to_pass: tuple[str, ...] = ()  # tests that pass before and after
    base_commit: str = ""
    patch: str = ""  # the gold patch, a unified diff; hidden
    test_patch: str = ""  # unified diff that brings the hidden tests
    image: str | None = None
    recipe: Recipe | None = None
    source: str = ""  # the task file; the archive's path begins at its folder
    where: str = ""  # "file:line", for messages

    @property
    def tests(self) -> tuple[str, ...]:
        """All tests that decide, those that fail at first before the others."""
        return tuple(dict.fromkeys((*self.fail_to_pass, *self.pass_to_pass)))

    @property
    def archive_path(self) -> Path | None:
        """Where the archive is; None for a task whose repository is in its image."""
        name = self.recipe.archive if self.recipe is not None else ""
        return Path(self.source).parent / name if name else None


def load_tasks(path: str | Path, field: str = FIELD) -> tuple[SweTask, ...]:
    """Return a file's tasks, in order; UserError naming `field`, file and line for what cannot be read.

    Names of instances are unique within a file.
    """
    tasks = tuple(
        _task(Line(field=field, where=where, source=str(path), data=data)) for where, data in _rows(path, field)
    )
    names: dict[str, str] = {}
    for task in tasks:
        if task.instance_id in names:
            problem = f"instance_id {task.instance_id!r} is there twice, first at {names[task.instance_id]}"
            raise UserError(field, task.where, problem, REMEDY)
        names[task.instance_id] = task.where
    if not tasks:
        raise UserError(field, path, "holds no task", "write one JSON object a line, with SWE-bench's fields")
    return tasks


def to_json(task: SweTask) -> dict[str, Any]:
    """Return a task as a line of a task file, with SWE-bench's names."""
    line: dict[str, Any] = {
        "instance_id": task.instance_id,
        "repo": task.repo,
        "base_commit": task.base_commit,
        "problem_statement": task.problem_statement,
        "patch": task.patch,
        "test_patch": task.test_patch,
        "FAIL_TO_PASS": list(task.fail_to_pass),
        "PASS_TO_PASS": list(task.pass_to_pass),
    }
    if task.image is not None:
        line["image"] = task.image
    if task.recipe is not None:
        line[EXTRA] = json.loads(json.dumps(dataclasses.asdict(task.recipe)))
    return line


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row of a task file, and how to complain about it."""

    field: str
    where: str
    source: str
    data: Mapping[str, Any]

    def error(self, problem: str) -> UserError:
        """Return the error for this line."""
        return UserError(self.field, self.where, problem, REMEDY)

    def inner(self, key: str) -> Line:
        """Return an object of this one as a line of its own."""
        if not isinstance(self.data[key], Mapping):
            raise self.error(f'"{key}" must be an object')
        return dataclasses.replace(self, data=self.data[key])

    def text(self, *keys: str, default: str | None = None) -> str:
        """Return the text under the first of these names that is there."""
        value = next((self.data[key] for key in keys if self.data.get(key) is not None), default)
        if value is None:
            raise self.error(f'lacks "{keys[0]}"')
        if not isinstance(value, str) or (default is None and not value.strip()):
            raise self.error(f'"{keys[0]}" must be a text that is not empty')
        return value

    def names(self, *keys: str) -> tuple[str, ...]:
        """Return a list of texts, which may itself be spelt as JSON text; empty where there is none."""
        value: Any = next((self.data[key] for key in keys if self.data.get(key) is not None), [])
        if isinstance(value, str):
            try:
                value = json.loads(value or "[]")
            except (ValueError, RecursionError):
                raise self.error(f'"{keys[0]}" must be a list of texts, or JSON text of one') from None
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
            raise self.error(f'"{keys[0]}" must be a list of texts')
        return tuple(dict.fromkeys(value))

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Return an object; empty where there is none."""
        value = self.data.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.error(f'"{key}" must be an object')
        return value

    def objects(self, key: str) -> list[Mapping[str, Any]]:
        """Return a list of objects; empty where there is none."""
        value = self.data.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self.error(f'"{key}" must be a list of objects')
        return value

    def diff(self, key: str) -> str:
        """Return a unified diff that can be read; empty where there is none."""
        text = self.text(key, default="")
        try:
            diffs.parse(text)
        except diffs.DiffError as error:
            raise self.error(f'"{key}" is no diff ({error})') from None
        return text

    def path(self, key: str, value: Any) -> str:
        """Return a path within the repository."""
        try:
            return diffs.safe_path(value)
        except (diffs.DiffError, AttributeError, TypeError):
            raise self.error(f'"{key}" must be a path within the repository, not {str(value)[:80]!r}') from None


def _task(line: Line) -> SweTask:
    name = line.text("instance_id", default=None) if "instance_id" in line.data else _own_name(line)
    fail_to_pass = _fail_to_pass(line)
    recipe = _recipe(line.inner(EXTRA)) if line.data.get(EXTRA) is not None else None
    if recipe is None and _is_of_smith(line):
        hidden = tuple(dict.fromkeys(test.split("::")[0] for test in fail_to_pass))
        recipe = Recipe(bug=line.diff("patch"), hidden=hidden)
    return SweTask(
        instance_id=name,
        repo=line.text("repo", "repo_name"),
        problem_statement=line.text("problem_statement"),
        fail_to_pass=fail_to_pass,
        pass_to_pass=line.names("PASS_TO_PASS", "pass_to_pass"),
        base_commit=line.text("base_commit", "commit_hash", default=""),
        patch=_gold(line, recipe),
        test_patch=line.diff("test_patch"),
        image=line.text(*IMAGES, default="") or _image_of_bench(line, name),
        recipe=recipe,
        source=line.source,
        where=line.where,
    )


def _is_of_smith(line: Line) -> bool:
    """Whether a line is one of SWE-smith's, whose `patch` makes the bug."""
    return "image_name" in line.data and "test_patch" not in line.data


def _image_of_bench(line: Line, name: str) -> str | None:
    """Return the image of a task of SWE-bench, which leaves it unsaid."""
    is_of_bench = "environment_setup_commit" in line.data
    return f"swebench/sweb.eval.x86_64.{name.replace('__', '_1776_').lower()}:latest" if is_of_bench else None


def _own_name(line: Line) -> str:
    """Return a name for a task of R2E-Gym, which gives none: repository and commit."""
    if "commit_hash" not in line.data:
        raise line.error('lacks "instance_id"')
    return f"{line.text('repo_name', 'repo')}__{line.text('commit_hash')}"


def _fail_to_pass(line: Line) -> tuple[str, ...]:
    """Return the tests to be made pass; of R2E-Gym, which has one list for all, those that are expected to pass."""
    names = line.names("FAIL_TO_PASS", "fail_to_pass")
    if not names and isinstance(line.data.get("expected_output_json"), str):
        try:
            expected = json.loads(line.data["expected_output_json"])
        except (ValueError, RecursionError):
            expected = None
        if not isinstance(expected, dict):
            raise line.error('"expected_output_json" must be JSON text of an object')
        names = tuple(name for name, outcome in expected.items() if outcome == "PASSED")
    if not names:
        raise line.error('lacks "FAIL_TO_PASS", the tests that the bug makes fail')
    return names


def _gold(line: Line, recipe: Recipe | None) -> str:
    """Return the gold patch. SWE-smith's `patch` makes the bug, as does ours: turned around, it is the gold patch."""
    patch = line.diff("patch")
    if patch:
        return diffs.reverse(patch) if _is_of_smith(line) else patch
    return diffs.reverse(recipe.bug) if recipe is not None and recipe.bug else ""


def _recipe(line: Line) -> Recipe:
    known = {item.name for item in dataclasses.fields(Recipe)}
    unknown = [key for key in line.data if key not in known]
    if unknown:
        raise line.error(f'unknown key "{EXTRA}.{unknown[0]}" (known: {", ".join(sorted(known))})')
    added = line.mapping("added")
    if not all(isinstance(text, str) for text in added.values()):
        raise line.error('"added" must be an object of texts by path')
    return Recipe(
        archive=line.text("archive", default=""),
        bug=line.diff("bug"),
        hidden=tuple(line.path("hidden", path) for path in line.names("hidden")),
        added={line.path("added", path): text for path, text in added.items()},
        reproduction=_command(line),
        root=_root(line),
        functions=tuple(_function(line, item) for item in line.objects("functions")),
        difficulty=line.mapping("difficulty"),
        probes=tuple(_probe(line, item) for item in line.objects("probes")),
        conftest=tuple(line.path("conftest", path) for path in line.names("conftest")),
        timeout_s=_seconds(line),
    )


def _command(line: Line) -> tuple[str, ...]:
    """Return the words of the reproduction; they may repeat."""
    value = line.data.get("reproduction") or []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise line.error('"reproduction" must be a command as a list of words')
    return tuple(value)


def _root(line: Line) -> str:
    root = line.text("root", default=".")
    return "." if root.strip("/") in ("", ".") else line.path("root", root)


def _function(line: Line, data: Mapping[str, Any]) -> Function:
    numbers = [data.get("first_line"), data.get("last_line")]
    if not isinstance(data.get("name"), str) or not all(type(number) is int for number in numbers):
        raise line.error('"functions" must be a list of {"path", "first_line", "last_line", "name"}')
    path = line.path("functions", data.get("path"))
    return Function(path=path, first_line=data["first_line"], last_line=data["last_line"], name=data["name"])


def _probe(line: Line, data: Mapping[str, Any]) -> Probe:
    call = data.get("call")
    is_sound = isinstance(call, str) and call.count(":") == 1 and "expected" in data
    if not is_sound or not isinstance(data.get("args", []), list) or not isinstance(data.get("kwargs", {}), Mapping):
        raise line.error('"probes" must be a list of {"call": "module:function", "args", "kwargs", "expected"}')
    return Probe(
        call=str(call), args=tuple(data.get("args", ())), kwargs=data.get("kwargs", {}), expected=data["expected"]
    )


def _seconds(line: Line) -> float | None:
    value = line.data.get("timeout_s")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise line.error('"timeout_s" must be a number of seconds above 0')
    return float(value)


def _rows(path: str | Path, field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each object of a file, with the place where it stands."""
    if str(path).endswith(".parquet"):
        yield from _parquet(path, field)
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a file of JSON lines, a JSON list or Parquet"
        raise UserError(field, path, f"cannot be read ({error})", remedy) from error
    if text.lstrip().startswith("["):
        rows = _json(text, field, str(path))
        numbered = enumerate(rows if isinstance(rows, list) else [rows], start=1)
        found: Iterator[tuple[str, Any]] = ((f"{path}:task {number}", row) for number, row in numbered)
    else:
        lines = ((f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
        found = ((where, _json(line, field, where)) for where, line in lines)
    for where, row in found:
        if not isinstance(row, dict):
            raise UserError(field, where, "not a JSON object", REMEDY)
        yield where, row


def _parquet(path: str | Path, field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(field, path, f"cannot be read ({error})", "give a Parquet file") from error
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}:row {number}", row


def _json(text: str, field: str, where: str) -> Any:
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(field, where, f"not JSON ({error})", REMEDY) from error
    return data
