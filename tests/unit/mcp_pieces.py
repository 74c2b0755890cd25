"""Servers of the Model Context Protocol for tests: a real one of the package `mcp`, and one that can misbehave."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import uvicorn

from turnwise.tasks import make_env

REAL = '''
from mcp.server import MCPServer

app, shelf = MCPServer("shelf"), {}


@app.tool()
def put(key: str, value: int) -> str:
    """Put a value on the shelf."""
    shelf[key] = value
    return f"put {key}"


@app.tool()
def get(key: str) -> int:
    """Get a value from the shelf."""
    return shelf[key]


if __name__ == "__main__":
    app.run("stdio")
'''

ODD = """
import base64, json, os, sys, time

CALLS = {"add": {"a": "integer", "b": "integer"}, "start": {"at": "integer"}}
CALLS.update({"odd-name!": {}, "odd_name_": {}, "total": {}, "7up": {}})
BAD = ("fail", "refuse", "big", "picture", "die", "hang", "flood", "chatter", "garbage", "shape", "shut")
CALLS.update(dict.fromkeys(BAD, {}))
total = 0


def say(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
    sys.stdout.flush()


def schema(arguments):
    shapes = {name: {"type": kind} for name, kind in arguments.items()}
    return {"type": "object", "properties": shapes, "required": list(arguments)}


def called(name, arguments):
    global total
    if name == "add":
        total += arguments["a"] + arguments["b"]
        return {"content": [{"type": "text", "text": str(total)}]}
    if name == "start":
        total = arguments["at"]
    if name == "total":
        return {"content": [], "structuredContent": {"result": total}}
    if name == "fail":
        return {"content": [{"type": "text", "text": "no such shelf"}], "isError": True}
    if name == "big":
        return {"content": [{"type": "text", "text": "x" * 10_000_000}]}
    if name == "picture":
        return {"content": [{"type": "image", "mimeType": "image/png", "data": base64.b64encode(bytes(300)).decode()}]}
    if name == "die":
        sys.stderr.write("oh no\\n")
        os._exit(7)
    while name == "hang":
        time.sleep(1)
    while name == "flood":
        sys.stdout.write("x" * 65536)
    while name == "chatter":
        say({"method": "notifications/message", "params": {"level": "info", "data": "x" * 50_000}})
    if name == "garbage":
        print("starting up ...", flush=True)
    if name == "shape":
        return {"content": 7}
    if name == "shut":
        os.close(1)
        time.sleep(3600)
    return {"content": [{"type": "text", "text": name}]}


for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    told = asked.get("params", {})
    if asked["method"] == "initialize":
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "odd", "version": "0"}}
        say({"id": asked["id"], "result": {"protocolVersion": told["protocolVersion"], **about}})
    elif asked["method"] == "tools/list":
        tools = [{"name": name, "inputSchema": schema(arguments)} for name, arguments in CALLS.items()]
        say({"id": asked["id"], "result": {"tools": tools + [tools[0]] * ("twice" in sys.argv)}})
    elif told["name"] == "refuse":
        say({"id": asked["id"], "error": {"code": -32602, "message": "not like this"}})
    else:
        say({"id": asked["id"], "result": called(told["name"], told.get("arguments", {}))})
"""

START_S = 240.0
"""Seconds for a start, where the machine has other things to do."""

TASKS = (
    {"prompt": "add 3 and 4", "answer": "7", "calls": [{"name": "add", "arguments": {"a": 3, "b": 4}}]},
    {
        "prompt": "make the total 5",
        "check": {"name": "total", "expect": 5},
        "calls": [{"name": "add", "arguments": {"a": 2, "b": 3}}],
    },
    {
        "prompt": "make the total 12",
        "setup": {"name": "start", "arguments": {"at": 10}},
        "check": {"name": "total"},
    },
    {"prompt": "which one?", "answer": ["the odd one", "odd"], "split": "eval"},
)


def written(folder: Path, *tasks: dict[str, Any], name: str = "tasks.jsonl") -> str:
    """Return the path of a file of tasks."""
    (folder / name).write_text("".join(f"{json.dumps(task)}\n" for task in tasks or TASKS))
    return str(folder / name)


def program(folder: Path, name: str, text: str) -> str:
    """Return the path of a program in a folder that a sandbox's user can read."""
    shown = folder / "shown"
    shown.mkdir(exist_ok=True)
    shown.chmod(0o755)
    (shown / name).write_text(text)
    return str(shown / name)


def odd_kwargs(folder: Path, *words: str, **more: Any) -> dict[str, Any]:
    """Return the arguments of an environment over the server that misbehaves."""
    command = ["python3", "-S", program(folder, "odd.py", ODD), *words]
    shown = {"read_only": [str(folder / "shown")]}
    return {"command": command, "tasks": written(folder), "sandbox": shown, "start_s": START_S, **more}


def real_kwargs(folder: Path, **more: Any) -> dict[str, Any]:
    """Return the arguments of an environment over the real server, whose packages are shown to the sandbox."""
    command = ["python3", program(folder, "real.py", REAL)]
    origins = (importlib.util.find_spec(name) for name in ("mcp", "mcp_types", "pydantic", "anyio", "httpx2"))
    sites = {str(Path(str(spec.origin)).parents[1]) for spec in origins if spec is not None}
    shown = {"read_only": [str(folder / "shown"), *sorted(sites)]}
    task = {
        "prompt": "put 7 under a",
        "check": {"name": "get", "arguments": {"key": "a"}, "expect": 7},
        "calls": [{"name": "put", "arguments": {"key": "a", "value": 7}}],
    }
    words = {"command": command, "variables": {"PYTHONPATH": ":".join(sorted(sites))}, "start_s": START_S}
    return {**words, "tasks": written(folder, task), "sandbox": shown, **more}


def real_app() -> Any:
    """Return the real server as an ASGI application, which speaks at `/mcp`."""
    names: dict[str, Any] = {"__name__": "real"}
    exec(compile(textwrap.dedent(REAL), "real.py", "exec"), names)
    return names["app"].streamable_http_app()


@contextlib.contextmanager
def made(env_id: str, **kwargs: Any) -> Iterator[gymnasium.Env[Any, Any]]:
    """Make an environment, and close it."""
    env = make_env(env_id, kwargs)
    try:
        yield env
    finally:
        env.close()


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """Serve an application on loopback, at a port of the system's choice; yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
