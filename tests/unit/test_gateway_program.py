"""Episodes that a program plays: an unmodified one with the `openai` client, and those that fail in every way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from agent_templates import TEMPLATES, tokenizer_with
from gateway_pieces import agent, gateway, script, session, tiny_engine
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from rollout_pieces import WORLD, Obedient, Says
from rollout_pieces import spec as spec_of

from turnwise import UserError
from turnwise.config.schema import LearnerConfig, TimeoutConfig
from turnwise.credit.pack import pack
from turnwise.engine.client import LocalEngineClient
from turnwise.env.base import as_messages
from turnwise.gateway.play import Play
from turnwise.learner.policy import Learner
from turnwise.processes import marked_processes
from turnwise.records import End, Task, Trajectory
from turnwise.rollout.episode import EpisodeSpec
from turnwise.rollout.worker import RolloutWorker
from turnwise.rollout.world import Answer, Opening
from turnwise.tasks import make_env, world_of
from turnwise_agents import TINY_MODEL
from turnwise_agents.chat import ChatAgent, ChatConfig

OPENAI_AGENT = str(Path(__file__).parents[2] / "examples" / "openai_agent.py")
TOOL = "turnwise/Tool-v0"
SMALL = {"services": ["bank", "tickets"], "calls": "1-2", "rules": False, "withheld": 0}

ASKS = """
import json, os, subprocess, sys, time, urllib.request

def post(url, body):
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json",
               "accept": "application/json, text/event-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)

def ask(*texts):
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"model": "m", "messages": messages}
    return post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body)["choices"][0]["message"]["content"]

