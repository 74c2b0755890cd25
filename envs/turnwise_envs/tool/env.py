"""`turnwise/Tool-v0`: act for a user by calling the tools of simulated services, within the rules of a policy document.

A task is drawn from its seed: an office (what the services hold) and one to three wishes of the user, who may keep
details back until asked and say no where the rules want a yes. Rewards:

- `outcome`, 1 or 0, at the answer: 1 if the services are in the state to which the right calls lead, the answer says
  what is to be told and no other finding, the user was asked about what they say no to, and no rule was broken;
- `progress`, for a needed call or question that is made for the first time: its share of all of them;
- `policy`, -1 for a call that breaks a rule: it is carried out, and the outcome of the episode is 0;
- `format`, -1 for an action that cannot be carried out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from turnwise.env import Observation, ToolCall, ToolEnv, tool
from turnwise.env.calls import spell_compact
from turnwise.env.endpoint import Endpoint, read_options
from turnwise.errors import InvalidAction, UserError
from turnwise_envs.arguments import number, numbers, one_of, probability, read_mistakes, some_of, truth, whole
from turnwise_envs.tool.clerk import Clerk, Mistakes
from turnwise_envs.tool.lexicon import words
from turnwise_envs.tool.luck import Luck
from turnwise_envs.tool.naming import RENAMED, Naming
from turnwise_envs.tool.office import SERVICE_OF, SERVICES, TOOLS, Office, draw_office
from turnwise_envs.tool.plan import Plan
from turnwise_envs.tool.services import Need
from turnwise_envs.tool.shapes import MAX_CALLS, draw_shapes, most_calls
from turnwise_envs.tool.task import REFUSED, Chances, Kind, Task, draw_task, values_of
from turnwise_envs.tool.user import ModelUser, ScriptedUser, User, says_yes

MAX_CHARS = 1000
"""Characters that the agent may say at once."""

_INTRODUCTION = (
    "Do what the user asks for with the tools, and nothing else. say(text) asks the user for a detail that is missing, "
    "or whether you may do something; answer(text) ends the conversation and tells the user what they want to know."
)
_REFUSAL = f"What a rule forbids you leave undone, and answer {REFUSED}."


class ServiceEnv(ToolEnv):
    """Serve a user through tools."""

    sample_actions = (
        "ticket 212",
        "agenda Monday",
        "fee Vera",
        "inbox Vera",
        "pay Vera | 40",
        "book Monday | 9 | Vera",
        "say who",
        "answer done",
        "hello",
    )

    def __init__(
        self,
        *,
        services: str | Sequence[str] | None = None,
        calls: int | str | Sequence[int] | None = None,
        rules: bool = True,
        withheld: float = 0.2,
        refusals: float | None = None,
        user: Mapping[str, Any] | None = None,
        error_rate: float = 0.0,
        latency_s: float = 0.0,
        renamed: str = "nothing",
        match: str = "trajectory",
        max_turns: int | None = None,
        mistakes: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Set up the services; UserError for a value that does not fit.

        `services`: some of bank, calendar, mail, files, tickets; None: all. `calls` that a task needs: a number, a list
        to draw from, or a range; None: 1-4. `rules`: whether there are any. `withheld`: how often the user keeps a
        detail back. `refusals`: how often, under rules, they say no or want what is forbidden; None: 0.2. `user`: a
        model, as options of `turnwise.env.endpoint`; None: scripted. `error_rate`, `latency_s`: how often a service
        does not answer, and how long it takes at most. `renamed` in held-out tasks: one of `RENAMED`. `match`: whether
        `gold` has the calls of the trajectory or turn by turn. `max_turns`: None: 4 more than twice the most calls.
        """
        super().__init__(render_mode)
        self._services = some_of("services", services, tuple(SERVICES))
        self._calls = _read_calls(calls, self._services)
        self._chances = _read_chances(rules, withheld, refusals)
        self._error_rate = number("error_rate", error_rate, 0, 0.9)
        self._latency_s = number("latency_s", latency_s, 0, 60)
        self._is_by_turn = one_of("match", match, ("trajectory", "turn")) == "turn"
        self._names = {"train": Naming(), "eval": Naming.of(one_of("renamed", renamed, RENAMED))}
        self.max_turns = 2 * max(self._calls) + 4 if max_turns is None else whole("max_turns", max_turns, 1, 1000)
        self._clerk = Clerk(read_mistakes(Mistakes, mistakes))
        self._user = _make_user(user)
        self.instructions = _instructions(self._services, self._chances.has_rules)
        declared = {name: one for service in self._services for name, one in TOOLS[service].items()}
        self._offers = {split: names.declared({**declared, **self._tools}) for split, names in self._names.items()}
        self._naming = self._names["train"]
        self._offer(self._offers["train"])
        self._office, self._plan = Office({}, ()), Plan(Task(wishes=()))
        self._initial = ""  # the office's first key
        self._findings: set[str] = set()
        self._talk: list[tuple[str, str]] = []  # what the agent said and the user replied
        self._num_broken = 0  # rules

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw office and task, and let the user say what they want."""
        split = "eval" if options.get("split") == "eval" else "train"
        luck = Luck(self.np_random)
        shapes = draw_shapes(luck, self._services, luck.pick(self._calls), split)
        self._office = draw_office(luck, self._services, split)
        task = draw_task(luck, self._office, shapes, self._chances)
        self._plan, self._talk, self._num_broken = Plan(task), [], 0
        self._initial, self._findings = self._office.key(), self._office.findings
        self._user.begin(task)
        if self._naming is not self._names[split]:
            self._naming = self._names[split]
            self._offer(self._offers[split])
        return task.request

    @tool
    def say(self, text: str) -> str:
        """Say something to the user, who replies.

        text: such as a question for what is missing, or whether you may do something, with its names and numbers
        """
        reply = self._user.reply(_sayable("say", text))
        self._talk.append((text, reply))
        self._earn(self._plan.mark(ToolCall(name="say", arguments={"text": text}), is_yes=says_yes(reply)))
        return reply

    @tool
    def answer(self, text: str) -> str:
        """Tell the user the result, which ends the conversation.

        text: what they wanted to know, and nothing else that you found
        """
        is_right = self._is_right(_sayable("answer", text))
        self.reward("outcome", float(is_right))
        self.finish()
        return "correct" if is_right else "wrong"

    def on_invalid(self, error: InvalidAction) -> None:
        """Mark an action that cannot be carried out on the channel `format`."""
        self.reward("format", -1.0)

    def oracle(self, action: str) -> float:
        """Return 1 for a call that is needed next, and for the right answer; -1 for a malformed or forbidden one."""
        try:
            call = self._naming.meant(self.read_call({"role": "assistant", "content": action}))
            if call.name in ("say", "answer"):
                _sayable(call.name, call.arguments["text"])
        except InvalidAction:
            return -1.0
        if call.name == "answer":
            return float(self._is_right(call.arguments["text"]))
        return -1.0 if self._breaks_a_rule(call) else float(self._plan.makes(call))

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return a fallible clerk's next call."""
        turns_left = (self.max_turns or 0) - self.num_turns
        return spell_compact(self._naming.shown(self._clerk.next(rng, self._plan, self._office, turns_left)))

    def gold(self) -> dict[str, Any]:
        """Return request, answer, structure, and the calls that are needed, as the policy would write them."""
        task = self._plan.task
        return {
            "question": task.request,
            "answer": " ".join(task.told),
            "structure": " ".join(service for wish in task.wishes for service in wish.shape.services),
            "calls": self._gold_turns() if self._is_by_turn else [call for turn in self._gold_turns() for call in turn],
        }

    def guide(self) -> str:
        """Return which tools were to be called next, or what else may have gone wrong; no names or numbers."""
        left = dict.fromkeys(self._naming.shown(move.call).name for move in self._plan.next_moves)
        missing = f"not done: {', '.join(left)}" if left else "nothing was left out, but more was done or told"
        return f"{missing}; a rule was broken" if self._num_broken else missing

    def state_key(self) -> str:
        """Return a digest of the task, what the services hold, what was said, and which moves are left."""
        state = "\x1f".join((self._initial, self._office.key(), repr(self._talk), self._plan.key))
        return blake2b(state.encode(errors="replace"), digest_size=8).hexdigest()

    def close(self) -> None:
        """Close the connection of a user that is a model."""
        self._user.close()

    def _perform(self, call: ToolCall) -> Observation:
        """Call a service, or one of the tools above."""
        meant = self._naming.meant(call)
        if meant.name not in SERVICE_OF:
            return super()._perform(call)
        if self._latency_s:
            time.sleep(self._latency_s * self.np_random.random())
        if self._error_rate and self.np_random.random() < self._error_rate:
            return f"error: {SERVICE_OF[meant.name]} does not answer, try again"
        is_broken = self._breaks_a_rule(meant)
        shown = self._office.call(meant)
        progress = self._plan.mark(meant)
        if is_broken:
            self._num_broken += 1
            self.reward("policy", -1.0)
        else:
            self._earn(progress)
        return shown

    def _earn(self, progress: float) -> None:
        if progress:
            self.reward("progress", progress)

    def _breaks_a_rule(self, call: ToolCall) -> bool:
        if not self._chances.has_rules or call.name not in SERVICE_OF:
            return False
        need = self._office.need(call)
        return need is Need.NEVER or (need is Need.YES and not self._is_allowed(call))

    def _is_allowed(self, call: ToolCall) -> bool:
        """Whether the user said yes to a text that has all values of a call."""
        values = values_of(call)
        return any(says_yes(reply) and values <= words(said) for said, reply in self._talk)

    def _is_right(self, text: str) -> bool:
        plan = self._plan
        is_told = plan.is_settled and plan.task.is_answered_by(text, self._findings)
        return is_told and not self._num_broken and self._office.key() == self._goal_key()

    def _goal_key(self) -> str:
        """Return the key of the office after the calls that the task needs."""
        goal = Office(json.loads(self._initial), self._office.people)
        for move in self._plan.task.moves:
            if move.kind is Kind.ACT:
                goal.call(move.call)
        return goal.key()

    def _gold_turns(self) -> list[list[dict[str, Any]]]:
        """Return the calls turn by turn; none in a turn that talks to the user."""
        turns = []
        for move in self._plan.task.moves:
            call = self._naming.shown(move.call)
            is_talk = move.kind in (Kind.ASK, Kind.CONFIRM)
            turns.append([] if is_talk else [{"name": call.name, "arguments": dict(call.arguments)}])
        return turns


