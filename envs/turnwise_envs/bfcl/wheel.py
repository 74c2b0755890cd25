"""The wheel `bfcl-eval`: the tasks, function documents and simulated services that are read from it.

Only light modules of it are imported, which need mpmath and nothing else: it is installed without its dependencies,
whose pins contradict ours. Everything is read once a process.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from turnwise.env.calls import ToolCall
from turnwise.errors import InvalidAction, UserError
from turnwise_envs.bfcl.functions import Schema, checked, schema_of

WHEEL = "bfcl-eval==2026.3.23"
CATEGORIES = ("base", "miss_func", "miss_param", "long_context")
EVERY = 5  # of so many base tasks one is held out, with its variants

_LOCK = threading.RLock()


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user says in one turn, and what should follow."""

    text: str
    offered: tuple[str, ...]  # functions that were withheld and may be called from here on
    calls: tuple[ToolCall, ...]  # the ground truth; none where a function or a detail is missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One task of the benchmark."""

    id: str
    category: str
    number: int  # of the base task that this is a variant of
    services: tuple[str, ...]  # names of classes, in the order in which their functions are listed
    config: Mapping[str, Any]  # what each service starts from; not to be changed
    schemas: Mapping[str, Schema]  # of all functions, withheld ones too, by name
    withheld: frozenset[str]  # functions that are not offered at the start
    requests: tuple[Request, ...]
    problem: str | None  # why its ground truth cannot be played through tool calls; None: it can

    @property
    def split(self) -> str:
        """`train` or `eval`; all variants of a base task are on the same side."""
        return "eval" if self.number % EVERY == EVERY - 1 else "train"

    @property
    def calls(self) -> list[ToolCall]:
        """The ground truth of all requests."""
        return [call for request in self.requests for call in request.calls]


def load_entries() -> tuple[Entry, ...]:
    """Return all 800 tasks, in a fixed mixed order; UserError without the wheel, or with one of another layout."""
    with _LOCK:
        return _load_entries()


@cache
def _load_entries() -> tuple[Entry, ...]:
    try:
        found = [entry for category in CATEGORIES for entry in _read_category(category)]
    except (ImportError, OSError, AttributeError, LookupError, ValueError) as error:
        problem = f"cannot be read ({type(error).__name__}: {error})"
        raise UserError("bfcl_eval", _folder(), problem, f"pip install --no-deps {WHEEL}") from error
    return tuple(sorted(found, key=lambda entry: blake2b(entry.id.encode()).digest()))


@cache
def service_class(name: str) -> type[Any]:
    """Return the class of a simulated service."""
    module: str = _layout().CLASS_FILE_PATH_MAPPING[name]
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


@cache
def _schemas(service: str) -> Mapping[str, Schema]:
    file = _layout().MULTI_TURN_FUNC_DOC_FILE_MAPPING[service]
    return {line["name"]: schema_of(line) for line in _lines(_folder() / "data" / "multi_turn_func_doc" / file)}


def _folder() -> Path:
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        problem = "needs the package bfcl-eval, which is not installed"
        raise UserError("env.id", "turnwise/BFCL-v0", problem, f"pip install --no-deps {WHEEL}")
    return Path(next(iter(spec.submodule_search_locations)))


def _layout() -> Any:
    return importlib.import_module("bfcl_eval.constants.executable_backend_config")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_category(category: str) -> list[Entry]:
    data, name = _folder() / "data", f"BFCL_v4_multi_turn_{category}.json"
    answers = {line["id"]: line["ground_truth"] for line in _lines(data / "possible_answer" / name)}
    return [_read_entry(line, answers[line["id"]], category) for line in _lines(data / name)]


def _read_entry(line: Mapping[str, Any], answers: list[list[str]], category: str) -> Entry:
    services = tuple(line["involved_classes"])
    schemas = {name: schema for service in services for name, schema in _schemas(service).items()}
    owners = {name: service_class(service) for service in services for name in _schemas(service)}
    later = {int(place): tuple(names) for place, names in line.get("missed_function", {}).items()}
    withheld = frozenset(name for names in later.values() for name in names)
    offered, problem, requests = set(schemas) - withheld, None, []
    for place, (said, answer) in enumerate(zip(line["question"], answers, strict=True)):
        offered |= set(later.get(place, ()))
        calls = [_read_call(text, owners) for text in answer]
        try:
            calls = [_playable(call, schemas, offered) for call in calls]
        except InvalidAction as error:
            problem = f"request {place + 1}: {error}"
        text = _news([schemas[name] for name in later[place]]) if place in later else said[0]["content"]
        requests.append(Request(text=text, offered=later.get(place, ()), calls=tuple(calls)))
    return Entry(
        id=line["id"],
        category=category,
        number=int(line["id"].rpartition("_")[2]),
        services=services,
        config=line["initial_config"],
        schemas=schemas,
        withheld=withheld,
        requests=tuple(requests),
        problem=problem,
    )


def _read_call(text: str, owners: Mapping[str, type[Any]]) -> ToolCall:
    """Return the call that Python source spells, literals only; arguments by place get their parameters' names."""
    node = ast.parse(text.strip(), mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError(f"{text[:80]!r} is not a call")
    names = list(inspect.signature(getattr(owners[node.func.id], node.func.id)).parameters)[1:]
    by_place = {name: ast.literal_eval(value) for name, value in zip(names, node.args, strict=False)}
    by_name = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    return ToolCall(name=node.func.id, arguments={**by_place, **by_name})


def _playable(call: ToolCall, schemas: Mapping[str, Schema], offered: set[str]) -> ToolCall:
    if call.name not in offered:
        raise InvalidAction(f"{call.name} is called before it is offered")
    return checked(call, schemas[call.name])


def _news(schemas: list[Schema]) -> str:
    """Return the message that offers withheld functions: their schemas, and the benchmark's sentence."""
    said = importlib.import_module("bfcl_eval.constants.default_prompts").DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_FC
    return f"{json.dumps(schemas)}\n{said}"
