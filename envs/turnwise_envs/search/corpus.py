"""The user's own corpus and tasks, from JSONL files.

A corpus line is {"title", "text"}; a task line {"question", "answer"} with, where wanted, "id", "aliases",
"gold_pages", "rubrics" and "split" ("train" without one). A bad line is a `UserError` that names file and line.
Files are read once a process, and again when they have changed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from turnwise.errors import UserError
from turnwise_envs.search.library import Library
from turnwise_envs.search.problem import Problem

_LOCK = threading.Lock()
_SPLITS = ("train", "eval")
_TASK_KEYS = ("id", "question", "answer", "aliases", "gold_pages", "rubrics", "split")


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A library and the problems over it, by split."""

    library: Library
    problems: Mapping[str, tuple[Problem, ...]]


def load_corpus(corpus: str, tasks: str) -> Corpus:
    """Read both files; UserError for a missing file, a bad line, or a gold page that the corpus lacks."""
    stamps = _stamp("env.kwargs.corpus", corpus), _stamp("env.kwargs.tasks", tasks)
    with _LOCK:
        return _load(corpus, tasks, stamps)


@lru_cache(maxsize=4)
def _load(corpus: str, tasks: str, stamps: tuple[tuple[int, int], tuple[int, int]]) -> Corpus:
    library = Library(_read_pages(corpus))
    problems: dict[str, list[Problem]] = {split: [] for split in _SPLITS}
    names: set[str] = set()
    for line in _lines("env.kwargs.tasks", tasks):
        problems[_split(line)].append(_read_problem(line, library))
        name = str(line.data.get("id", line.where))
        if name in names:
            raise line.error(f"id {name!r} is there twice")
        names.add(name)
    if not names:
        remedy = 'write a line {"question": ..., "answer": ...} a task'
        raise UserError("env.kwargs.tasks", tasks, "empty task set", remedy)
    return Corpus(library=library, problems={split: tuple(found) for split, found in problems.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    field: str
    where: str  # file:line
    data: Mapping[str, Any]

    def error(self, problem: str) -> UserError:
        return UserError(self.field, self.where, problem, "correct the line")

    def text(self, key: str) -> str:
        value = self.data.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f'"{key}" must be a text that is not empty')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f'"{key}" must be a list of texts')
        return tuple(dict.fromkeys(value))


def _read_pages(path: str) -> dict[str, str]:
    pages: dict[str, str] = {}
    for line in _lines("env.kwargs.corpus", path):
        title = " ".join(line.text("title").split())
        if title in pages:
            raise line.error(f"title {title!r} is there twice")
        pages[title] = line.text("text")
    if not pages:
        raise UserError("env.kwargs.corpus", path, "holds no page", 'write a line {"title": ..., "text": ...} a page')
    return pages


def _read_problem(line: _Line, library: Library) -> Problem:
    unknown = [key for key in line.data if key not in _TASK_KEYS]
    if unknown:
        raise line.error(f'unknown key "{unknown[0]}" (known: {", ".join(_TASK_KEYS)})')
    gold_pages = [(name, library.title(name)) for name in line.texts("gold_pages")]
    missing = [name for name, title in gold_pages if title is None]
    if missing:
        raise line.error(f"the corpus has no page {missing[0]!r}")
    return Problem(
        text=line.text("question"),
        answer=line.text("answer"),
        aliases=line.texts("aliases"),
        gold_pages=tuple(dict.fromkeys(title for _, title in gold_pages if title is not None)),
        rubrics=_read_rubrics(line),
    )


def _read_rubrics(line: _Line) -> tuple[dict[str, Any], ...]:
    rubrics = line.data.get("rubrics") or []
    are_rubrics = isinstance(rubrics, list) and all(isinstance(rubric, dict) for rubric in rubrics)
    if not are_rubrics or not all(isinstance(rubric.get("statement"), str) for rubric in rubrics):
        raise line.error('"rubrics" must be a list of {"statement": ..., "entities": [...], "page": ...}')
    return tuple(rubrics)


def _split(line: _Line) -> str:
    split = line.data.get("split", "train")
    if split not in _SPLITS:
        raise line.error(f'"split" must be one of {", ".join(_SPLITS)}, not {split!r}')
    return str(split)


def _stamp(field: str, path: str) -> tuple[int, int]:
    """Return what changes when a file does."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UserError(field, path, f"cannot be read ({error.strerror})", "give the path of a JSONL file") from error
    return status.st_mtime_ns, status.st_size


def _lines(field: str, path: str) -> Iterator[_Line]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(field, path, f"cannot be read ({error})", "give the path of a JSONL file in UTF-8") from error
    for number, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            yield _Line(field=field, where=f"{path}:{number}", data=_parse(field, f"{path}:{number}", written))


def _parse(field: str, where: str, written: str) -> dict[str, Any]:
    try:
        data = json.loads(written)
        json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(field, where, f"not JSON ({error})", "correct the line") from error
    if not isinstance(data, dict):
        raise UserError(field, where, "not a JSON object", "correct the line")
    return data
