"""Environments served over HTTP: played by `turnwise/Remote-v0` as if they were here, and by agents that speak MCP."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_pieces import made, running, written
from web_pieces import until

from turnwise import UserError
from turnwise.cli import run_command
from turnwise.cli.serve import tried
from turnwise.env.conformance import MALFORMED, NO_ACTIONS, validate
from turnwise.env.wire import dump, read_error, write_error
from turnwise.errors import EnvError, InfraError, PolicyError
from turnwise.records import Event
from turnwise.serve.door import application
from turnwise.serve.for_agents import ForAgents
from turnwise.serve.sessions import Limits, Sessions
from turnwise.tasks import make_env, world_of
from turnwise_envs.remote.caller import SessionOver

REMOTE, SEARCH, FLAKY = "turnwise/Remote-v0", "turnwise/Search-v0", "turnwise/Flaky-v0"
TOKEN = "a-token-for-these-tests"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNWISE_TOKEN", TOKEN)


@contextlib.contextmanager
def served(env_id: str, *, allowed: Any = (), rewards: bool = False, **options: Any) -> Iterator[tuple[str, Sessions]]:
    """Serve an environment; yield the address and the sessions."""
    kwargs = options.pop("kwargs", {})
    sessions = Sessions(lambda given: make_env(env_id, {**kwargs, **given}), Limits(**options), allowed)
    agents = ForAgents(sessions, env_id, tried(env_id, {}), tells_rewards=rewards)
    with running(application(sessions, agents, TOKEN)) as url:
        yield url, sessions


def played(env: Any, seed: int, rng: np.random.Generator) -> list[Any]:
    """Return all that one episode shows, of demonstrated and malformed actions."""
    world = world_of(env)
    shown: list[Any] = [env.reset(seed=seed, options={"split": "train", "task_id": str(seed)})]
    shown += [world.tools, world.instructions, world.gold(), world.task_seed, world.max_turns, world.num_tasks("train")]
    for _ in range(20):
        action = world.demonstrate(rng) if rng.random() < 0.7 else (*MALFORMED, *NO_ACTIONS)[rng.integers(20)]
        text = action if isinstance(action, str) else "answer x"
        shown.append((action, world.oracle(text), env.step(action), world.state_key(), world.belief_key()))
        if shown[-1][2][2] or shown[-1][2][3]:
            break
    return [*shown, env.step("after the end"), world.guide(), env.reset(seed=seed, options={"guidance": "look again"})]


def test_an_environment_elsewhere_is_the_same_as_here() -> None:
    with (
        served(SEARCH, allowed=["hops"]) as (url, sessions),
        made(REMOTE, url=url, kwargs={"hops": "1-3"}) as there,
        made(SEARCH, hops="1-3") as here,
    ):
        for seed in range(8):
            ours, theirs = (played(env, seed, np.random.default_rng(seed)) for env in (here, there))
            for mine, other in zip(ours, theirs, strict=True):
                assert mine == other
        assert len(sessions) == 1
        there.close()
        assert len(sessions) == 0
        assert there.reset(seed=3) == here.reset(seed=3)


def test_it_keeps_to_what_every_environment_must() -> None:
    with served(SEARCH) as (url, _):
        checks = validate(REMOTE, {"url": url}, limit_s=60.0)
        assert [f"{check.name}: {check.detail}" for check in checks if not check.passed] == []


def test_two_hundred_episodes_of_valid_and_malformed_actions() -> None:
    with served(SEARCH, kwargs={"max_turns": 4}) as (url, _), made(REMOTE, url=url) as env:
        rng, over = np.random.default_rng(5), 0
        actions = [*world_of(env).sample_actions, *MALFORMED, *NO_ACTIONS]
        for episode in range(200):
            env.reset(seed=episode)
            while True:
                _, reward, terminated, truncated, info = env.step(actions[rng.integers(len(actions))])
                assert reward == sum(event.value for event in info["events"])
                if terminated or truncated:
                    over += 1
                    break
    assert over == 200


def test_a_wrong_address_or_token_or_argument_is_the_users_mistake_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(said: str, **kwargs: Any) -> None:
        with pytest.raises(UserError, match=said) as raised:
            make_env(REMOTE, kwargs)
        assert "\n" not in str(raised.value)
        assert "wrong-token" not in str(raised.value)

    async def other(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

    with served(SEARCH) as (url, _), running(other) as elsewhere:
        refused(r"env\.kwargs\.kwargs\.hops=2: the server does not take it", url=url, kwargs={"hops": 2})
        refused(r"env\.kwargs\.url=.*serves no environment", url=elsewhere)
        (tmp_path / "token").write_text("wrong-token-of-some-length\n")
        refused(r"env\.kwargs\.token_env=.*refuses the token", url=url, token_file=str(tmp_path / "token"))
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        make_env(REMOTE, {"url": url, "token_file": str(tmp_path / "token")}).close()
    with served(SEARCH, allowed=["hops"]) as (url, sessions):
        refused(r"env\.kwargs\.hops=99: not hops", url=url, kwargs={"hops": 99})
        assert len(sessions) == 0
    refused(r"env\.kwargs\.url=http.*: nobody answers there", url=url)
    refused(r"env\.kwargs\.url=None: no address")
    refused(r"env\.kwargs\.url=ftp://x: no address", url="ftp://x")
    refused(r"env\.kwargs\.url=http://x:y: no address", url="http://x:y")
    refused(r"env\.kwargs\.timeout_s=0: out of range", url="http://x", timeout_s=0)
    monkeypatch.delenv("TURNWISE_TOKEN")
    refused(r"env\.kwargs\.token_env=TURNWISE_TOKEN: no such variable", url=url)


def test_a_session_that_nobody_uses_ends_and_a_reset_begins_another() -> None:
    with served(SEARCH, idle_s=0.4) as (url, sessions), made(REMOTE, url=url) as env:
        env.reset(seed=1)
        until = time.monotonic() + 20
        while len(sessions) and time.monotonic() < until:
            time.sleep(0.05)
        assert len(sessions) == 0
        with pytest.raises(SessionOver) as raised:
            env.step("search x")
        assert isinstance(raised.value, InfraError)
        assert env.reset(seed=1)[0]


def test_there_are_no_more_sessions_than_allowed_and_a_hanging_one_counts() -> None:
    with served(FLAKY, max_sessions=1, call_s=0.3, kwargs={"hang_p": 1.0, "hang_s": 3.0}) as (url, sessions):
        with made(REMOTE, url=url) as env:
            env.reset(seed=1)
            with pytest.raises(InfraError, match="all of its 1 sessions"):
                make_env(REMOTE, {"url": url})
            with pytest.raises(EnvError, match=r"time-out after 0\.3 s"):
                env.step("1")
        assert len(sessions) == 0
        with pytest.raises(InfraError, match="all of its 1 sessions"):
            make_env(REMOTE, {"url": url})


def test_failures_there_are_failures_here_with_their_kind() -> None:
    with served(FLAKY, kwargs={"raise_p": 1.0}) as (url, sessions), made(REMOTE, url=url) as env:
        env.reset(seed=1)
        with pytest.raises(EnvError, match="flaky: raised in step"):
            env.step("1")
        assert len(sessions) == 0
        env.reset(seed=1)
    with pytest.raises(InfraError):
        env.reset(seed=1)
    for error in (PolicyError("tampered"), EnvError("e"), InfraError("i"), UserError("f", "v", "p", "r")):
        again = read_error(json.loads(dump(write_error(error, "step"))))
        assert type(again) is type(error)
        assert getattr(again, "is_retryable", None) == getattr(error, "is_retryable", None)
    for nonsense in (None, 7, {}, {"kind": []}):
        assert type(read_error(nonsense)) is EnvError


def posted(url: str, body: bytes, token: str | None = TOKEN) -> tuple[int, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text


def test_requests_need_the_token_and_have_a_size_and_a_shape() -> None:
    with served(SEARCH, max_body=2000) as (url, _):
        for path in ("/v1/open", "/v1/step", "/mcp", "/"):
            assert posted(url + path, b"{}", None)[0] == posted(url + path, b"{}", f"{TOKEN}x")[0] == 401
        assert posted(f"{url}/v1/open", b"x" * 3000)[0] == posted(f"{url}/mcp", b"x" * 3000)[0] == 413
        for body in (b"", b"{", b"[]", b"7", b"[" * 1900):
            assert posted(f"{url}/v1/step", body)[0] == 400
        assert posted(f"{url}/v1/step", b'{"session": "nobody"}')[0] == 404
        assert posted(f"{url}/v1/drop", b"{}")[0] == 422
        _, opened = posted(f"{url}/v1/open", b"{}")
        assert opened["num_tasks"] == {"train": None, "eval": None}
        for given in ({"seed": "1"}, {"seed": True}, {"seed": 1, "options": []}):
            _, opened = posted(f"{url}/v1/open", b"{}")
            status, said = posted(f"{url}/v1/reset", json.dumps({"session": opened["session"], **given}).encode())
            assert (status, said["error"]["kind"]) == (422, "user")


def test_an_answer_that_is_no_json_is_the_environments_failure() -> None:
    with pytest.raises(TypeError, match="no plain JSON"):
        dump({"x": object()})
    assert json.loads(dump({"x": np.float32(1.5), "y": np.arange(2), "e": (Event(channel="c", value=1.0),)})) == {
        "x": 1.5,
        "y": [0, 1],
        "e": [{"channel": "c", "value": 1.0}],
    }


def agent(url: str, play: Any, token: str = TOKEN) -> Any:
    """Play as an agent that speaks MCP, with the package's own client."""

    async def run() -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            return await play(client)

    return asyncio.run(run())


