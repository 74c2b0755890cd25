"""The fixed words of the tool world: names by split, days, and the services that follow one another.

`office` and `task` draw from it; a small model's tokenizer may make one token of every word in `lexicon_words`. People
and files bear names of the search world, which such a model knows already. The words never change within a version
of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from turnwise_envs.search.lexicon import NAMES

PEOPLE: Final[dict[str, tuple[str, ...]]] = {"train": NAMES["person"][:45], "eval": NAMES["person"][45:]}
"""Who occurs in tasks of a split; nobody occurs in both."""

FILES: Final[dict[str, tuple[str, ...]]] = {"train": NAMES["product"][:28], "eval": NAMES["product"][28:]}
"""Names of files in tasks of a split; none occurs in both."""

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
OPEN_HOURS: Final = range(9, 18)
"""Hours at which a meeting may begin."""

LIMIT: Final = 100
"""A larger payment needs the user's yes."""

AMOUNTS: Final = range(30, 151)
MAILS: Final = range(151, 200)
TICKETS: Final = range(200, 500)
"""No number is of two kinds, hours included, so that a number in an answer says what it is."""

NEVER_AFTER: Final = {"bank": "mail", "calendar": "tickets", "mail": "files", "files": "bank", "tickets": "calendar"}
"""The service that never comes right after another one in training tasks; held-out tasks have such a pair."""

_WORD: Final = re.compile(r"\w+")

_PHRASES: Final = """
Pay Book Cancel Forward Share Delete Assign Resolve Tell me at to with ticket mail the owner of author sum in fee from
balance whoever I meet on who amount yes no That is all I know done refused paid booked canceled forwarded shared
deleted assigned resolved open author nothing error does not answer try again
"""


def words(text: str) -> frozenset[str]:
    """Return the words and numbers of a text in lower case."""
    return frozenset(_WORD.findall(text.casefold()))


def lexicon_words(tools: Mapping[str, Any]) -> list[str]:
    """List the words of tasks, calls (of these tools) and answers once each; numbers are below 512."""
    parameters = [name for tool in tools.values() for name in tool.parameters]
    names = [name for named in (PEOPLE, FILES) for split in named.values() for name in split]
    return list(dict.fromkeys([*tools, *parameters, *_PHRASES.split(), *DAYS, *NEVER_AFTER, *names]))
