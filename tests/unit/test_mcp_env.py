"""`turnwise/MCP-v0`: real servers, over input and output in a sandbox and over HTTP, and one that misbehaves."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mcp_pieces import made, odd_kwargs, real_app, real_kwargs, running, written

from turnwise import UserError
from turnwise.env.conformance import MALFORMED, validate
from turnwise.errors import EnvError, InfraError
from turnwise.records import FailureKind
from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import missing
from turnwise.tasks import make_env, world_of

MCP = "turnwise/MCP-v0"
needs_bubblewrap = pytest.mark.skipif(missing(Tier.BUBBLEWRAP) is not None, reason=str(missing(Tier.BUBBLEWRAP)))


def said(stepped) -> str:
    return stepped[0][0]["content"]


def outcomes(stepped) -> list[float]:
    return [event.value for event in stepped[4]["events"] if event.channel == "outcome"]


@needs_bubblewrap
def test_a_real_server_in_the_sandbox_is_played_and_checked(tmp_path: Path) -> None:
    with made(MCP, **real_kwargs(tmp_path)) as env:
        messages, info = env.reset(seed=0)
        assert messages[0]["content"] == "put 7 under a"
        assert info["gold"]["calls"] == [{"name": "put", "arguments": {"key": "a", "value": 7}}]
        assert [schema["function"]["name"] for schema in world_of(env).tools] == ["put", "answer"]
        assert world_of(env).sandbox_tier == "bubblewrap"
        failed = env.step("get a")
        assert said(failed) == "error: unknown tool get; expected one of put, answer"
        assert said(env.step("put a | x")) == "error: put value: 'x' is not of type 'integer'"
        put = env.step('<tool_call>{"name": "put", "arguments": {"key": "a", "value": 7}}</tool_call>')
        assert (said(put), put[4]["call"]) == ("put a", {"name": "put", "arguments": {"key": "a", "value": 7}})
        last = env.step("answer done")
        assert (said(last), outcomes(last), last[2]) == ("correct", [1.0], True)
        env.reset(seed=0)
        with pytest.raises(EnvError, match="the check get failed"):  # the shelf of the second episode is empty
            env.step("answer done")


def test_a_real_server_over_http_is_played_and_may_go_away(tmp_path: Path) -> None:
    tasks = written(tmp_path, {"prompt": "put", "check": {"name": "get", "arguments": {"key": "b"}, "expect": 2}})
    with running(real_app()) as url, made(MCP, url=f"{url}/mcp", tasks=tasks, call_s=5.0) as env:
        env.reset(seed=0)
        assert said(env.step("put b | 2")) == "put b"
        assert outcomes(env.step("answer")) == [1.0]
        env.reset(seed=0)
        assert said(env.step("put b | 3")) == "put b"
        assert outcomes(env.step("answer")) == [0.0]
        env.reset(seed=0)
    began = time.monotonic()
    with pytest.raises(EnvError, match="the MCP server"):
        env.step("put b | 2")
    assert time.monotonic() - began < 15
    with pytest.raises(UserError, match=r"env\.kwargs\.url=.*no MCP server is there"):
        env.reset(seed=0)


@needs_bubblewrap
def test_tasks_are_set_up_checked_and_answered(tmp_path: Path) -> None:
    with made(MCP, **odd_kwargs(tmp_path, fresh=False)) as env:
        assert (world_of(env).num_tasks("train"), world_of(env).num_tasks("eval")) == (3, 1)
        env.reset(seed=0)
        shown = [schema["function"]["name"] for schema in world_of(env).tools]
        assert {"add", "answer"} <= set(shown)
        assert {"total", "start"}.isdisjoint(shown)
        assert said(env.step("start 5")).startswith("error: unknown tool start")
        assert said(env.step("add 3 | 4")) == "7"
        assert said(env.step("answer")) == "error: answer needs text"
        assert said(env.step('<tool_call>{"name": "answer", "arguments": {"txt": 1}}</tool_call>')) == (
            "error: answer takes a text"
        )
        assert outcomes(env.step("answer  7 ")) == [1.0]
        env.reset(seed=0, options={"split": "eval"})
        assert outcomes(env.step("answer The ODD one")) == [1.0]
    with made(MCP, **odd_kwargs(tmp_path)) as env:
        env.reset(seed=2)
        with pytest.raises(EnvError, match="the check total returned '10', no number from 0 to 1"):
            env.step("answer")
        env.reset(seed=1)
        assert outcomes(env.step("answer")) == [0.0]
        env.reset(seed=1)
        rng = np.random.default_rng(0)
        demonstrated = [env.step(world_of(env).demonstrate(rng)) for _ in range(2)]
        assert outcomes(demonstrated[-1]) == [1.0]
    with made(MCP, **odd_kwargs(tmp_path, tools=["total"])) as env:
        env.reset(seed=2)
        assert said(env.step("total")) == "10"


@needs_bubblewrap
def test_odd_names_large_results_pictures_and_errors_of_tools_are_observations(tmp_path: Path) -> None:
    with made(MCP, **odd_kwargs(tmp_path, shown_chars=100)) as env:
        env.reset(seed=0)
        assert said(env.step("odd_name_")) == "odd-name!"
        assert said(env.step("odd_name__2")) == "odd_name_"
        assert said(env.step("t7up")) == "7up"
        assert said(env.step("big")) == "x" * 100 + "\n[10000000 characters, 100 shown]"
        assert said(env.step("picture")) == "[image image/png, 300 bytes]"
        for tool, text in (("fail", "error: no such shelf"), ("refuse", "error: not like this")):
            stepped = env.step(tool)
            assert (said(stepped), stepped[4]["is_valid"], stepped[1]) == (text, True, 0.0)


@needs_bubblewrap
@pytest.mark.parametrize(
    ("tool", "cause"),
    [
        ("die", "ended with exit status 7 (oh no)"),
        ("hang", "did not answer hang within call_s=1"),
        ("flood", "sent a message of more than 32 MiB"),
        ("chatter", r"did not answer chatter within call_s=1|broke off"),
        ("garbage", "wrote what is no message: b'starting up ...'"),
        ("shape", "answered shape with what is no result"),
        ("shut", "broke off (Connection closed)"),
    ],
)
def test_a_server_that_misbehaves_is_the_environments_failure_in_bounded_time(
    tmp_path: Path, tool: str, cause: str
) -> None:
    with made(MCP, **odd_kwargs(tmp_path, call_s=1.0 if tool in ("hang", "chatter") else 60.0)) as env:
        env.reset(seed=0)
        began = time.monotonic()
        with pytest.raises(EnvError) as raised:
            env.step(tool)
        assert time.monotonic() - began < 60
        assert re.search(cause if "|" in cause else re.escape(cause), str(raised.value))
        assert raised.value.kind is FailureKind.ENV
        with pytest.raises(EnvError, match="the MCP server is gone"):
            env.step("add 3 | 4")
        env.reset(seed=0)
        assert said(env.step("add 3 | 4")) == "7"


@needs_bubblewrap
def test_a_sandbox_that_is_killed_is_a_failure_of_the_infrastructure_and_nothing_is_left(tmp_path: Path) -> None:
    with made(MCP, **odd_kwargs(tmp_path)) as env:
        env.reset(seed=0)
        first = [pid for pid in children() if "inside.py" in words_of(pid)]
        assert first
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(InfraError, match="the sandbox is gone"):
            env.step("add 3 | 4")
        env.reset(seed=0)
    assert [pid for pid in children() if "odd.py" in words_of(pid)] == []


def children() -> list[int]:
    """Return the processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    below, found = {os.getpid()}, []
    for _ in range(8):
        found = [pid for pid, parent in parents.items() if parent in below]
        below |= set(found)
    return sorted(below - {os.getpid()})


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@needs_bubblewrap
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": ["no-such-program"]}, r"env.kwargs.command=no-such-program: cannot be run in the sandbox"),
        ({"tools": ["add", "minus"]}, r"env.kwargs.tools=minus: the MCP server has no such tool; one of: add, "),
        ({"checked": "grade"}, r"env.kwargs.tasks=grade: the MCP server has no such tool"),
    ],
)
def test_what_the_server_does_not_have_is_the_users_mistake_in_one_line(tmp_path: Path, change, said: str) -> None:
    kwargs = odd_kwargs(tmp_path) | {key: value for key, value in change.items() if key != "checked"}
    if "checked" in change:
        kwargs["tasks"] = written(tmp_path, {"prompt": "p", "check": {"name": change["checked"]}}, name="other.jsonl")
    with made(MCP, **kwargs) as env, pytest.raises(UserError, match=said) as raised:
        env.reset(seed=0)
    assert "\n" not in str(raised.value)