def text_of(result: Any) -> str:
    return result.content[0].text


def test_an_agent_that_speaks_mcp_plays_and_is_told_rewards_only_if_that_is_wanted() -> None:
    async def play(client: Client) -> Any:
        names = [tool.name for tool in (await client.list_tools()).tools]
        early = await client.call_tool("search", {"query": "x"})
        begun = await client.call_tool("begin_episode", {"seed": 3})
        wrong = await client.call_tool("search", {"qery": "x"})
        over = await client.call_tool("answer", {"text": "Atlantis"})
        return client.instructions, names, early, begun, wrong, over

    with made(SEARCH) as here:
        asked = here.reset(seed=3)[0][0]["content"]
        instructions = world_of(here).instructions
    for rewards in (False, True):
        with served(SEARCH, rewards=rewards) as (url, sessions):
            told, names, early, begun, wrong, over = agent(url, play)
            assert (told, names) == (instructions, ["begin_episode", "search", "open", "answer"])
            assert (early.is_error, "call begin_episode" in text_of(early)) == (True, True)
            assert (begun.is_error, text_of(begun)) == (False, asked)
            assert (wrong.is_error, text_of(wrong)) == (True, "error: search has no argument qery; expected query")
            assert (over.is_error, text_of(over)) == (False, "wrong")
            events = {"events": [{"channel": "outcome", "value": 0.0}, {"channel": "citation", "value": 0.0}]}
            expected = {"terminated": True, "truncated": False} | ({**events, "reward": 0.0} if rewards else {})
            assert over.structured_content == expected
            assert until(lambda: len(sessions) == 0)  # the client said that it was over, and was answered first


