"""The set of tools `full`: a persistent shell, viewing, exact replacement, search, and submitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from turnwise.env import ToolEnv, tool
from turnwise.env.calls import ToolCall, spell_hermes
from turnwise.errors import InvalidAction
from turnwise.sandbox import FileRefused
from turnwise_envs.swe.texts import cut, numbered, shown
from turnwise_envs.swe.workspace import MAX_COMMAND
from turnwise_envs.swe.world import SweWorld

MAX_FILE_BYTES = 2 * 2**20
AROUND = 20
"""Lines that a demonstration looks at on each side of what it changes."""

SEARCH_S = 10.0


class FullSwe(SweWorld, ToolEnv):
    """Tools by name."""

    instructions = (
        "A repository in the current folder has the failing behaviour that is described. Mend the program, not its "
        "tests, and submit. bash(command) runs a command in a shell that remembers its folder and exported variables, "
        "though nothing that a command leaves running; view(path, first, last) shows lines of a file; "
        "edit(path, old, new) replaces a text that stands in a file once, exactly as it is; search(pattern, path) "
        "finds lines by a regular expression; submit() ends the work, and hidden tests decide."
    )
    sample_actions: Sequence[str] = ("bash ls", "search def", "view setup.py", "submit", "hello")

    def begin(self, options: Mapping[str, Any]) -> str:
        """Start an episode."""
        self._viewed: set[str] = set()
        return super().begin(options)

    @tool
    def bash(self, command: str) -> str:
        """Run a command in a shell that remembers its folder and exported variables.

        command: what to run
        """
        if not command.strip():
            raise InvalidAction("bash needs a command")
        if "\0" in command or len(command.encode()) > MAX_COMMAND:
            raise InvalidAction(f"a command has no NUL and at most {MAX_COMMAND} bytes")
        ran = self.workspace.shell(command, self.command_s)
        self.changed()
        return shown(ran, self.shown_bytes, self.command_s)

    @tool
    def view(self, path: str, first: int = 1, last: int = 200) -> str:
        """Show lines of a file with their numbers.

        path: a file, from the repository's root on
        first: number of the first line
        last: number of the last line
        """
        if first < 1 or last < first:
            raise InvalidAction("view needs 1 <= first <= last")
        text = self._read(path).decode(errors="replace")
        self._viewed.add(path)
        return numbered(text, first, last, self.shown_bytes)

    @tool
    def edit(self, path: str, old: str, new: str) -> str:
        """Replace a text that stands in a file exactly once.

        path: a file, from the repository's root on
        old: the text as it stands there, with its indentation
        new: the text to stand there instead
        """
        after = self._edited(path, self._read(path), old, new)
        try:
            self.workspace.write(path, after)
        except FileRefused as error:
            raise InvalidAction(str(error)) from None
        self.changed()
        return f"edited {path}"

    @tool
    def search(self, pattern: str, path: str = ".") -> str:
        """Find lines by an extended regular expression, in all files below a folder.

        pattern: the expression
        path: a file or folder, from the repository's root on
        """
        if not pattern or "\0" in pattern + path:
            raise InvalidAction("search needs a pattern")
        words = ["grep", "-rnIE", "--exclude-dir=.git", "-e", pattern, "--", path]
        ran = self.workspace.run(words, min(SEARCH_S, self.command_s))
        if ran.timed_out:
            return f"[ended after {SEARCH_S:g} s]"
        if ran.code not in (0, 1):
            return f"error: {cut(ran.stderr, 300).strip() or 'the search failed'}"
        return cut(ran.stdout, self.shown_bytes, ran.num_stdout).rstrip("\n") or "nothing found"

    @tool
    def submit(self) -> str:
        """End the work; hidden tests decide."""
        return self.hand_in()

    def oracle(self, action: str) -> float | None:
        """Return 1 for an edit towards the gold patch, 0 for another one, -1 for a malformed action, None if unknown.

        Submitting is worth 1 with the gold patch made, 0 with nothing changed.
        """
        try:
            call = self.read_call({"role": "assistant", "content": action})
            if call.name == "submit":
                return self.value_of_handing_in()
            if call.name != "edit":
                return None
            path, old, new = (call.arguments[name] for name in ("path", "old", "new"))
            return self.value_of(path, self._edited(path, self.files().get(path, b""), old, new))
        except InvalidAction:
            return -1.0

    def demonstrate(self, rng: np.random.Generator) -> str | None:
        """Return a look at what is to be changed, then each change, then the submission; None without a gold patch."""
        if not self.case.task.patch:
            return None
        mends = self.mends()
        if self.slips(rng):
            return self._slip(rng)
        if not mends:
            return spell_hermes(ToolCall(name="submit", arguments={}))
        path, old, new = mends[0]
        if path not in self._viewed and path in self.files():
            line = self.files()[path].decode(errors="replace").partition(old)[0].count("\n") + 1
            arguments = {"path": path, "first": max(line - AROUND, 1), "last": line + AROUND}
            return spell_hermes(ToolCall(name="view", arguments=arguments))
        return spell_hermes(ToolCall(name="edit", arguments={"path": path, "old": old, "new": new}))

    def _slip(self, rng: np.random.Generator) -> str:
        """Return a needless look, or a submission that comes too early."""
        paths = sorted(path for path in self.case.workspace if path.endswith(".py"))
        if not paths or rng.random() < 0.2:
            return spell_hermes(ToolCall(name="submit", arguments={}))
        path = paths[int(rng.integers(len(paths)))]
        return spell_hermes(ToolCall(name="view", arguments={"path": path, "first": 1, "last": 40}))

    def _read(self, path: str) -> bytes:
        if not path or "\0" in path:
            raise InvalidAction("no path")
        try:
            return self.workspace.read(path, MAX_FILE_BYTES)
        except FileRefused as error:
            raise InvalidAction(f"{path[:200]}: {error.reason.value}") from None

    def _edited(self, path: str, data: bytes, old: str, new: str) -> bytes:
        """Return a file with a text replaced; InvalidAction unless it stands there once."""
        if not old:
            raise InvalidAction("edit needs the text that is to be replaced")
        try:
            before, after = old.encode(), new.encode()
        except UnicodeEncodeError:
            raise InvalidAction("a text that UTF-8 cannot hold") from None
        found = data.count(before)
        if found != 1:
            raise InvalidAction(f"{path[:200]}: the old text stands there {found} times, not once")
        return data.replace(before, after)