@needs_bubblewrap
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["python3", "-c", "import nothing_here"], "ended with exit status 1 .*No module named 'nothing_here'"),
        (["sleep", "60"], "was not ready within start_s=1"),
        (["cat"], "the MCP server"),
    ],
)
def test_a_command_that_is_no_server_is_a_failure_that_says_why(tmp_path: Path, words, said: str) -> None:
    kwargs = odd_kwargs(tmp_path) | {"command": words, "start_s": 1.0 if words[0] == "sleep" else 240.0}
    with made(MCP, **kwargs) as env, pytest.raises(EnvError, match=said):
        env.reset(seed=0)


@needs_bubblewrap
def test_a_list_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    with made(MCP, **odd_kwargs(tmp_path, "twice")) as env, pytest.raises(EnvError, match="lists the tool 'add' twice"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({}, "url"),
        ({"command": ["x"], "url": "http://127.0.0.1:9/mcp"}, "url"),
        ({"url": "ftp://x"}, "url"),
        ({"command": "python server.py"}, "command"),
        ({"command": []}, "command"),
        ({"url": "http://x", "tools": "add"}, "tools"),
        ({"url": "http://x", "sandbox": {"memory_mb": 64}}, "sandbox"),
        ({"url": "http://x", "variables": {"A": "b"}}, "variables"),
        ({"command": ["x"], "variables": {"A": 1}}, "variables"),
        ({"command": ["x"], "sandbox": {"memory": 1}}, "sandbox"),
        ({"url": "http://x", "max_turns": 0}, "max_turns"),
        ({"url": "http://x", "call_s": float("nan")}, "call_s"),
        ({"url": "http://x", "shown_chars": 1.5}, "shown_chars"),
        ({"url": "http://x", "token_env": "NO_SUCH_VARIABLE"}, "token_env"),
        ({"url": "http://x", "token_file": "no/such/file"}, "token_file"),
        ({"url": "http://x", "tasks": None}, "tasks"),
        ({"url": "http://x", "tasks": "no/such/file"}, "tasks"),
    ],
)
def test_arguments_that_do_not_fit_are_the_users_mistake(tmp_path: Path, kwargs, field: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(MCP, {"tasks": written(tmp_path), **kwargs})
    assert raised.value.field == f"env.kwargs.{field}"
    assert "\n" not in str(raised.value)


def test_without_the_package_the_user_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'mcp is not installed; pip install "turnwise\[mcp\]"'):
        make_env(MCP, {"url": "http://x", "tasks": written(tmp_path)})


