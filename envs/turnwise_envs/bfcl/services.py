"""The simulated services of one episode, and the dispatcher that calls them.

The classes are the wheel's. An episode depends on its calls only, whatever the clock says and other threads play: what
instances would share (long-context data, defaults that are lists, arguments) is copied, and `_OWN` has the functions
that need more than that. Nothing of the wheel or of the process is replaced.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import localcontext
from hashlib import blake2b
from typing import Any

import mpmath

from turnwise.env.calls import ToolCall
from turnwise_envs.bfcl.wheel import Entry, service_class

TODAY = date(2024, 9, 1)
"""The day on which travellers' ages are reckoned; the trading service has the same."""

_ADULT = 18  # years
_LOCK = threading.Lock()


class Services:
    """The instances that one player's calls change."""

    def __init__(self, entry: Entry) -> None:
        """Load what the entry says."""
        self._services = {name: _load(name, entry) for name in entry.services}
        self._owners = {
            name: service for service in self._services.values() for name in entry.schemas if hasattr(service, name)
        }
        self._schemas = entry.schemas

    def call(self, call: ToolCall) -> str:
        """Carry out a checked call and return the response; an exception in a service is one too."""
        method = getattr(self._owners[call.name], call.name)
        arguments = copy.deepcopy({**self._list_defaults(call.name), **call.arguments})
        try:
            with localcontext():  # one of the functions sets the thread's decimal precision
                return _text(_OWN.get(call.name, _plainly)(method, arguments))
        except Exception as error:  # noqa: BLE001 - a service's own error is what its caller reads
            return f"Error during execution: {error}"

    def differing(self, other: Services) -> list[str]:
        """Return the names of services with another public attribute than `other` has."""
        pairs = [(name, service, other._services[name]) for name, service in self._services.items()]
        return [name for name, one, two in pairs if any(getattr(one, key) != item for key, item in _public(two))]

    def digest(self) -> str:
        """Return a digest of all public attributes and of the current directory, if there is one."""
        memo: dict[int, str] = {}
        parts = [_spelt(service, memo) for service in self._services.values()]
        places = [service.pwd() for service in self._services.values() if hasattr(service, "pwd")]
        return _hash(f"{parts}{places}")

    def _list_defaults(self, name: str) -> dict[str, Any]:
        """Return the defaults that Python would share between all calls."""
        properties = self._schemas[name]["function"]["parameters"]["properties"]
        return {key: item["default"] for key, item in properties.items() if isinstance(item.get("default"), list)}


def _load(name: str, entry: Entry) -> Any:
    """Return a service; copied after loading, since the long-context data that it then holds are the module's."""
    service = service_class(name)()
    if hasattr(service, "_load_scenario"):
        config = copy.deepcopy(entry.config.get(name, {}))
        service._load_scenario(config, long_context=entry.category == "long_context")
    kept = getattr(service, "_random", None)  # its own already, and slow to copy
    return copy.deepcopy(service, {id(kept): kept})


def _text(result: Any) -> str:
    """Return the text of a response: JSON of a dictionary that has any, Python's own of all else."""
    if isinstance(result, dict):
        try:
            return json.dumps(result)
        except (TypeError, ValueError):
            return str(result)
    return str(result)


def _public(service: Any) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in vars(service).items() if not key.startswith("_")]


def _spelt(value: Any, memo: dict[int, str]) -> str:
    """Return a text that is equal for equal values; `memo` has the objects met so far, so that each is spelt once."""
    if isinstance(value, list | tuple):
        return f"[{','.join(_spelt(item, memo) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{key!r}:{_spelt(item, memo)}' for key, item in value.items()))}}}"
    if isinstance(value, set):
        return repr(sorted(map(repr, value)))
    if not hasattr(value, "__dict__"):
        return repr(value)
    if id(value) not in memo:
        memo[id(value)] = "inside itself"  # what a directory in itself finds
        memo[id(value)] = _hash(_spelt({key: item for key, item in _public(value) if key != "parent"}, memo))
    return memo[id(value)]


def _hash(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _plainly(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    return method(**arguments)


def _alone(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a method that writes its response into a dictionary of its module, one thread at a time."""
    with _LOCK:
        return copy.deepcopy(method(**arguments))


def _logarithm(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Compute a logarithm in a context of its own; the wheel's sets the precision of the whole process."""
    context = mpmath.MPContext()
    try:
        context.dps = arguments["precision"]
        return {"result": context.log(arguments["value"]) / context.log(arguments["base"])}
    except (ValueError, ArithmeticError) as error:
        return {"error": str(error)}


def _on_that_day(method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Verify a traveller as if it were `TODAY`: for an adult of that day somebody old is asked about, else a child."""
    try:
        born = datetime.strptime(arguments["date_of_birth"], "%Y-%m-%d").date()
    except ValueError:
        return method(**arguments)
    years = TODAY.year - born.year - ((TODAY.month, TODAY.day) < (born.month, born.day))
    return method(**{**arguments, "date_of_birth": "1900-01-01" if years >= _ADULT else "9999-01-01"})


_OWN: dict[str, Callable[[Callable[..., Any], Mapping[str, Any]], Any]] = {
    "logarithm": _logarithm,
    "verify_traveler_information": _on_that_day,
    "get_outside_temperature_from_google": _alone,
}
"""How functions are called that a plain call would not do."""
