"""The gateway under the real `openai` client: a program's requests are answered, kept as tokens, and become turns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import torch
from gateway_pieces import SEARCH, gateway, sampler, script, session, tiny_engine, user
from transformers import AutoModelForCausalLM, AutoTokenizer

from turnwise.config.schema import LearnerConfig
from turnwise.credit.pack import pack
from turnwise.engine.hf import HfEngine
from turnwise.errors import EngineError
from turnwise.gateway.session import Limits
from turnwise.learner.policy import Learner
from turnwise.records import End, Task, Trajectory, Turn
from turnwise_agents import TINY_MODEL


@pytest.fixture(scope="module")
def engine() -> Iterator[HfEngine]:
    made = tiny_engine()
    yield made
    made.shutdown()


def batch_of(turns: tuple[Turn, ...], advantage: float = 1.0) -> Any:
    """The learner's batch of one trajectory."""
    task = Task(env_id="turnwise/Tool-v0", task_id="0", seed=0)
    trajectory = Trajectory(
        trajectory_id="g/0", group_id="g", index=0, task=task, turns=turns, end=End.TERMINATED, end_cause=""
    )
    sizes = [len(turn.action_ids) for turn in turns]
    return pack([trajectory], [[(np.full(n, advantage, np.float32), np.ones(n, bool)) for n in sizes]])


def recomputed(batch: Any) -> np.ndarray:
    """The log-probabilities of a batch's trained tokens by plain forward passes."""
    model, found = AutoModelForCausalLM.from_pretrained(TINY_MODEL), np.zeros(len(batch.ids), np.float32)
    for start, stop in zip(batch.row_offsets, batch.row_offsets[1:], strict=False):
        ids = torch.tensor(batch.ids[start:stop].astype(np.int64))
        with torch.no_grad():
            logprobs = model(ids[None]).logits[0].log_softmax(-1)
        found[start + 1 : stop] = logprobs[:-1].gather(1, ids[1:, None])[:, 0].numpy()
    return found[batch.loss_mask]


def test_tokens_and_log_probabilities_are_kept_and_the_model_gives_the_same_and_they_train(engine: HfEngine) -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            talk = session(sampler(engine))
            client = await opened(talk)
            messages: list[Any] = [{"role": "system", "content": "answer the question"}, user("who is the founder")]
            for text in ("search founder", "which one", "say it again"):
                reply = await client.chat.completions.create(model="m", messages=messages, logprobs=True)
                choice, exchange = reply.choices[0], talk.exchanges[-1]
                assert reply.usage is not None
                assert reply.usage.prompt_tokens == len(exchange.context_ids)
                assert choice.logprobs is not None
                given = [token.logprob for token in choice.logprobs.content or ()]
                np.testing.assert_allclose(given, exchange.completion.logprobs, rtol=1e-6)
                messages += [choice.message, user(text)]
            return talk.turns()

    turns = asyncio.run(played())
    batch = batch_of(turns)
    assert len(turns) == 3
    assert [turn.starts_context for turn in turns] == [False, False, False]
    assert batch.num_rows == 1
    assert batch.num_loss_tokens == sum(len(turn.action_ids) for turn in turns)
    np.testing.assert_allclose(batch.logprobs[batch.loss_mask], recomputed(batch), atol=2e-4)
    assert turns[1].observation == "search founder"

    learner = Learner(TINY_MODEL, LearnerConfig(lr=1e-3, updates=1, minibatches=1), seed=0, temperature=1.0)
    metrics = learner.update(batch)
    assert learner.version == 1
    assert metrics["learner/loss"] == pytest.approx(-1.0, abs=1e-3)  # all ratios are 1


def test_a_stream_is_the_same_reply_in_pieces(engine: HfEngine) -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            talk = session(sampler(engine, temperature=0.0))
            client = await opened(talk)
            asked: dict[str, Any] = {"model": "m", "messages": [user("search founder")], "tools": [SEARCH]}
            whole = (await client.chat.completions.create(**asked)).choices[0]
            stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            plain = await client.chat.completions.create(model="m", messages=[user("who is the founder")], stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in plain])
            return whole, chunks, text, talk.exchanges

    whole, chunks, text, exchanges = asyncio.run(played())
    calls = [call for chunk in chunks[:-1] for call in chunk.choices[0].delta.tool_calls or ()]
    assert whole.finish_reason == chunks[-2].choices[0].finish_reason == "tool_calls"
    assert whole.message.content is None
    assert whole.message.tool_calls[0].function.name == calls[0].function.name == "search"
    assert json.loads("".join(call.function.arguments for call in calls)) == {"query": "founder"}
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"query": "founder"}
    assert chunks[-1].usage.completion_tokens == len(exchanges[1].completion.ids)
    assert text.strip() == exchanges[2].wrote.strip() != ""


