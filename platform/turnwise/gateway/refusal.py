"""What the gateway refuses, in the shape in which OpenAI's clients expect an error."""

from __future__ import annotations

from typing import Any

FULL, SPENT = "context_length_exceeded", "requests"
"""Codes of refusals that may end an episode: the messages are too long, and there were too many requests."""

KINDS = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}


class Refused(Exception):  # noqa: N818 - what is the case
    """A request that is not answered; clients raise it, and repeat those with a status of 500 or more."""

    def __init__(self, problem: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        """Say in one line what is wrong, with the parameter that is."""
        self.status, self.param, self.code = status, param, code
        super().__init__(" ".join(problem.split())[:500])

    def as_openai(self) -> dict[str, Any]:
        """Return the body of the answer."""
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}
