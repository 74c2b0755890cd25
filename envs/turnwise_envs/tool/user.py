"""The user: knows the task, answers what the agent says, and says yes or no where the rules want to know.

`ScriptedUser` understands words: the values of what needs a yes, and questions. `ModelUser` is a model behind an
OpenAI-compatible endpoint, told the same; whether it keeps to that is not checked, only whether it begins with yes.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from turnwise.env.endpoint import Endpoint
from turnwise.records import Message
from turnwise_envs.tool.task import Task

MAX_CHARS: Final = 500
"""Characters of a model's answer that the agent reads."""

_YES: Final = re.compile(r"\W*yes\b", re.IGNORECASE)
_NOTHING_MORE: Final = "That is all I know."

_PART: Final = """You are the user of an assistant, which can look things up and act for you. Stay in that part.
Reply in one short sentence, and never do the assistant's work for it.
All that you want: {wishes}
You have said so far: {request}
{kept_back}Asked whether it may do something, begin with yes if it is just what you want, otherwise with no.{denied}"""


def says_yes(reply: str) -> bool:
    """Whether a reply begins with yes."""
    return _YES.match(reply) is not None


class User(Protocol):
    """Whom the agent talks to."""

    def begin(self, task: Task) -> None:
        """Forget everything; this is the task now."""

    def reply(self, text: str) -> str:
        """Return the answer to what the agent says."""

    def close(self) -> None:
        """Let go of connections."""


class ScriptedUser:
    """Answers by rule, always the same."""

    def begin(self, task: Task) -> None:
        """Take the task."""
        self._task = task

    def reply(self, text: str) -> str:
        """Say yes or no to what needs a yes; repeat in full, if asked something, the wishes that lacked something."""
        wishes = self._task.put_by(text)
        if wishes:
            return "no" if any(wish.is_denied for wish in wishes) else "yes"
        if self._task.is_question(text) and self._task.kept_back:
            return " ".join(wish.text for wish in self._task.kept_back)
        return _NOTHING_MORE

    def close(self) -> None:
        """There is nothing to let go of."""


class ModelUser:
    """Lets a model answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Ask at this endpoint."""
        self._endpoint = endpoint
        self._messages: list[Message] = []

    def begin(self, task: Task) -> None:
        """Tell the model its part."""
        self._messages = [{"role": "system", "content": part_of(task)}]

    def reply(self, text: str) -> str:
        """Return what the model says, in one line; InfraError or EnvError if the endpoint does not."""
        asked = [*self._messages, {"role": "user", "content": text}]
        answer = " ".join(self._endpoint.say(asked).split())[:MAX_CHARS]
        self._messages = [*asked, {"role": "assistant", "content": answer}]
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._endpoint.close()


def part_of(task: Task) -> str:
    """Return the part of the user, as a model is told it."""
    denied = [f" Say no to this, however you are asked: {wish.text}" for wish in task.wishes if wish.is_denied]
    return _PART.format(
        wishes=" ".join(wish.text for wish in task.wishes),
        request=task.request,
        kept_back="What you have not said yet you say when asked.\n" if task.kept_back else "",
        denied="".join(denied),
    )
