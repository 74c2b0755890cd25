"""What an agent must offer: how a policy reads observations and writes actions.

An `Agent` belongs to a rollout worker and is shared by its episodes; a `Dialogue` is one episode's token sequence.
The rollout calls `begin`, then for every turn `prompt`, the engine, `act`, the environment, `observe`.
Implementations (in `turnwise_agents`) get a tokenizer handed in, and import neither ray nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from turnwise.records import IntArray, Message


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that agents use."""

    eos_token_id: int
    chat_template: str | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Tokens outside the ordinary vocabulary by id, each with `content` and `special`."""

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]:
        """Return the token ids of a text."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = ...) -> str:
        """Return the text of token ids."""

    def apply_chat_template(self, conversation: Sequence[Message], **kwargs: Any) -> Any:
        """Return the conversation as text (with `tokenize=False`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What the engine is asked to continue."""

    context_ids: IntArray  # [context] everything the policy sees
    observation_ids: IntArray  # [new] its part that no former turn holds; a suffix of `context_ids`
    starts_context: bool  # True: the context was begun anew, and `observation_ids` is all of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What the policy wrote, read as a message for the environment.

    A malformed action goes to the environment as plain text: the environment alone answers malformed actions.
    """

    message: Message  # role "assistant"; `tool_calls` where the format found some
    text: str  # the action without special tokens


class Dialogue(Protocol):
    """One episode as tokens: what was sampled is kept as it is and never encoded again."""

    def prompt(self) -> Prompt:
        """Return the context for the next action; PolicyError if the very first one leaves no room for an action."""

    @property
    def num_context_tokens(self) -> int:
        """Length of the context that `prompt` returns."""

    @property
    def is_full(self) -> bool:
        """Whether the context has no room for another action: the episode is then truncated."""

    def act(self, action_ids: IntArray) -> Action:
        """Append the sampled ids and return the action they spell."""

    def observe(self, messages: Sequence[Message]) -> None:
        """Append what the environment answered."""

    def fork(self) -> Dialogue:
        """Return a dialogue that goes on from here by itself; this one stays as it is."""

    def spell(self, text: str) -> IntArray:
        """Return the ids with which a demonstration's action (as `TurnEnv.demonstrate` gives it) would be sampled.

        They are in the agent's own format and include the end-of-turn token; the dialogue is not changed.
        """


class Agent(Protocol):
    """A way to act; configured once, used by many episodes."""

    max_context: int  # tokens that prompt and action may have together
    max_action_tokens: int  # tokens that one action may have

    def begin(self, *, instructions: str, tools: Sequence[dict[str, Any]], observation: Sequence[Message]) -> Dialogue:
        """Return the dialogue of a new episode."""


def told(instructions: str, observation: Sequence[Message]) -> str:
    """Return what a program is told at the start of an episode."""
    return "\n\n".join(part for part in (instructions, *(str(message["content"]) for message in observation)) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program that plays episodes by itself, and finds the policy behind OpenAI's chat completions."""

    command: tuple[str, ...]  # its words; `{prompt}` stands for what the environment says at the start
    variables: Mapping[str, str] = field(default_factory=dict)  # what its environment has besides
    max_requests: int = 100  # requests that an episode may make
    idle_s: float = 120.0  # seconds that it may do nothing that we see


@runtime_checkable
class Programmed(Agent, Protocol):
    """An agent whose episodes a program plays; its dialogues turn what the program asks into tokens."""

    program: Program
