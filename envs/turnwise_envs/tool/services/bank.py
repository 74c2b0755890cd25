"""The bank: the user's account. State: `balance`, `fees` by person, `paid` amounts in order of size by person."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

from turnwise.env import tool
from turnwise.errors import InvalidAction
from turnwise_envs.tool.lexicon import LIMIT
from turnwise_envs.tool.services import Need, Service


class Bank(Service):
    """Balance, fees, payments."""

    rule = f"A payment above {LIMIT} is made only after the user's yes to payee and amount."

    def need(self, tool: str, arguments: Mapping[str, Any]) -> Need:
        """A large payment needs a yes."""
        return Need.YES if tool == "pay" and arguments["amount"] > LIMIT else Need.NOTHING

    @tool
    def balance(self) -> str:
        """Show the user's balance."""
        return f"balance {self.state['balance']}"

    @tool
    def fee(self, person: str) -> str:
        """Show the fee of a person.

        person: whose
        """
        name = self.person(person)
        return f"fee {name} {self.state['fees'][name]}"

    @tool
    def pay(self, to: str, amount: int) -> str:
        """Pay a person from the user's account.

        to: the payee
        amount: how much
        """
        name = self.person(to)
        if not 0 < amount <= self.state["balance"]:
            raise InvalidAction(f"pay needs amount from 1 to {self.state['balance']}")
        self.state["balance"] -= amount
        insort(self.state["paid"].setdefault(name, []), amount)
        return f"paid {name} {amount}"
