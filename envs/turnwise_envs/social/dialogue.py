"""`turnwise/Dialogue-v0`: reach a deal in conversation with a partner who has goals of its own (SOTOPIA's shape).

A task is a scenario with two private goals and a partner, drawn from its seed. The two talk in turns; the agent's words
are read by `language`. Rewards, all exact:

- `outcome`, at the end: the agent's gain beyond no deal, as a share of the most to be had; -1 to 1
- `partner`, at the end: the same for the partner
- `agreement`, at the end: the joint gain as a share of the best deal's that is no worse for either; 1: Pareto optimal
- `relationship`: a third for each step by which politeness warms it, pressure and insults cool it; -1 to 1 in all
- `secret`: -1 for the turn that tells the agent's secret
- `knowledge`: what a question brings to light of what a scripted partner tells, as a share of it
- `format`: -1 for what is no speech
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

import numpy as np

from turnwise.env import TurnEnv
from turnwise.env.endpoint import Endpoint, read_options
from turnwise.errors import InvalidAction
from turnwise.records import Message
from turnwise_envs.arguments import probability, some_of, whole
from turnwise_envs.social.language import Act, Heard, listen
from turnwise_envs.social.model_partner import ModelPartner
from turnwise_envs.social.partner import WARMEST, ScriptedPartner, counter, draw_style, warmed
from turnwise_envs.social.scenario import AGENT, KINDS, PARTNER, Deal, Scenario, draw_scenario

_FIELD = "env.kwargs.partner"
_MOVE = "ask for much at first, then give way in small steps, each turn one"
_ASPIRATION = 0.9  # the share of its best deal at which the demonstrator begins
_CONCESSION = 0.12  # of that share, a turn


class DialogueEnv(TurnEnv):
    """Talk until both agree, somebody leaves or the turns are over."""

    instructions = (
        "You talk with somebody who has goals of their own. Reach the best deal you can for yourself, and stay on good "
        "terms. Plain sentences are understood. To offer: 'offer 45' for a price, 'offer 2 Lantern 1 Juicer' for the "
        "items that you get, 'offer monday 14' for a time. 'accept' takes the other's offer, 'ask' asks what the other "
        "wants, 'leave' ends it without a deal. Give way in small steps, be polite, and keep your secret."
    )
    sample_actions = (
        "offer 45",
        "please offer 60",
        "offer 1 Lantern",
        "offer monday 14",
        "ask",
        "thanks",
        "hurry, final offer 50",
        "accept",
        "leave",
    )

    def __init__(
        self,
        *,
        kinds: Sequence[str] | None = None,
        partner: Mapping[str, Any] | None = None,
        max_turns: int = 10,
        mistakes: float = 0.2,
        render_mode: str | None = None,
    ) -> None:
        """Set up the conversation; UserError for a value that does not fit.

        `kinds` of scenarios, by default all: price, items, meeting. `partner`: a model at an endpoint, as options of
        `turnwise.env.endpoint`; None: scripted. `mistakes`: probability that a demonstrated turn is a careless one.
        """
        super().__init__(render_mode)
        self._kinds = some_of("kinds", kinds, KINDS)
        self.max_turns = whole("max_turns", max_turns, 1, 1000)
        self._mistakes = probability("mistakes", mistakes)
        self._endpoint = None if partner is None else Endpoint(read_options(partner, _FIELD), _FIELD)
        if self._endpoint is not None:
            self._endpoint.check()
        self._scenario: Scenario | None = None
        self._partner: ScriptedPartner | ModelPartner | None = None
        self._table: Deal | None = None  # the partner's offer that stands
        self._warmth = 0
        self._is_told = False
        self._end = ""  # why there was no good deal, for `guide`

    def begin(self, options: Mapping[str, Any]) -> str:
        """Draw the scenario and let the partner say the first words."""
        rng = self.np_random
        scenario = self._scenario = draw_scenario(rng, self._kinds, options.get("split") == "eval")
        style = draw_style(rng, self.max_turns or 1)
        self._partner = (
            ScriptedPartner(scenario, style) if self._endpoint is None else ModelPartner(scenario, self._endpoint)
        )
        self._warmth, self._is_told, self._end = 0, False, "out of turns: settle sooner"
        opening = self._partner.open()
        self._table = opening.deal if opening.act is Act.OFFER else None
        return f"{scenario.goals[AGENT]} Your secret: {scenario.secrets[AGENT]}.\n{self._said(opening.text)}"

    def act(self, action: Message) -> str:
        """Say something; InvalidAction for nothing, or for far too much."""
        scenario, partner = self._playing
        text = str(action["content"])
        heard = listen(text, scenario, self._table)
        self._feel(heard)
        if heard.act is Act.ACCEPT:
            self._settle(self._table)
            return "agreed"
        if heard.act is Act.LEAVE:
            self._settle(None, "you left: the worst deal that is worth more than none is better")
            return "no deal"
        reply = partner.answer(text, heard)
        if reply.is_fact:
            self.reward("knowledge", 1.0 / len(scenario.facts))
        if reply.act is Act.ACCEPT:
            self._settle(reply.deal)
        elif reply.act is Act.LEAVE:
            insulted = self._warmth < 0
            self._settle(None, "the other was offended: be polite" if insulted else "the other lost patience: " + _MOVE)
        elif reply.act is Act.OFFER:
            self._table = reply.deal
        return self._said(reply.text)

    def on_invalid(self, error: InvalidAction) -> None:
        """What is no speech costs 1 on the channel `format`."""
        self.reward("format", -1.0)

    def gold(self) -> dict[str, Any]:
        """Return the scenario with both goals, and of a scripted partner its style and what is within reach."""
        scenario, partner = self._playing
        question = f"{scenario.goals[AGENT]} Secret: {scenario.secrets[AGENT]}."
        gold: dict[str, Any] = {"question": question, "kind": scenario.kind}
        gold |= {"names": list(scenario.names), "goals": list(scenario.goals), "secrets": list(scenario.secrets)}
        if not isinstance(partner, ScriptedPartner):
            return gold
        return gold | {"style": asdict(partner.style), "reach": partner.reach(partner.mood)}

    def guide(self) -> str:
        """Return why the episode failed, and what to do instead."""
        return self._end

    def state_key(self) -> str:
        """Return a digest of the scenario and of all that the partner's answers depend on."""
        if self._scenario is None or self._partner is None:
            return ""
        state = f"{self._scenario.goals}\x1f{self._partner.key()}\x1f{self.num_turns}"
        return blake2b(state.encode(), digest_size=8).hexdigest()

    def oracle(self, action: str) -> float | None:
        """Return 1 less what an action puts out of reach of the goal; -1 for no speech, None with a model."""
        scenario, partner = self._playing
        if not isinstance(partner, ScriptedPartner):
            return None
        try:
            heard = listen(action, scenario, self._table)
        except InvalidAction:
            return -1.0
        if heard.act in (Act.ACCEPT, Act.LEAVE):
            value = scenario.goal(AGENT, self._table if heard.act is Act.ACCEPT else None)
        else:
            value = partner.reach_after(partner.mood, heard)
        return max(-1.0, 1.0 + value - partner.reach(partner.mood))

    def demonstrate(self, rng: np.random.Generator) -> str:
        """Return what a plain negotiator says: it gives way by the turn, and is careless now and then."""
        scenario, _ = self._playing
        if rng.random() < self._mistakes:
            careless = ("leave", "hurry, final offer", "accept", f"it is for my {scenario.secrets[AGENT]}", "ask")
            return str(rng.choice(careless[1:] if self.num_turns < 2 else careless))
        if self.num_turns == 0 and rng.random() < 0.3:
            return "please ask"
        gains = {deal: gain[AGENT] for deal, gain in scenario.gains.items()}
        share = max(0.2, _ASPIRATION - _CONCESSION * self.num_turns)
        least = max(1, round(share * max(gains.values())))
        if self._table is not None and gains[self._table] >= least:
            return "accept"
        polite = "please " if rng.random() < 0.7 else ""
        return f"{polite}offer {scenario.spell(counter(gains, least, self._table))}"

    def close(self) -> None:
        """Close the connections of a partner by a model."""
        if self._partner is not None:
            self._partner.close()

    @property
    def _playing(self) -> tuple[Scenario, ScriptedPartner | ModelPartner]:
        if self._scenario is None or self._partner is None:
            raise RuntimeError("no episode has begun: call reset first")
        return self._scenario, self._partner

    def _said(self, text: str) -> str:
        return f"{self._playing[0].names[PARTNER]}: {text}"

    def _feel(self, heard: Heard) -> None:
        """Emit what an utterance does to the relationship and to the secret."""
        warmth = warmed(self._warmth, heard.tone)
        if warmth != self._warmth:
            self.reward("relationship", (warmth - self._warmth) / WARMEST)
        if heard.tells and not self._is_told:
            self.reward("secret", -1.0)
        self._warmth, self._is_told = warmth, self._is_told or heard.tells

    def _settle(self, deal: Deal | None, why: str = _MOVE) -> None:
        """End the conversation with a deal, or without one."""
        scenario, _ = self._playing
        self._end = why
        self.reward("outcome", scenario.goal(AGENT, deal))
        self.reward("partner", scenario.goal(PARTNER, deal))
        self.reward("agreement", scenario.agreement(deal))
        self.finish()
