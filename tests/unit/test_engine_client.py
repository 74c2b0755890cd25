"""Clients on a scripted engine: coalescing, sessions, time-outs, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from turnwise.engine import Completion, Finish, Request
from turnwise.engine.checksum import checksum
from turnwise.engine.client import LocalEngineClient, LocalLink
from turnwise.engine.loop import Result
from turnwise.engine.sessions import Roster
from turnwise.errors import EngineError, WeightProofError
from turnwise.records import IntArray
from turnwise.testing.scripted import ScriptedEngine


class Letters:
    """A tokenizer of one token a letter."""

    eos_token_id = 0
    chat_template = None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(map(chr, token_ids))

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class CountingLink(LocalLink):
    """Counts messages."""

    streams = tells = 0

    async def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
        self.streams += 1
        async for chunk in super().stream(roster, requests):
            yield chunk

    async def tell(self, roster: Roster) -> None:
        self.tells += 1
        await super().tell(roster)


def echo(context: IntArray) -> str:
    return chr(int(context[-1]) + 1)


def ask(session: str, last: int = 65, max_tokens: int = 9, order: int = 0) -> Request:
    return Request(session=session, context_ids=np.array([1, last], np.int32), max_tokens=max_tokens, order=order)


def run(scenario: Any, **options: Any) -> Any:
    engine = ScriptedEngine(options.pop("answer", echo), Letters(), **options)

    async def with_client() -> Any:
        client = LocalEngineClient(engine)
        link = CountingLink(engine)
        client._lanes[0]._link = link
        async with asyncio.timeout(20):
            return await scenario(client, link, engine)

    try:
        return asyncio.run(with_client())
    finally:
        engine.shutdown()


def test_a_scripted_answer_is_its_text_and_the_end_token() -> None:
    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> Completion:
        return await client.generate(ask("a"), 5.0)

    done = run(scenario)
    assert (done.ids.tolist(), done.finish) == ([66, 0], Finish.STOP)
    assert done.versions.tolist() == [0, 0]
    cut = run(scenario, answer=lambda context: list(range(20)))
    assert (len(cut.ids), cut.finish) == (9, Finish.LENGTH)


def test_all_requests_of_one_tick_travel_in_one_message() -> None:
    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        client.open([f"s{i}" for i in range(20)])
        found = await asyncio.gather(*(client.generate(ask(f"s{i}", 65 + i), 5.0) for i in range(20)))
        assert [done.ids[0] for done in found] == [66 + i for i in range(20)]
        assert link.streams == 1
        await client.generate(ask("s1"), 5.0)
        assert link.streams == 2

    run(scenario)


def test_a_close_as_the_last_thing_arrives() -> None:
    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        client.open(["a", "b"])
        await asyncio.gather(client.generate(ask("a"), 5.0), client.generate(ask("b"), 5.0))
        client.close(["b"])
        await asyncio.sleep(0.1)
        assert [roster.sessions for roster in link._ledger._rosters.values()] == [("a",)]
        began = asyncio.get_running_loop().time()
        await client.generate(ask("a"), 5.0)  # the barrier no longer waits for b
        assert asyncio.get_running_loop().time() - began < 5.0
        assert engine.status()["gather_timeouts"] == 0

    run(scenario, lockstep=True, gather_s=10.0)


def test_the_barrier_holds_until_every_open_session_asks() -> None:
    seen: list[int] = []

    def note(context: IntArray) -> str:
        seen.append(int(context[-1]))
        return "x"

    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        client.open(["a", "b"])
        first = asyncio.create_task(client.generate(ask("b", 66, order=2), 10.0))
        await asyncio.sleep(0.2)
        assert seen == []
        await asyncio.gather(first, client.generate(ask("a", 65, order=1), 10.0))
        assert seen == [65, 66]
        client.open(["c"])  # the next episode opens before the former is closed
        client.close(["a"])
        rest = asyncio.create_task(client.generate(ask("b", 67, order=2), 10.0))
        await asyncio.sleep(0.2)
        assert seen == [65, 66]
        await asyncio.gather(rest, client.generate(ask("c", 68, order=3), 10.0))
        assert seen == [65, 66, 67, 68]

    run(scenario, answer=note, lockstep=True, gather_s=10.0)


def test_a_session_that_never_asks_costs_one_gathering_time() -> None:
    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        loop = asyncio.get_running_loop()
        client.open(["a", "lost"])
        began = loop.time()
        await client.generate(ask("a"), 5.0)
        assert 0.3 <= loop.time() - began < 2.0
        began = loop.time()
        for _ in range(3):
            await client.generate(ask("a"), 5.0)
        assert loop.time() - began < 0.3
        assert engine.status()["gather_timeouts"] == 1

    run(scenario, lockstep=True, gather_s=0.3)


def test_closing_aborts_a_request_that_waits_or_is_not_sent_yet() -> None:
    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        client.open(["a", "b", "c"])
        unsent = asyncio.create_task(client.generate(ask("b"), 5.0))
        waiting = asyncio.create_task(client.generate(ask("a"), 5.0))
        await asyncio.sleep(0)
        client.close(["b"])
        assert (await unsent).finish is Finish.ABORT
        await asyncio.sleep(0.1)
        client.close(["a"])
        assert (await waiting).finish is Finish.ABORT

    run(scenario, lockstep=True, gather_s=10.0)


def test_time_outs_and_failures_are_engine_errors_of_their_own_request() -> None:
    def picky(context: IntArray) -> str:
        if context[-1] == 99:
            raise ValueError("cannot read 99")
        return "x"

    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        good, bad = await asyncio.gather(
            client.generate(ask("a"), 5.0), client.generate(ask("b", 99), 5.0), return_exceptions=True
        )
        assert isinstance(good, Completion)
        assert isinstance(bad, EngineError)
        assert "cannot read 99" in str(bad)

    run(scenario, answer=picky)

    async def slow(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        client.open(["a", "never"])
        with pytest.raises(EngineError, match=r"within 0\.1 s"):
            await client.generate(ask("a"), 0.1)

    run(slow, lockstep=True, gather_s=10.0)


def test_a_link_that_breaks_fails_what_it_carried() -> None:
    class Broken(CountingLink):
        async def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
            yield [(0, Completion.aborted())]
            raise KeyError("nobody foresaw this")

    class Short(CountingLink):
        async def stream(self, roster: Roster, requests: Sequence[Request]) -> AsyncIterator[list[tuple[int, Result]]]:
            yield [(0, Completion.aborted())]

    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        for kind, text in ((Broken, "nobody foresaw this"), (Short, "without all results")):
            client._lanes[0]._link = kind(engine)
            first, second = await asyncio.gather(
                client.generate(ask("a"), 5.0), client.generate(ask("b"), 5.0), return_exceptions=True
            )
            assert isinstance(first, Completion)
            assert isinstance(second, EngineError)
            assert text in str(second)

    run(scenario)


def test_a_session_stays_with_its_engine() -> None:
    engines = [ScriptedEngine(lambda _, name=name: name, Letters()) for name in "xyz"]

    async def scenario() -> None:
        client = LocalEngineClient(*engines)
        homes = {}
        for session in [f"s{i}" for i in range(30)]:
            homes[session] = {(await client.generate(ask(session), 5.0)).ids[0] for _ in range(2)}
        assert all(len(home) == 1 for home in homes.values())
        assert len(set.union(*homes.values())) == 3

    try:
        asyncio.run(scenario())
    finally:
        for engine in engines:
            engine.shutdown()


def test_a_scripted_engine_proves_its_weights() -> None:
    state = {"w": np.ones(3, np.float32)}

    async def scenario(client: LocalEngineClient, link: CountingLink, engine: ScriptedEngine) -> None:
        receipt = await engine.update_weights(4, checksum(state), state)
        assert (receipt.version, receipt.checksum) == (4, checksum(state))
        assert (await client.generate(ask("a"), 5.0)).versions.tolist() == [4, 4]
        with pytest.raises(WeightProofError):
            await engine.update_weights(5, checksum(state), {"w": np.zeros(3, np.float32)})
        with pytest.raises(EngineError, match="not proven"):
            await client.generate(ask("a"), 5.0)

    run(scenario)