def act(text):
    call = {"name": "act", "arguments": {"text": text}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    return post(os.environ["TURNWISE_MCP_URL"], body)["result"]["content"][0]["text"]
"""


def written(folder: Path, text: str) -> list[str]:
    """The command of a program in plain Python, which may `ask` and `act`."""
    (folder / "program.py").write_text(ASKS + textwrap.dedent(text))
    return [sys.executable, "-S", str(folder / "program.py")]


def played(
    client: Any,
    player: Any,
    *specs: EpisodeSpec,
    env_id: str = WORLD,
    look: Callable[[], object] = lambda: None,
    **kwargs: Any,
) -> list[Trajectory]:
    """The trajectories of a worker's episodes, in order; `client` may be what makes one on the worker's loop.

    `look` is called when they have ended and the worker goes on.
    """

    async def run() -> list[Trajectory]:
        policy = client() if callable(client) else client
        timeouts = TimeoutConfig(reset_s=20.0, step_s=20.0, generate_s=60.0, episode_s=200.0)
        worker = RolloutWorker("rollout:0", env_id, kwargs, player, policy, timeouts, slots=4)
        found = {trajectory.index: trajectory async for trajectory in worker.run_many(specs)}
        look()
        await worker.close()
        return [found[index] for index in sorted(found)]

    return asyncio.run(run())


def run(tmp_path: Path, text: str, client: Any = None, **options: Any) -> Trajectory:
    """The trajectory of one program in a world that counts to three."""
    player = agent("chatml", format="text", command=written(tmp_path, text), **options)
    return played(client or Says("on"), player, spec_of())[0]


def gold_words(seed: int) -> list[str]:
    """What solves a task of the services, call by call, as the policy writes it."""
    env = make_env(TOOL, SMALL)
    world = world_of(env)
    env.reset(seed=seed, options={"split": "train", "task_id": str(seed)})
    gold = world.gold()
    calls = [*gold["calls"], {"name": "answer", "arguments": {"text": gold["answer"] or "done"}}]
    return [f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls]


def tool_spec(seed: int, index: int = 0) -> EpisodeSpec:
    task = Task(env_id=TOOL, task_id=str(seed), seed=seed)
    return EpisodeSpec(trajectory_id=f"g/{index}", group_id="g", index=index, task=task, seed=seed + index, order=index)


def test_an_unmodified_program_with_the_openai_client_plays_as_the_chat_agent_does() -> None:
    words = gold_words(3)
    player = agent(
        "qwen", format="hermes", command=[sys.executable, OPENAI_AGENT], max_context=8000, max_action_tokens=300
    )
    client = Says(*words)
    client.tokenizer = tokenizer_with(TEMPLATES["qwen"])
    trajectory = played(client, player, tool_spec(3), env_id=TOOL, **SMALL)[0]
    assert trajectory.failure is None, trajectory.failure
    assert (trajectory.end, trajectory.events_by_channel["outcome"]) == (End.TERMINATED, 1.0)

    config = ChatConfig(format="hermes", max_context=8000, max_action_tokens=300)
    again = Says(*words)
    again.tokenizer = client.tokenizer
    chat = played(again, ChatAgent(config, client.tokenizer), tool_spec(3), env_id=TOOL, **SMALL)[0]
    assert len(trajectory.turns) == len(chat.turns) == len(words)
    for mine, other in zip(trajectory.turns, chat.turns, strict=True):
        for name in ("action", "call", "events", "is_valid", "state_key", "belief_key", "starts_context"):
            assert getattr(mine, name) == getattr(other, name), name
        np.testing.assert_array_equal(mine.action_ids, other.action_ids)
    assert [request.seed for request in client.requests] == [request.seed for request in again.requests]
    assert trajectory.provenance == chat.provenance

    env = make_env(TOOL, SMALL)  # the warm start's demonstrations begin as this program does
    shown, _ = env.reset(seed=3, options={"split": "train", "task_id": "3"})
    dialogue = player.begin(instructions=world_of(env).instructions, tools=world_of(env).tools, observation=shown)
    np.testing.assert_array_equal(dialogue.prompt().context_ids, client.requests[0].context_ids)


def test_its_trajectories_on_the_real_engine_train() -> None:
    engine = tiny_engine()
    player = agent(command=[sys.executable, OPENAI_AGENT], max_context=250, max_requests=3)
    specs = [tool_spec(5, index) for index in range(2)]
    try:
        found = played(lambda: LocalEngineClient(engine), player, *specs, env_id=TOOL, **SMALL)
    finally:
        engine.shutdown()
    assert [trajectory.failure for trajectory in found] == [None, None]
    assert {trajectory.end_cause for trajectory in found} <= {"requests", "context", ""}
    credit = [
        [(np.full(len(turn.action_ids), sign, np.float32), np.ones(len(turn.action_ids), bool)) for turn in each.turns]
        for each, sign in zip(found, (1.0, -1.0), strict=True)
    ]
    batch = pack(found, credit)
    assert batch.num_rows == 2
    learner = Learner(TINY_MODEL, LearnerConfig(lr=1e-3, updates=1, minibatches=1), seed=0, temperature=1.0)
    before = learner.export()[1]
    metrics = learner.update(batch)
    assert learner.export()[1] != before
    signs = batch.advantages[batch.loss_mask]
    assert metrics["learner/loss"] == pytest.approx(-signs.mean(), abs=1e-3)  # all ratios are 1


def test_what_a_program_does_belongs_to_the_reply_before(tmp_path: Path) -> None:
    text = """
    act("early"); ask("first"); act(ask("second")); ask("third"); act("a"); act("b")
    time.sleep(60)
    """
    trajectory = run(tmp_path, text, Says("one", "two", "three"), max_context=2000)
    assert trajectory.failure is None, trajectory.failure
    assert trajectory.end is End.TERMINATED
    assert [len(turn.events) for turn in trajectory.turns] == [1, 1, 2]
    assert [turn.action for turn in trajectory.turns] == ["one", "two", "three"]
    assert [turn.state_key for turn in trajectory.turns] == ["state 0", "state 1", "state 2"]
    assert [turn.starts_context for turn in trajectory.turns] == [False, True, True]


def test_how_a_program_ends_says_how_the_episode_did(tmp_path: Path) -> None:
    ended = run(tmp_path, 'ask("x"); act("on")')
    assert (ended.end, ended.end_cause, ended.failure) == (End.TRUNCATED, "program", None)
    spent = run(tmp_path, 'ask("x"); ask("y"); ask("z")', max_requests=2)
    assert (spent.end, spent.end_cause, len(spent.turns)) == (End.TRUNCATED, "requests", 2)
    full = run(tmp_path, 'ask("x"); ask("word " * 500)', max_context=300)
    assert (full.end, full.end_cause, len(full.turns)) == (End.TRUNCATED, "context", 1)
    capped = run(tmp_path, 'ask("x"); act("on"); act("on"); act("on"); ask("after the end")')
    assert (capped.end, len(capped.turns)) == (End.TERMINATED, 1)


def test_a_program_that_asks_on_and_on_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise.rollout.program.GRACE_S", 0.2)
    text = """
    ask("x")
    while True:
        try: ask({words})
        except Exception: pass
    """
    for words in ('"x"', '"word " * 500'):
        trajectory = run(tmp_path, text.format(words=words), max_requests=3, max_context=300)
        assert (trajectory.end, trajectory.end_cause) == (End.TRUNCATED, "requests")


def test_a_first_prompt_that_is_too_long_is_the_programs_own_doing(tmp_path: Path) -> None:
    trajectory = run(tmp_path, 'ask("word " * 500)', max_context=300)
    assert trajectory.failure is not None
    assert (trajectory.failure.label, trajectory.failure.is_retryable) == ("policy:program", False)
    assert "leave room for a reply" in trajectory.failure.cause
    refused = run(tmp_path, 'post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", {"n": 2})')
    assert refused.failure is not None
    assert "had asked for nothing" in refused.failure.cause


def test_what_a_program_does_at_last_is_waited_for_and_counts(tmp_path: Path) -> None:
    text = """
    import threading
    ask("x")
    [threading.Thread(target=act, args=[text], daemon=True).start() or time.sleep(0.3) for text in ("hang", "late")]
    """
    opening = threading.Timer(4.0, Obedient.gate.set)
    opening.start()
    try:
        trajectory = run(tmp_path, text)
    finally:
        opening.cancel()
        Obedient.gate.clear()
    assert trajectory.failure is None, trajectory.failure
    assert trajectory.end_cause == "program"
    assert len(trajectory.turns[0].events) == 1  # of the one that had begun; the other one is no other episode's


class Slow:
    """A play whose one step ends when it may, and the episode with it."""

    def __init__(self) -> None:
        self.begun, self.going = asyncio.Event(), asyncio.Event()
        opening = Opening(messages=[], instructions="", tools=(), sandbox_tier="none", info={})
        self.play = Play(opening, self.step)

    async def step(self, action: Any) -> Answer:
        self.begun.set()
        await self.going.wait()
        return Answer(messages=[], terminated=True, truncated=False, events=(), is_valid=True, info={}, seconds=0.0)


def test_an_action_is_carried_out_although_its_asker_leaves() -> None:
    async def acted() -> Play:
        slow = Slow()
        asking = asyncio.create_task(slow.play.act({"role": "assistant", "content": "on"}, 1))
        await slow.begun.wait()
        asking.cancel()
        slow.going.set()
        await slow.play.close()
        return slow.play

    play = asyncio.run(acted())
    assert play.is_terminated
    assert len(play.deeds) == 1


def test_a_program_that_waits_for_the_environment_is_not_idle() -> None:
    async def acted() -> tuple[float, float]:
        slow = Slow()
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "act", "arguments": {"text": ""}}}
        async with gateway() as (server, _):
            talk = session(script("on")[0], "chatml", play=slow.play)
            headers = {
                "authorization": f"Bearer {await server.open(talk)}",
                "accept": "application/json, text/event-stream",
            }
            async with httpx2.AsyncClient(headers=headers) as http:
                asking = asyncio.create_task(http.post(f"{server.url}/mcp", json=call))
                await slow.begun.wait()
                await asyncio.sleep(0.1)
                meanwhile = talk.idle_s
                slow.going.set()
                assert "is_over" in (await asking).text
                await asyncio.sleep(0.01)
                return meanwhile, talk.idle_s

    meanwhile, after = asyncio.run(acted())
    assert meanwhile == 0.0 < after


WORKER = """
import asyncio, sys
from types import SimpleNamespace as Bare
from turnwise.agent import Program
from turnwise.config.schema import TimeoutConfig
from turnwise.rollout.program import Programs
from turnwise.rollout.world import Opening
program = Program(command=("sh", "-c", "setsid sleep 600 & pwd > $OUT; sleep 600"), variables={"OUT": sys.argv[1]})
programs = Programs(Bare(program=program), None, TimeoutConfig())
opening = Opening(messages=[], instructions="", tools=(), sandbox_tier="none", info={})
asyncio.run(programs.play(Bare(spec=None), opening, None))
"""


def test_nothing_is_left_of_the_programs_of_a_worker_that_was_killed(tmp_path: Path) -> None:
    out, mark = tmp_path / "folder", os.urandom(8).hex()
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(out)], env={**os.environ, "TURNWISE_CLUSTER": mark, "TMPDIR": str(tmp_path)}
    )
    try:
        assert within(60, lambda: out.exists() and len(marked_processes(f"TURNWISE_CLUSTER={mark}")) == 4)
        assert Path(out.read_text().strip()).is_relative_to(tmp_path)
    finally:
        worker.send_signal(signal.SIGSTOP)
        for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)  # as Ray does
        worker.kill()
        worker.wait()
    assert within(30, lambda: marked_processes(f"TURNWISE_CLUSTER={mark}") == [])
    assert list(tmp_path.iterdir()) == [out]


def within(limit_s: float, is_so: Callable[[], bool]) -> bool:
    """Whether it comes to be so in time."""
    until = time.monotonic() + limit_s
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)
    return is_so()


def test_a_program_that_fails_is_a_failure_and_no_reward(tmp_path: Path) -> None:
    def failed(text: str, client: Any = None, **options: Any) -> str:
        trajectory = run(tmp_path, text, client, **options)
        assert trajectory.end is End.FAILED
        assert trajectory.events_by_channel == {}
        assert trajectory.failure is not None
        return f"{trajectory.failure.label} {trajectory.failure.cause}"

    crashed = failed('ask("x"); act("on"); sys.exit("out of ideas")')
    assert crashed.startswith("infra:program InfraError: the program ended with code 1: out of ideas")
    assert "had asked for nothing" in failed("pass")
    assert "env:program" in failed('ask("x"); act("raise")')
    assert "engine:program" in failed('ask("x"); ask("y")', Says("on", RuntimeError("no engine")))
    idle = failed('ask("x"); time.sleep(60)', idle_s=0.3)
    assert idle == "infra:program InfraError: the program did nothing for 0.3 s"


def test_nothing_of_a_program_is_left_and_it_has_no_secrets_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNWISE_TOKEN", "a-token-that-is-not-for-it")
    monkeypatch.setenv("TURNWISE_CLUSTER", mark := os.urandom(8).hex())
    text = f"""
    ask(sys.stdin.read())
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    here = {{"env": dict(os.environ), "folder": os.getcwd(), "files": os.listdir(), "words": sys.argv[1:]}}
    open({str(tmp_path / "told.json")!r}, "w").write(json.dumps(here))
    [act("on") for _ in range(3)]
    """
    command = [*written(tmp_path, text), "{prompt}", "{base_url}", "{mcp_url}", "{key}", "plain"]
    player = agent("chatml", format="text", command=command, variables={"MORE": "yes"}, max_context=2000)
    is_clear: list[bool] = []
    processes = f"TURNWISE_CLUSTER={mark}"
    look = lambda: is_clear.append(within(5, lambda: not marked_processes(processes)))  # noqa: E731
    trajectory = played(Says("on"), player, spec_of(), look=look)[0]
    assert is_clear == [True]
    assert trajectory.end is End.TERMINATED
    assert trajectory.turns[0].observation == "Say anything.\n\ngo"
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["env"]["MORE"] == "yes"
    assert "TURNWISE_TOKEN" not in told["env"]
    assert told["files"] == []
    assert not Path(told["folder"]).exists()
    own = [told["env"][name] for name in ("OPENAI_BASE_URL", "TURNWISE_MCP_URL", "OPENAI_API_KEY")]
    assert told["words"] == ["Say anything.\n\ngo", *own, "plain"]


def test_clients_of_the_protocol_see_the_tools_of_their_own_episode() -> None:
    env = make_env(TOOL, SMALL)
    shown, info = env.reset(seed=1)
    world = world_of(env)
    opening = Opening(
        messages=as_messages(shown, role="user"), instructions="", tools=world.tools, sandbox_tier="none", info=info
    )

    async def step(action: Any) -> Answer:
        messages, _, terminated, truncated, told = env.step(action)
        return Answer(
            messages=messages, terminated=terminated, truncated=truncated, events=told["events"],
            is_valid=told["is_valid"], info=told, seconds=0.0,
        )  # fmt: skip

    async def talked() -> None:
        play = Play(opening, step)
        async with gateway() as (server, _):
            key = await server.open(session(script("on")[0], "chatml", play=play))
            other = await server.open(session(script("on")[0], "chatml"))
            for secret, status in ((other, 403), ("sk-wrong", 401)):
                async with httpx2.AsyncClient(headers={"authorization": f"Bearer {secret}"}) as http:
                    assert (await http.post(f"{server.url}/mcp", json={})).status_code == status
            async with (
                httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http,
                Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client,
            ):
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert names == [schema["function"]["name"] for schema in world.tools]
                wrong = await client.call_tool("nothing", {})
                assert wrong.is_error
                done = await client.call_tool("answer", {"text": "done"})
                assert done.structured_content == {"is_over": True}
                over = await client.call_tool("answer", {"text": "done"})
                assert over.content[0].text == "error: the episode is over"
        assert [deed.is_valid for deed in play.deeds] == [False, True]

    asyncio.run(talked())


def test_a_program_that_cannot_run_is_the_users_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str, **options: Any) -> None:
        with pytest.raises(UserError, match=said) as raised:
            agent("chatml", **options)
        assert "\n" not in str(raised.value)

    refused(r"agent\.command=\[\]: no program is named", command=[])
    refused(r"agent\.command=no-such-thing: no such program", command=["no-such-thing"])
    (tmp_path / "mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    refused(r"agent\.command=mine\.py: the program runs in a folder of its own", command=["true", "mine.py"])
    refused(r"agent\.format=prose: no such action format", format="prose")
