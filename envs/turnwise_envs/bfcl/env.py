"""`turnwise/BFCL-v0`: the multi-turn tasks of the Berkeley Function Calling Leaderboard, on its own simulated services.

A user says several things, one after the other. For each the agent calls functions, one a message, and then answers in
words, which brings the next request. Functions may be withheld until later, and details may be missing: then words are
the right answer. Rewards: `state` and `responses` after a request with a ground truth, `abstain` after one without,
`outcome` at the end (1 if all requests with a ground truth are right, as the benchmark checks it), `format` (-1 for an
action that cannot be carried out). What is compared is told in docs/environments.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from turnwise.env import ToolEnv
from turnwise.env.calls import ToolCall, call_of, spell_hermes, unknown_tool
from turnwise.errors import InvalidAction, UserError
from turnwise.records import Message
from turnwise_envs.arguments import probability, some_of, whole
from turnwise_envs.bfcl.functions import checked
from turnwise_envs.bfcl.services import Services
from turnwise_envs.bfcl.wheel import CATEGORIES, Entry, Request, load_entries

MAX_SHOWN = 100_000
"""Characters of a response that are shown; none of the ground truth's is as long."""

_SPLITS = ("train", "eval", None)  # None: tasks of both
_DONE = "That is done."
_LACKING = "I cannot do that: a function or a detail is missing."


