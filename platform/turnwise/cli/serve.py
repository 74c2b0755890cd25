"""What `turnwise env serve` does: check the environment, take the port, serve until it is stopped."""

from __future__ import annotations

import importlib.util
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from turnwise.env.wire import dump
from turnwise.errors import UserError
from turnwise.serve import answers
from turnwise.serve.sessions import Limits, Sessions
from turnwise.tasks import make_env

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    env_id: str,
    kwargs: Mapping[str, Any],
    *,
    host: str,
    port: int,
    token: str,
    allowed: Sequence[str],
    tells_rewards: bool,
    limits: Limits,
    say: Callable[[str], None],
) -> None:
    """Serve an environment until an interrupt; UserError for what cannot be served, and there."""
    for package in ("mcp", "starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise UserError("serve", env_id, f"the package {package} is not installed", 'pip install "turnwise[mcp]"')
    import uvicorn

    from turnwise.serve.door import application
    from turnwise.serve.for_agents import ForAgents

    shown = tried(env_id, kwargs)
    sessions = Sessions(lambda given: make_env(env_id, {**kwargs, **given}), limits, allowed)
    app = application(sessions, ForAgents(sessions, env_id, shown, tells_rewards=tells_rewards), token)
    with taken(host, port) as listener:
        where = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        say(f"serving {env_id}: turnwise/Remote-v0 with url={where}; MCP at {where}/mcp")
        if host not in LOOPBACK:
            say("the token and all else travels in the clear: put something before it that speaks TLS")
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none")
        config.timeout_keep_alive, config.timeout_graceful_shutdown = int(limits.idle_s) + 1, 5
        uvicorn.Server(config).run(sockets=[listener])


def tried(env_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an environment shows after a first reset; errors as `make_env`, and whatever the reset raises."""
    env = make_env(env_id, kwargs)
    try:
        shown: dict[str, Any] = json.loads(dump(answers.reset(env, {"seed": 0})))
        return shown
    finally:
        env.close()


def taken(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; UserError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError("--port", f"{host}:{port}", f"cannot be taken ({error})", "name another one") from error
