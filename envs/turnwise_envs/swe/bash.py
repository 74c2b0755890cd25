"""The set of tools `bash`: one fenced block of commands in each message and nothing else, as mini-swe-agent has it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from turnwise.errors import InvalidAction
from turnwise.records import Message
from turnwise_envs.swe.texts import shown
from turnwise_envs.swe.workspace import MAX_COMMAND
from turnwise_envs.swe.world import SweWorld

SUBMIT = "SUBMIT_MY_WORK"
"""The first line of output that submits."""

_BLOCK = re.compile(r"^```(?:bash|sh)[ \t]*\n(.*?)\n?^```[ \t]*$", re.DOTALL | re.MULTILINE)


class BashSwe(SweWorld):
    """Commands alone."""

    instructions = (
        "A repository in the current folder has the failing behaviour that is described. Mend the program, not its "
        "tests. Each of your messages holds exactly one block of commands:\n```bash\nls\n```\nThe shell remembers its "
        "folder and exported variables, though nothing that a command leaves running. When the work is done, submit it "
        f"with a block that holds only this, and hidden tests decide:\n```bash\necho {SUBMIT}\n```"
    )
    sample_actions: Sequence[str] = (
        "```bash\nls\n```",
        "I look around.\n```bash\ngrep -rn def . | head\n```",
        f"```bash\necho {SUBMIT}\n```",
        "hello",
    )

    def act(self, action: Message) -> str:
        """Run the message's block; submit where its output begins with the line for that."""
        ran = self.workspace.shell(command_of(str(action["content"])), self.command_s)
        if not ran.timed_out and ran.stdout.lstrip().split(b"\n")[0].strip() == SUBMIT.encode():
            return self.hand_in()
        self.changed()
        return shown(ran, self.shown_bytes, self.command_s)

    def oracle(self, action: str) -> float | None:
        """Return -1 for a malformed action; what commands are worth is not known, but for the submission's."""
        try:
            command = command_of(action)
        except InvalidAction:
            return -1.0
        return self.value_of_handing_in() if command.strip() == f"echo {SUBMIT}" else None

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return each change as a small program of Python's, then the submission; None without a gold patch."""
        if not self.case.task.patch:
            return None
        mends = self.mends()
        if self.slips(rng):
            return fenced("git status --short" if rng.random() < 0.8 else f"echo {SUBMIT}")
        if not mends:
            return fenced(f"echo {SUBMIT}")
        path, old, new = mends[0]
        lines = ["from pathlib import Path", f"path = Path({path!r})", "text = path.read_text()", f"old = {old!r}"]
        lines += [f"new = {new!r}", "assert text.count(old) == 1", "path.write_text(text.replace(old, new))"]
        return fenced("\n".join(["python3 - <<'END'", *lines, "END"]))


def command_of(text: str) -> str:
    """Return the commands of a message's one block; InvalidAction if it has none, or several."""
    found = _BLOCK.findall(text)
    if len(found) != 1 or not found[0].strip():
        raise InvalidAction(f"expected one block ```bash ... ``` with a command, found {len(found)}")
    command = str(found[0])
    if "\0" in command or len(command.encode()) > MAX_COMMAND:
        raise InvalidAction(f"a command has no NUL and at most {MAX_COMMAND} bytes")
    return command


def fenced(command: str) -> str:
    """Return a message with one block."""
    return f"```bash\n{command}\n```"
