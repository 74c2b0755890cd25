"""Reads what the user wrote, a YAML file and `key=value` words, into one plain tree, unchecked.

Refused here already: broken YAML, tags that make objects, alias bombs, interpolations but `${oc.env:NAME}`, `_target_`.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from turnwise.config.keys import MASK, default_of, schema, select, shown
from turnwise.errors import UserError

Tree = dict[str, Any]

_OVERRIDE = re.compile(r"[A-Za-z_][\w\-]*(\.[\w\-]+|\[\d+\])*=")
_ENV = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAIN = (str, int, float, bool, type(None))
_ONLY_ENV = "only ${oc.env:NAME} is allowed; write the value itself"


def is_override(word: str) -> bool:
    """Whether a word of the command line is `key=value` or `~key` rather than a file."""
    return word.startswith("~") or _OVERRIDE.match(word) is not None


def read_tree(path: Path | str | None, overrides: Sequence[str]) -> Tree:
    """Return what the file says, changed by `key=value` (set) and `~key` (forget) words; UserError for bad input."""
    tree = read_file(Path(path)) if path is not None else {}
    for word in overrides:
        _override(tree, word)
    check_plain(tree, "")
    return tree


def read_file(path: Path) -> Tree:
    """Return a YAML file's mapping; UserError with file and line if it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            place = f"{path}:{root.start_mark.line + 1}"
            raise UserError("config", place, "is no mapping of keys to values", "write `key: value` lines")
        tree = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except OSError as error:
        raise UserError("config", path, _os_problem(error), "name a YAML file of configuration keys") from None
    except UnicodeDecodeError:
        raise UserError("config", path, "is not a text in UTF-8", "name a YAML file of configuration keys") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError("config", _place(path, error), _yaml_problem(error), "mend the YAML at that line") from None
    except OmegaConfBaseException as error:
        raise UserError("config", path, f"cannot be read ({_first_line(error)})", _ONLY_ENV) from None
    assert isinstance(tree, dict)
    return {str(name): value for name, value in tree.items()}


def check_plain(value: Any, key: str) -> None:
    """Refuse what is no plain data: objects, `_target_`, `???`, masked secrets and interpolations not allowed."""
    if isinstance(value, dict):
        for name, item in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                raise UserError(inner, item, "objects are never made from a configuration", "choose a registered name")
            check_plain(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_plain(item, f"{key}.{index}")
    elif not isinstance(value, _PLAIN):
        raise UserError(key, value, f"is a {type(value).__name__}, made by a YAML tag", "use plain values")
    elif isinstance(value, str):
        _check_text(value, key)


def _check_text(value: str, key: str) -> None:
    if value == "???":
        raise UserError(key, value, "no value is given", "write one")
    if value == MASK:
        raise UserError(key, value, "is a masked secret", "give the secret as ${oc.env:NAME}")
    if "${" in _ENV.sub("", value) or "\\${" in value:
        raise UserError(key, shown(key, value), "this interpolation is refused", _ONLY_ENV)
    for name in _ENV.findall(value):
        if name not in os.environ:
            raise UserError(key, value, f"the environment variable {name} is not set", f"export {name} or give a value")


def _override(tree: Tree, word: str) -> None:
    if word.startswith("~"):
        _forget(tree, word[1:])
        return
    name, equals, text = word.partition("=")
    if not equals or not is_override(word):
        raise UserError("argument", word, "is neither key=value nor a configuration file", "write it as key=value")
    steps = re.findall(r"[\w\-]+", name)
    _seed_default(tree, steps)
    _set(tree, steps, _parse(".".join(steps), text))


def _parse(key: str, text: str) -> Any:
    try:
        parsed = OmegaConf.from_dotlist([f"value={text}"])
        return OmegaConf.to_container(parsed, resolve=False)["value"]  # type: ignore[call-overload, index]
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(key, shown(key, text), _yaml_problem(error), "quote it, or mend the YAML") from None
    except GrammarParseError:
        raise UserError(key, shown(key, text), "this interpolation is refused", _ONLY_ENV) from None


def _seed_default(tree: Tree, steps: list[str]) -> None:
    """Put the default of a free mapping or list into the tree when an override changes something within it."""
    for depth in range(1, len(steps)):
        key = ".".join(steps[:depth])
        spec = schema().get(key)
        if spec is not None and spec.is_free and select(tree, key) is None:
            _set(tree, steps[:depth], default_of(key))
            return


def _set(tree: Any, steps: list[str], value: Any) -> None:
    *path, last = steps
    for depth, step in enumerate(path):
        if isinstance(tree, list):
            tree = tree[_index(tree, steps, depth)]
            continue
        if not isinstance(tree.get(step), dict | list):
            tree[step] = {}
        tree = tree[step]
    if isinstance(tree, list):
        tree[_index(tree, steps, len(path))] = value
    elif isinstance(tree, dict):
        tree[last] = value


def _index(items: list[Any], steps: list[str], depth: int) -> int:
    step = steps[depth]
    if not step.isdigit() or int(step) >= len(items):
        raise UserError(".".join(steps), step, f"the list has {len(items)} items", f"use an index below {len(items)}")
    return int(step)


def _forget(tree: Tree, key: str) -> None:
    *path, last = key.split(".")
    section = select(tree, ".".join(path)) if path else tree
    if not isinstance(section, dict) or last not in section:
        raise UserError(f"~{key}", "", "is not given in the file", "leave it out")
    del section[last]


def _os_problem(error: OSError) -> str:
    return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"{path}:{mark.line + 1}" if mark is not None else str(path)


def _yaml_problem(error: Exception) -> str:
    problem = getattr(error, "problem", None) or _first_line(error) or "nested too deeply"
    if "tag" in problem and "constructor" in problem:
        return f"a YAML tag is not allowed ({problem.rpartition(' ')[2]})"
    return f"is not valid YAML ({problem.split('. See ')[0]})"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