def test_importing_the_environments_and_the_command_loads_no_optional_package() -> None:
    modules = "turnwise_envs.mcp.env, turnwise_envs.remote.env, turnwise.cli.env, turnwise.cli.serve"
    optional = {"mcp", "mcp_types", "starlette", "uvicorn", "ray", "torch"}
    code = f"import sys, {modules}; print({optional} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == "set()"


def test_nobody_at_the_address_is_the_users_mistake(tmp_path: Path) -> None:
    with (
        made(MCP, url="http://127.0.0.1:9/mcp", tasks=written(tmp_path)) as env,
        pytest.raises(UserError, match=r"env\.kwargs\.url=http://127\.0\.0\.1:9/mcp: no MCP server is there") as raised,
    ):
        env.reset(seed=0)
    assert "\n" not in str(raised.value)


@needs_bubblewrap
def test_two_hundred_episodes_of_valid_and_malformed_actions(tmp_path: Path) -> None:
    with made(MCP, **odd_kwargs(tmp_path, fresh=False, max_turns=4)) as env:
        rng, over = np.random.default_rng(5), 0
        actions = [*world_of(env).sample_actions, "total", "add 1 | 2", "fail", *MALFORMED]
        for episode in range(200):
            env.reset(seed=episode % 2)
            for _ in range(4):
                _, reward, terminated, truncated, info = env.step(actions[rng.integers(len(actions))])
                assert reward == sum(event.value for event in info["events"])
                if terminated or truncated:
                    over += 1
                    break
    assert over == 200


@needs_bubblewrap
def test_it_keeps_to_what_every_environment_must(tmp_path: Path) -> None:
    checks = validate(MCP, odd_kwargs(tmp_path, max_turns=24), limit_s=60.0)
    assert [f"{check.name}: {check.detail}" for check in checks if not check.passed] == []
