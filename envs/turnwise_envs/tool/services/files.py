"""Files. State: by name, `author`, `sum` that it names, `readers` in order of their names."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

from turnwise.env import tool
from turnwise_envs.tool.services import Need, Service


class Files(Service):
    """A folder of files."""

    rule = "A file is deleted only after the user's yes to its name."

    def need(self, tool: str, arguments: Mapping[str, Any]) -> Need:
        """A deletion needs a yes."""
        return Need.YES if tool == "delete" else Need.NOTHING

    @tool
    def read(self, file: str) -> str:
        """Show a file: its author and the sum that it names.

        file: its name
        """
        name = self.known("file", file, self.state)
        return f"{name} author {self.state[name]['author']} sum {self.state[name]['sum']}"

    @tool
    def share(self, file: str, person: str) -> str:
        """Share a file with a person.

        file: its name
        person: who may read it
        """
        name, reader = self.known("file", file, self.state), self.person(person)
        if reader not in self.state[name]["readers"]:
            insort(self.state[name]["readers"], reader)
        return f"shared {name} {reader}"

    @tool
    def delete(self, file: str) -> str:
        """Delete a file.

        file: its name
        """
        name = self.known("file", file, self.state)
        del self.state[name]
        return f"deleted {name}"