def test_a_call_and_its_answer_go_on_with_what_was_sampled(engine: HfEngine) -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            talk = session(sampler(engine, temperature=0.0))
            client = await opened(talk)
            messages: list[Any] = [user("search founder")]
            for _ in range(2):
                reply = await client.chat.completions.create(model="m", messages=messages, tools=[SEARCH])
                message = reply.choices[0].message
                call = (message.tool_calls or [None])[0]
                messages.append(message.model_dump())
                answer = {"role": "tool", "tool_call_id": call.id if call else "", "content": "search it"}
                messages.append(answer)
            return talk.exchanges, talk.turns()

    exchanges, turns = asyncio.run(played())
    first, second = exchanges
    held = np.concatenate([first.context_ids, first.completion.ids])
    np.testing.assert_array_equal(second.context_ids[: len(held)], held)
    assert not turns[1].starts_context
    assert turns[1].observation == "search it"


def test_an_edited_history_begins_a_new_span_and_only_sampled_tokens_are_trained(engine: HfEngine) -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            talk = session(sampler(engine))
            client = await opened(talk)

            async def ask(*messages: Any) -> Any:
                return (await client.chat.completions.create(model="m", messages=messages)).choices[0].message

            first = await ask(user("who is the founder"))
            second = await ask(user("who is the founder"), first, user("which one"))
            third = await ask(user("in short: who"), second, user("say it again"))  # the history was compacted
            await ask(user("in short: who"), second, user("say it again"), third, user("hello"))
            await ask(user("who is the founder"), first, user("which one"), second, user("hello"))  # back to the first
            await ask(user("who is the founder"), first, user("hello"))  # another question after the first reply
            await ask(user("who is the founder"))  # the same question once more
            return talk.exchanges, talk.turns()

    exchanges, turns = asyncio.run(played())
    said = np.concatenate([exchanges[0].context_ids, exchanges[0].completion.ids])
    np.testing.assert_array_equal(exchanges[5].context_ids[: len(said)], said)
    new = AutoTokenizer.from_pretrained(TINY_MODEL).decode(exchanges[5].context_ids[len(said) :])
    assert "hello" in new
    assert "which" not in new  # what was asked there before is not part of it
    assert [turn.starts_context for turn in turns] == [False, False, True, False, True, True, True]
    batch = batch_of(turns)
    assert batch.num_rows == 5
    trained = np.concatenate([exchange.completion.ids for exchange in exchanges])
    np.testing.assert_array_equal(batch.ids[batch.loss_mask], trained)
    np.testing.assert_allclose(batch.logprobs[batch.loss_mask], recomputed(batch), atol=2e-4)
    for turn, exchange in zip(turns, exchanges, strict=True):
        if turn.starts_context:
            np.testing.assert_array_equal(turn.observation_ids, exchange.context_ids)
    held = np.concatenate([exchanges[1].context_ids, exchanges[1].completion.ids])
    np.testing.assert_array_equal(exchanges[4].context_ids[: len(held)], held)  # as it was sampled, in a later span


def test_sessions_cannot_see_each_other_and_a_wrong_secret_is_refused(engine: HfEngine) -> None:
    async def played() -> None:
        async with gateway() as (server, opened):
            one, other = session(sampler(engine, "one")), session(sampler(engine, "other"))
            clients = [await opened(each) for each in (one, other)]
            messages: list[Any] = [user("search founder")]
            reply = await clients[0].chat.completions.create(model="m", messages=messages)
            again = [*messages, reply.choices[0].message, user("hello")]
            await asyncio.gather(*(client.chat.completions.create(model="m", messages=again) for client in clients))
            assert [len(each.exchanges) for each in (one, other)] == [2, 1]
            assert not one.turns()[1].starts_context
            assert len(other.turns()[0].observation_ids) == len(other.exchanges[0].context_ids)
            assert [model.id async for model in clients[0].models.list()] == ["turnwise"]
            wrong = clients[0].with_options(api_key="sk-wrong")
            with pytest.raises(openai.AuthenticationError, match="no session has this key"):
                await wrong.chat.completions.create(model="m", messages=messages)
            with pytest.raises(openai.AuthenticationError):
                await wrong.models.list()
            server.sessions.close(clients[1].api_key)
            with pytest.raises(openai.AuthenticationError):
                await clients[1].chat.completions.create(model="m", messages=messages)

    asyncio.run(played())


