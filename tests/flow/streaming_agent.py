"""An agent program for the tests: asynchronous, and its first reply is streamed."""

import asyncio
import sys

from openai import AsyncOpenAI

from openai_agent import carry_out, functions


async def streamed(client, **asked):
    """The message that the pieces of a stream make."""
    text, calls = "", {}
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for piece in delta.tool_calls or ():
            begun = calls.setdefault(piece.index, piece.model_dump())
            if begun["id"] != piece.id:
                begun["function"]["arguments"] += piece.function.arguments
    message = {"role": "assistant", "content": text}
    return message | {"tool_calls": list(calls.values())} if calls else message


async def whole(client, **asked):
    return (await client.chat.completions.create(**asked)).choices[0].message.model_dump(exclude_none=True)


async def main():
    client, tools, ask = AsyncOpenAI(), functions(), streamed
    messages = [{"role": "user", "content": sys.stdin.read()}]
    while True:
        message = await ask(client, model="policy", messages=messages, tools=tools)
        messages.append(message)
        if carry_out(message.get("tool_calls", ()), messages):
            return
        if "tool_calls" not in message:
            messages.append({"role": "user", "content": "Call one of the tools."})
        ask = whole


asyncio.run(main())
