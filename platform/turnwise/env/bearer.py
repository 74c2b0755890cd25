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


def read_token(variable: str | None, file: str | Path | None, field: str, *, at_least: int = 1) -> str:
    """Return the token; UserError, which never shows it.

    `field` is the prefix of the two options, as in `env.kwargs.token`. The file is taken where both are named.
    """
    if file is not None:
        name, source = f"{field}_file", str(file)
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(name, source, f"cannot be read ({error})", "name a file that holds the token") from error
    else:
        name, source = f"{field}_env", str(variable)
        token = os.environ.get(source, "").strip()
        if not token:
            raise UserError(name, source, "no such variable is set", "set it to the token, or give a file")
    if not _TOKEN.fullmatch(token) or len(token) < at_least:
        problem = f"it holds no token of at least {at_least} printable characters without spaces"
        raise UserError(name, source, problem, "make one with `openssl rand -hex 16`")
    return token