def test_several_calls_at_once_thoughts_and_a_reply_that_only_looks_like_one() -> None:
    calls = [f'<tool_call>{{"name": "search", "arguments": {{"query": "{word}"}}}}</tool_call>' for word in "ab"]
    words = (f"<think>\nhm\n</think>\n\nboth {calls[0]}\n{calls[1]}", "<tool_call>{broken</tool_call>", "search a")

    async def played() -> Any:
        async with gateway() as (_, opened):
            sample, seen = script(*words, template="qwen")
            talk = session(sample, "qwen", format="hermes", max_context=4000, max_action_tokens=400)
            client = await opened(talk)
            messages: list[Any] = [user("go")]
            replies = []
            for _ in words:
                reply = await client.chat.completions.create(model="m", messages=messages, tools=[SEARCH])
                replies.append(reply.choices[0])
                called = replies[-1].message.tool_calls or ()
                messages += [
                    replies[-1].message,
                    *({"role": "tool", "tool_call_id": each.id, "content": "7"} for each in called),
                ]
                messages += [] if called else [user("and")]
            return replies, talk.turns(), seen

    (several, broken, plain), turns, _ = asyncio.run(played())
    assert [json.loads(call.function.arguments)["query"] for call in several.message.tool_calls] == ["a", "b"]
    assert several.finish_reason == "tool_calls"
    assert broken.message.tool_calls is None
    assert broken.message.content == words[1]
    assert (plain.message.content, plain.message.tool_calls, plain.finish_reason) == ("search a", None, "stop")
    assert [turn.starts_context for turn in turns] == [False, False, False]
    assert "hm" in turns[0].action


def test_a_reply_ends_with_the_token_that_completes_a_stop() -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            sample, seen = script("think first Observation: made up, and more", "on")
            talk = session(sample, "chatml", format="text", max_context=2000, max_action_tokens=100)
            client = await opened(talk)
            asked: dict[str, Any] = {"model": "m", "stop": ["Observation:", "never"]}
            first = await client.chat.completions.create(messages=[user("go")], **asked)
            message = first.choices[0].message
            await client.chat.completions.create(messages=[user("go"), message, user("Observation: 7")], **asked)
            return first.choices[0], talk.exchanges, talk.turns(), seen

    choice, exchanges, turns, seen = asyncio.run(played())
    assert choice.finish_reason == "stop"
    assert choice.message.content == "think first "
    kept = exchanges[0].completion
    assert exchanges[0].wrote.endswith("Observation:")
    assert len(kept.ids) == len(kept.logprobs) == len(kept.versions)
    np.testing.assert_array_equal(seen[1][len(seen[0]) :][: len(kept.ids)], kept.ids)
    assert not turns[1].starts_context


def said_call(arguments: str) -> dict[str, Any]:
    """An assistant message that the policy never wrote."""
    return {"role": "assistant", "tool_calls": [{"function": {"name": "search", "arguments": arguments}}]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"n": 2}, "n may only be 1 here"),
    ({"tool_choice": "required"}, "tool_choice must be auto or none"),
    ({"response_format": {"type": "json_object"}}, "response_format may only be"),
    ({"logit_bias": {"5": 1}}, "logit_bias may only be"),
    ({"max_tokens": 0}, "max_tokens must be a whole number from 1 on"),
    ({"stop": 5}, "stop must be a text"),
    ({"stream": 1}, "stream must be true or false"),
    ({"tools": [{"type": "web"}]}, "tools must be a list of functions"),
    ({"frobnicate": 1}, "frobnicate is not supported here"),
    ({"messages": []}, "messages must be a list of at least one"),
    ({"messages": [{"role": "judge", "content": ""}]}, r"messages\.0\.role must be one of"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"messages\.0\.content must be text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "holds what is no character"),
    ({"tools": [SEARCH | {"function": SEARCH["function"] | {"description": "\ud800"}}]}, "holds what is no character"),
    *(({"messages": [said_call(text)]}, "JSON text") for text in ("{", "5", '{"query": "\\ud800"}')),
    ({"messages": [{"role": "user", "content": "founder " * 300}]}, "leave room for a reply"),
]