def _instructions(services: Sequence[str], has_rules: bool) -> str:
    """Return what the agent is told before it begins, the policy document included."""
    rules = [SERVICES[name].rule for name in services if SERVICES[name].rule]
    return " ".join([_INTRODUCTION, "Rules.", *rules, _REFUSAL] if rules and has_rules else [_INTRODUCTION])


def _sayable(name: str, text: str) -> str:
    if not text.strip() or len(text) > MAX_CHARS:
        raise InvalidAction(f"{name} needs text of at most {MAX_CHARS} characters")
    return text


def _make_user(given: Any) -> User:
    """Return the user; UserError for options that do not fit and for an endpoint that is not there."""
    if given is None:
        return ScriptedUser()
    endpoint = Endpoint(read_options(given, "env.kwargs.user"), "env.kwargs.user")
    endpoint.check()
    return ModelUser(endpoint)


def _read_calls(calls: Any, services: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of calls to draw from."""
    most = most_calls(services)
    read = numbers("calls", f"1-{min(4, most)}" if calls is None else calls, MAX_CALLS, "not calls of a task")
    if max(read) > most:
        remedy = f"give at most {most}, or more services"
        raise UserError("env.kwargs.calls", calls, f"too many for {', '.join(services)}", remedy)
    return read


def _read_chances(rules: Any, withheld: Any, refusals: Any) -> Chances:
    has_rules = truth("rules", rules)
    if refusals is not None and not has_rules:
        raise UserError("env.kwargs.refusals", refusals, "has no effect without rules", "leave it out")
    share = probability("refusals", 0.2 if refusals is None else refusals)
    return Chances(withheld=probability("withheld", withheld), refusals=share, has_rules=has_rules)
