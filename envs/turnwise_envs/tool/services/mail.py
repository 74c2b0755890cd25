"""Mail that the user has received. State: by number (as text), `from`, the `sum` it names, `to` whom it went on."""

from __future__ import annotations

from bisect import insort

from turnwise.env import tool
from turnwise.errors import InvalidAction
from turnwise_envs.tool.services import Service


class Mail(Service):
    """An inbox."""

    @tool
    def inbox(self, person: str) -> str:
        """Show the mail from a person: its number and the sum that it names.

        person: who wrote it
        """
        name = self.person(person)
        found = [f"mail {number} sum {mail['sum']}" for number, mail in self.state.items() if mail["from"] == name]
        return "; ".join(found) or "nothing"

    @tool
    def forward(self, mail: int, to: str) -> str:
        """Forward a mail to a person.

        mail: its number
        to: who gets it
        """
        name = self.person(to)
        if str(mail) not in self.state:
            raise InvalidAction(f"no mail {str(mail)[:10]}")
        insort(self.state[str(mail)]["to"], name)
        return f"forwarded {mail} {name}"