def test_an_environment_without_tools_is_one_tool() -> None:
    async def play(client: Client) -> Any:
        await client.call_tool("begin_episode", {"seed": 0})
        bad = await client.call_tool("step", {})
        return (
            [tool.name for tool in (await client.list_tools()).tools],
            bad,
            await client.call_tool("act", {"text": "1"}),
        )

    with served("turnwise/GymText-v0") as (url, _):
        names, bad, acted = agent(url, play)
        assert names == ["begin_episode", "act"]
        assert bad.is_error
        assert "state" in text_of(acted)
        with pytest.raises(BaseException):  # noqa: B017 - a group of whatever the client raises
            agent(url, play, "wrong")


def test_an_environment_is_played_over_mcp_by_the_environment_that_speaks_it(tmp_path: Path) -> None:
    begin = {"name": "begin_episode", "arguments": {"seed": 3}}
    tasks = written(tmp_path, {"prompt": "Find the industry.", "answer": "quarry", "setup": begin})
    with (
        served(SEARCH) as (url, _),
        made(
            "turnwise/MCP-v0", url=f"{url}/mcp", tasks=tasks, tools=["search", "open"], token_env="TURNWISE_TOKEN"
        ) as env,
    ):
        env.reset(seed=0)
        assert [schema["function"]["name"] for schema in world_of(env).tools] == ["search", "open", "answer"]
        assert "Naples" in env.step("search twin Naples")[0][0]["content"]
        assert env.step("answer Quarry")[1] == 1.0
    with (
        served(SEARCH) as (url, _),
        made("turnwise/MCP-v0", url=f"{url}/mcp", tasks=tasks) as env,
        pytest.raises(UserError, match=r"env\.kwargs\.token_env=.*refuses it \(status 401\)"),
    ):
        env.reset(seed=0)


def test_the_command_serves_until_it_is_interrupted_and_refuses_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "turnwise", "env", "serve", SEARCH, "hops=1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        url = line.split("url=")[1].split(";")[0]
        assert TOKEN not in line
        with made(REMOTE, url=url) as env:
            assert env.reset(seed=0)[0]
            port = url.rpartition(":")[2]
            assert run_command(["env", "serve", SEARCH, "--port", port]) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
    finally:
        process.kill()
    monkeypatch.setenv("TURNWISE_TOKEN", "short")
    assert run_command(["env", "serve", SEARCH]) == 2
    monkeypatch.delenv("TURNWISE_TOKEN")
    assert run_command(["env", "serve", SEARCH]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert [line.split("=")[0] for line in said] == ["error: --port", "error: --token-env", "error: --token-env"]
