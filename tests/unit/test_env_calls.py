import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise import InvalidAction
from turnwise.env.calls import ToolCall, call_of, parse_compact, parse_hermes, spell_compact, spell_hermes


def _schema(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": []}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = [
    _schema("answer", text={"type": "string"}, citations={"type": "array", "items": {"type": "string"}}),
    _schema("add", a={"type": "integer"}, b={"type": "number"}, is_sum={"type": "boolean"}),
    _schema("pick", numbers={"type": "array", "items": {"type": "integer"}}),
    _schema("stop"),
]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("answer Oslo | Acme notes ; Vera archive", {"text": "Oslo", "citations": ["Acme notes", "Vera archive"]}),
        ("  answer   Oslo  ", {"text": "Oslo"}),
        ("answer Oslo |", {"text": "Oslo", "citations": []}),
        ("answer | Acme notes", {"text": "", "citations": ["Acme notes"]}),
        ("answer a|b", {"text": "a|b"}),
        ("answer\nOslo", {"text": "Oslo"}),
        ("add 3 | 2.5 | True", {"a": 3, "b": 2.5, "is_sum": True}),
        ("add three | x | maybe", {"a": "three", "b": "x", "is_sum": "maybe"}),
        ("pick 1 ; 2 ; x", {"numbers": [1, 2, "x"]}),
        ("stop", {}),
    ],
)
def test_compact_calls_are_read_in_the_schemas_order(text: str, arguments: dict[str, Any]) -> None:
    assert parse_compact(text, TOOLS).arguments == arguments


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected one of answer, add, pick, stop"),
        ("foo bar", "unknown tool foo; expected one of answer, add, pick, stop"),
        ("stop now", "stop takes at most 0 arguments, got 1"),
    ],
)
def test_a_compact_call_of_nothing_is_refused_in_one_line(text: str, error: str) -> None:
    with pytest.raises(InvalidAction, match=f"^{error}$"):
        parse_compact(text, TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>{</tool_call>",
        "<tool_call>7</tool_call>",
        '<tool_call>{"name": 7}</tool_call>',
        '<tool_call>{"name": "stop", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "stop", "arguments": "{"}</tool_call>',
        '<tool_call>{"name": "stop"}</tool_call><tool_call>{"name": "stop"}</tool_call>',
        f"<tool_call>{'[' * 100_000}</tool_call>",
        f'<tool_call>{{"name": "stop", "arguments": {{"a": {"9" * 5000}}}}}</tool_call>',
        '<tool_call>{"name": "stop", "arguments": {"a": "\\ud800"}}</tool_call>',
    ],
)
def test_a_malformed_hermes_call_is_an_invalid_action(text: str) -> None:
    with pytest.raises(InvalidAction) as caught:
        parse_hermes(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "calls", [7, "x", [None], [7], [{}], [{"function": 7}], [{"function": {"name": "a", "arguments": 7}}], [{}, {}]]
)
def test_malformed_tool_calls_of_a_message_are_invalid_actions(calls: Any) -> None:
    with pytest.raises(InvalidAction):
        call_of({"role": "assistant", "content": "stop", "tool_calls": calls}, TOOLS)


@pytest.mark.parametrize("arguments", [{"a": 3}, '{"a": 3}'])
def test_arguments_may_be_an_object_or_its_json_text(arguments: Any) -> None:
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": arguments}}],
    }
    assert call_of(message, TOOLS) == ToolCall(name="add", arguments={"a": 3})


def test_a_message_without_tool_calls_is_read_from_its_text() -> None:
    hermes = 'so I say <tool_call>{"name": "add", "arguments": {"a": 3}}</tool_call>'
    for text in ("add 3", hermes):
        assert call_of({"role": "assistant", "content": text}, TOOLS) == ToolCall(name="add", arguments={"a": 3})


words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(text=words, citations=st.lists(words, min_size=1, max_size=3))
def test_what_is_spelt_is_read_back(text: str, citations: list[str]) -> None:
    call = ToolCall(name="answer", arguments={"text": text, "citations": citations})
    assert parse_compact(spell_compact(call), TOOLS) == call
    assert parse_hermes(spell_hermes(call)) == call


@given(st.text(max_size=60))
def test_any_text_is_a_call_or_an_invalid_action(text: str) -> None:
    for wrapped in (text, f"<tool_call>{text}</tool_call>", f"answer {text}"):
        with contextlib.suppress(InvalidAction):
            assert call_of({"role": "assistant", "content": wrapped}, TOOLS).name