def test_what_is_not_understood_is_refused_in_one_line_and_nothing_is_kept() -> None:
    async def played() -> None:
        async with gateway() as (_, opened):
            sample, seen = script("on")
            talk = session(sample, "chatml", limits=Limits(max_requests=2, max_body=20_000))
            client = await opened(talk)
            for wrong, said in BAD:
                body = json.dumps({"model": "m", "messages": [user("go")]} | wrong).encode()
                with pytest.raises(openai.BadRequestError, match=said) as raised:
                    await client.post("/chat/completions", cast_to=object, content=body)
                assert "\n" not in raised.value.message
                assert raised.value.type == "invalid_request_error"
            assert raised.value.code == "context_length_exceeded"
            for content, status in ((b"{", 400), (b"[]", 400), (b" " * 20_001, 413)):
                with pytest.raises(openai.APIStatusError) as refused:
                    await client.post("/chat/completions", cast_to=object, content=content)
                assert refused.value.status_code == status
            assert talk.exchanges == []
            assert seen == []
            assert talk.refused is not None  # the longest was, and counts
            await client.chat.completions.create(model="m", messages=[user("go")], tool_choice="none", tools=[SEARCH])
            with pytest.raises(openai.PermissionDeniedError, match="has had its 2 requests"):
                await client.chat.completions.create(model="m", messages=[user("go")])

    asyncio.run(played())


def test_a_failure_of_the_engine_may_be_tried_again_and_leaves_no_turn() -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            sample, _ = script("one", EngineError("gone"), "two")
            talk = session(sample, "chatml", max_context=2000)
            client = await opened(talk)
            first = (await client.chat.completions.create(model="m", messages=[user("go")])).choices[0].message
            with pytest.raises(openai.InternalServerError, match="gone"):
                await client.chat.completions.create(model="m", messages=[user("go"), first, user("on")])
            assert isinstance(talk.error, EngineError)
            again = client.with_options(max_retries=2)
            await again.chat.completions.create(model="m", messages=[user("go"), first, user("on")])
            assert talk.error is None
            return talk.turns()

    turns = asyncio.run(played())
    assert [(turn.action, turn.starts_context) for turn in turns] == [("one", False), ("two", False)]


def test_a_caller_who_leaves_has_asked_nothing() -> None:
    async def played() -> Any:
        entered, left = asyncio.Event(), asyncio.Event()

        async def forever() -> Any:
            entered.set()
            try:
                await asyncio.sleep(3600)
            finally:
                left.set()

        async with gateway() as (_, opened):
            sample, _ = script(forever, "on")
            talk = session(sample, "chatml")
            client = await opened(talk)
            asking = asyncio.create_task(client.chat.completions.create(model="m", messages=[user("go")]))
            await asyncio.wait_for(entered.wait(), 10)
            asking.cancel()
            await asyncio.wait_for(left.wait(), 10)
            await client.chat.completions.create(model="m", messages=[user("hello")])
            return talk.turns()

    assert [turn.observation for turn in asyncio.run(played())] == ["hello"]


def test_what_waits_when_the_session_ends_is_not_answered() -> None:
    async def played() -> Any:
        entered, going = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            entered.set()
            await going.wait()
            raise EngineError("aborted")

        async with gateway() as (server, opened):
            sample, seen = script(slow, "on")
            client = await opened(session(sample, "chatml"))
            asked = [
                asyncio.create_task(client.chat.completions.create(model="m", messages=[user(text)]))
                for text in ("first", "second")
            ]
            await asyncio.wait_for(entered.wait(), 10)
            await asyncio.sleep(0.2)
            server.sessions.close(client.api_key)
            going.set()
            return len(seen), await asyncio.gather(*asked, return_exceptions=True)

    num_sampled, (first, second) = asyncio.run(played())
    assert isinstance(first, openai.InternalServerError)
    assert isinstance(second, openai.PermissionDeniedError)
    assert num_sampled == 1


def test_what_fails_here_is_remembered_as_it_was() -> None:
    async def played() -> Any:
        async with gateway() as (_, opened):
            talk = session(script(ValueError("our own"))[0], "chatml")
            client = await opened(talk)
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=[user("go")])
            with pytest.raises(openai.NotFoundError, match="nothing is at POST /v1/embeddings"):
                await client.embeddings.create(model="m", input="x")
            return talk.error

    assert repr(asyncio.run(played())) == "ValueError('our own')"
