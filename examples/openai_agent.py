"""An agent as it is found anywhere: the `openai` client, the tools of an MCP server, and a loop around them.

It knows nothing of Turnwise: its task comes from its input, the model is at OPENAI_BASE_URL, and the tools are at
TURNWISE_MCP_URL. `agent: {name: program, command: [python, <the full path of this file>]}` trains its model.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from openai import OpenAI


def ask_server(method: str, **params: Any) -> dict[str, Any]:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {
        "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    with urllib.request.urlopen(urllib.request.Request(os.environ["TURNWISE_MCP_URL"], body, headers)) as answer:
        return json.load(answer)["result"]


def functions() -> list[Any]:
    tools = ask_server("tools/list")["tools"]
    parts = [{**tool, "parameters": tool["inputSchema"]} for tool in tools]
    names = ("name", "description", "parameters")
    return [{"type": "function", "function": {name: part[name] for name in names}} for part in parts]


def carry_out(calls: Any, messages: list[Any]) -> bool:
    """Append what comes of the calls; return whether it is all over."""
    for call in calls:
        name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
        result = ask_server("tools/call", name=name, arguments=arguments)
        text = "\n".join(part["text"] for part in result["content"])
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        if result.get("structuredContent", {}).get("is_over"):
            return True
    return False


def main() -> None:
    model, tools = OpenAI(), functions()
    messages: list[Any] = [{"role": "user", "content": sys.stdin.read()}]
    while True:
        reply = model.chat.completions.create(model="policy", messages=messages, tools=tools).choices[0].message
        calls = reply.model_dump()["tool_calls"] or ()
        messages.append(reply)
        if carry_out(calls, messages):
            return
        if not calls:
            messages.append({"role": "user", "content": "Call one of the tools."})


if __name__ == "__main__":
    main()
