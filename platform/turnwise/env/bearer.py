"""Bearer tokens: read from a variable or a file, so that none stands in a configuration, a trajectory or a log."""

from __future__ import annotations

import os
import re
from pathlib import Path

from turnwise.errors import UserError

TOKEN = "TURNWISE_TOKEN"
"""The variable that holds the token of environments served elsewhere, unless another one is named."""

MIN_LENGTH = 16
"""Characters of a token that a server of ours accepts."""

_TOKEN = re.compile(r"[!-~]+")


FIELDS = ("env.kwargs.token_env", "env.kwargs.token_file")


def read_token(
    variable: str | None, file: str | Path | None, fields: tuple[str, str] = FIELDS, *, at_least: int = 1
) -> str:
    """Return the token; UserError, which never shows it.

    `fields` are the names of the two options. The file is taken where both are given.
    """
    if file is not None:
        name, source = fields[1], str(file)
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(name, source, f"cannot be read ({error})", "name a file that holds the token") from error
    else:
        name, source = fields[0], str(variable)
        token = os.environ.get(source, "").strip()
        if not token:
            raise UserError(name, source, "no such variable is set", "set it to the token, or give a file")
    if not _TOKEN.fullmatch(token) or len(token) < at_least:
        problem = f"it holds no token of at least {at_least} printable characters without spaces"
        raise UserError(name, source, problem, "make one with `openssl rand -hex 16`")
    return token