class BfclEnv(ToolEnv):
    """Do what the user says, request by request, by calling functions."""

    licence = "Apache-2.0"
    needs = "bfcl-eval"

    instructions = (
        "Do what the user asks by calling functions, one a message. When a request is done, answer in words; the user "
        "then goes on. If a function that a request needs is not there, or a detail is missing that no function tells, "
        "do not guess: say in words what is missing."
    )
    sample_actions = (
        '<tool_call>{"name": "ls", "arguments": {"a": true}}</tool_call>',
        '<tool_call>{"name": "get_account_info", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "fillFuelTank", "arguments": {"fuelAmount": 5}}</tool_call>',
        "list_all_airports",
        "mkdir temp",
        "hello",
    )

    def __init__(
        self,
        *,
        categories: str | Sequence[str] | None = None,
        max_calls: int = 40,
        max_turns: int = 100,
        mistakes: float = 0.05,
        render_mode: str | None = None,
    ) -> None:
        """Read the tasks; UserError for a value that does not fit, or without the wheel.

        `categories`: some of `CATEGORIES`; None: all. `max_calls`: after so many calls for one request the next comes.
        `max_turns`: the limit on actions. `mistakes`: the probability that a demonstrated action is a bad one.
        """
        super().__init__(render_mode)
        chosen = some_of("categories", categories, CATEGORIES)
        self._max_calls = whole("max_calls", max_calls, 1, 1000)
        self.max_turns = whole("max_turns", max_turns, 1, 10_000)
        self._mistakes = probability("mistakes", mistakes)
        known = [entry for entry in load_entries() if entry.category in chosen and entry.problem is None]
        self._entries = {split: [entry for entry in known if split in (None, entry.split)] for split in _SPLITS}
        self._entry: Entry | None = None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """JSON schemas of the functions that are offered now; none before the first episode."""
        return [] if self._entry is None else [self._entry.schemas[name] for name in self._offered]

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks that can be played."""
        return len(self._entries.get(split, ()))

    def begin(self, options: Mapping[str, Any]) -> str:
        """Load the services twice, for the agent and for the ground truth, and say the first request."""
        entries = self._entries.get(options.get("split"))
        if not entries:
            raise UserError("split", options.get("split"), "no tasks of this split", "give train or eval")
        entry = self._entry = entries[self.task_seed % len(entries)]
        self._offered = [name for name in entry.schemas if name not in entry.withheld]
        self._services, self._truth = Services(entry), Services(entry)
        self._place, self._responses, self._wrong = 0, Counter[str](), list[int]()
        self._begin_request()
        return self._request.text

    def act(self, action: Message) -> list[Message]:
        """Carry out a call, or take words as the end of what the request needs; InvalidAction if it is neither."""
        self._call = None
        if not self._is_call(action):
            return self._go_on()
        call = self._call = self.read_call(action)
        response = self._services.call(call)
        self._responses[response] += 1
        self._num_calls += 1
        if call in self._remaining:
            self._remaining.remove(call)
        shown = {"role": "tool", "content": _shortened(response)}
        return [shown, *(self._go_on() if self._num_calls >= self._max_calls else ())]

    def read_call(self, action: Message) -> ToolCall:
        """Return the call of an offered function that a message makes, its arguments checked; InvalidAction."""
        tools = self.tools
        call = call_of(action, tools)
        if call.name not in self._offered or self._entry is None:
            raise unknown_tool(call.name, tools)
        return checked(call, self._entry.schemas[call.name])

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark a malformed action on the channel `format`."""
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any] | None:
        """Return the task's name, what the user says, and the calls of the ground truth."""
        if self._entry is None:
            return None
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in self._entry.calls]
        said = "\n".join(request.text for request in self._entry.requests if not request.offered)
        return {"id": self._entry.id, "question": said, "calls": calls}

    def guide(self) -> str | None:
        """Return which request went wrong first, or was not finished, and the functions that it needs."""
        place = min(self._wrong, default=self._place)
        if self._entry is None or place >= len(self._entry.requests):
            return None
        names = [call.name for call in self._entry.requests[place].calls]
        needs = f"it needs {', '.join(names)}" if names else "no function that is there can do it: say so"
        return f"request {place + 1} went wrong or was not finished; {needs}"

    def state_key(self) -> str | None:
        """Return a digest of the task, the request, the services' state, and the responses so far, in any order."""
        if self._entry is None:
            return None
        state = (self._entry.id, self._place, self._services.digest(), sorted(self._responses))
        return blake2b(repr(state).encode(), digest_size=8).hexdigest()

    def oracle(self, action: str) -> float | None:
        """Return 1 for the next call of the ground truth, or for words when none is left; 0 otherwise, -1 malformed."""
        if self._entry is None:
            return None
        message = {"role": "assistant", "content": action}
        try:
            call = self.read_call(message) if self._is_call(message) else None
        except InvalidAction:
            return -1.0
        return float(call == next(iter(self._remaining), None))

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return the next action of the ground truth; now and then words too early, or a call of another time."""
        if self._entry is None:
            return None
        wanted = next(iter(self._remaining), None)
        if rng.random() < self._mistakes:
            others = [call for call in self._entry.calls if call != wanted and call.name in self._offered]
            index = int(rng.integers(len(others) + 1))
            return spell_hermes(others[index]) if index < len(others) else _DONE
        if wanted is not None:
            return spell_hermes(wanted)
        return _DONE if self._request.calls else _LACKING

    @property
    def _request(self) -> Request:
        if self._entry is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._entry.requests[self._place]

    def _is_call(self, action: Message) -> bool:
        """Whether a message makes a call, or tries to: words that begin with a function's name do."""
        text = str(action.get("content", ""))
        if action.get("tool_calls") or "<tool_call>" in text:
            return True
        if not text.strip():
            raise InvalidAction("call a function, or answer in words")
        return self._entry is not None and text.split(None, 1)[0] in self._entry.schemas

    def _begin_request(self) -> None:
        self._offered += self._request.offered
        self._remaining, self._num_calls = list(self._request.calls), 0

    def _go_on(self) -> list[Message]:
        """Judge the request that ends, and return the next one; after the last, the outcome."""
        self._judge(self._request)
        if self._entry is not None and self._place + 1 < len(self._entry.requests):
            self._place += 1
            self._begin_request()
            return [{"role": "user", "content": self._request.text}]
        self.reward("outcome", float(not self._wrong))
        self.finish()
        return [{"role": "user", "content": "That was all."}]

    def _judge(self, request: Request) -> None:
        """Play the ground truth of a request, and compare: states now, responses with all that there were so far."""
        if not request.calls:
            self.reward("abstain", float(not self._num_calls))
            return
        due = Counter(self._truth.call(call) for call in request.calls)
        share = (due & self._responses).total() / due.total()
        is_equal = not self._services.differing(self._truth)
        self.reward("state", float(is_equal))
        self.reward("responses", share)
        if not (is_equal and share == 1.0 and self._num_calls):
            self._wrong.append(self._place)


def _shortened(response: str) -> str:
    left_out = len(response) - MAX_SHOWN
    return response if left_out <= 0 else f"{response[:MAX_SHOWN]} ... {left_out} characters left out"
