from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import pytest

from turnwise import InvalidAction, ToolEnv, tool
from turnwise.env.tools import read_tools

if TYPE_CHECKING:
    from turnwise import Observation


class DeskEnv(ToolEnv):
    """A desk with tools of every supported type."""

    def begin(self, options: Mapping[str, Any]) -> str:
        return "what now"

    @tool
    def note(self, text: str, copies: int = 1, to: str | None = None) -> Observation:
        """Write a note.

        It is kept.

        Args:
            text: what to write
            copies (int): how many
            nobody: is no parameter
        """
        return f"{text} {copies} {to}"

    @tool
    def weigh(
        self, grams: float, is_net: bool, colour: Literal["red", "blue"] = "red", level: Literal[1, 2] = 1
    ) -> str:
        """Weigh it."""
        return f"{grams!r} {is_net} {colour} {level}"

    @tool
    def gather(self, names: list[str], counts: list[int] | None = None) -> list[dict[str, Any]]:
        return [{"role": "tool", "content": name} for name in names]

    @tool
    def stop(self) -> str:
        """End."""
        self.finish()
        return "stopped"

    def helper(self, anything: Any) -> None:
        """Not a tool."""


@pytest.fixture
def env() -> DeskEnv:
    env = DeskEnv()
    env.reset(seed=0)
    return env


def _call(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def test_schemas_follow_from_hints_and_docstrings(env: DeskEnv) -> None:
    note, weigh, gather, stop = (schema["function"] for schema in env.tools)
    assert all(schema["type"] == "function" for schema in env.tools)
    assert note == {
        "name": "note",
        "description": "Write a note.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "what to write"},
                "copies": {"type": "integer", "description": "how many", "default": 1},
                "to": {"type": "string"},
            },
            "required": ["text"],
        },
    }
    properties = weigh["parameters"]["properties"]
    assert [properties[key]["type"] for key in properties] == ["number", "boolean", "string", "integer"]
    assert properties["colour"]["enum"] == ["red", "blue"]
    assert weigh["parameters"]["required"] == ["grams", "is_net"]
    assert gather["parameters"]["properties"]["names"] == {"type": "array", "items": {"type": "string"}}
    assert gather["description"] == ""
    assert stop["parameters"] == {"type": "object", "properties": {}, "required": []}


def test_schemas_are_made_once_a_class() -> None:
    assert DeskEnv().tools is DeskEnv().tools


def test_answers_are_tool_messages_and_the_first_observation_is_the_users(env: DeskEnv) -> None:
    assert env.reset(seed=0)[0] == [{"role": "user", "content": "what now"}]
    assert env.step("note hello | 2")[0] == [{"role": "tool", "content": "hello 2 None"}]
    assert [message["content"] for message in env.step("gather a ; b")[0]] == ["a", "b"]
    assert env.step("stop")[2] is True


def test_json_and_compact_calls_reach_the_method(env: DeskEnv) -> None:
    assert env.step(_call("note", text="hi", to=None))[0][0]["content"] == "hi 1 None"
    assert env.step(_call("weigh", grams=2, is_net=False, colour="blue"))[0][0]["content"] == "2.0 False blue 1"
    assert env.step("weigh 2 | true | blue | 2")[0][0]["content"] == "2.0 True blue 2"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (_call("note"), "note needs text"),
        (_call("weigh", colour="red"), "weigh needs grams, is_net"),
        (_call("note", text="a", size=3), "note has no argument size; expected text, copies, to"),
        (_call("stop", now=True), "stop has no argument now; expected none"),
        (_call("note", text=3), "note needs text to be text"),
        (_call("note", text=None), "note needs text to be text"),
        (_call("note", text="a", copies=True), "note needs copies to be a whole number"),
        (_call("note", text="a", copies=1.5), "note needs copies to be a whole number"),
        (_call("weigh", grams="2", is_net=True), "weigh needs grams to be a number"),
        (_call("weigh", grams=float("nan"), is_net=True), "weigh needs grams to be a number"),
        (_call("weigh", grams=10**400, is_net=True), "weigh needs grams to be a number"),
        (_call("weigh", grams=2, is_net=1), "weigh needs is_net to be true or false"),
        (_call("weigh", grams=2, is_net=True, colour="green"), "weigh needs colour to be one of red, blue"),
        (_call("weigh", grams=2, is_net=True, level=True), "weigh needs level to be one of 1, 2"),
        (_call("gather", names=["a", 3]), "gather needs names to be a list of text"),
        (_call("gather", names="a"), "gather needs names to be a list of text"),
        ("helper x", "unknown tool helper; expected one of note, weigh, gather, stop"),
        (_call("helper", anything=1), "unknown tool helper; expected one of note, weigh, gather, stop"),
        ("", "expected one of note, weigh, gather, stop"),
    ],
)
def test_arguments_that_do_not_fit_are_answered_in_one_line(env: DeskEnv, action: str, error: str) -> None:
    messages, _, _, _, info = env.step(action)
    assert messages == [{"role": "tool", "content": f"error: {error}"}]
    assert info["is_valid"] is False


def test_an_instance_may_offer_tools_that_are_no_methods_of_its_own() -> None:
    class Lamp:
        @tool
        def light(self, level: int) -> str:
            """Make light."""
            return f"level {level}"

    class LampEnv(DeskEnv):
        def _perform(self, call: Any) -> Any:
            return Lamp().light(**call.arguments)

    env, other = LampEnv(), LampEnv()
    env._offer(read_tools(Lamp))
    assert [schema["function"]["name"] for schema in env.tools] == ["light"]
    assert other.tools is LampEnv().tools is not env.tools
    env.reset(seed=0)
    messages, *_, info = env.step("light 3")
    assert (messages[0]["content"], info["call"]) == ("level 3", {"name": "light", "arguments": {"level": 3}})
    assert env.step("light high")[0][0]["content"] == "error: light needs level to be a whole number"
    assert env.step("stop")[0][0]["content"] == "error: unknown tool stop; expected one of light"


def test_a_subclass_inherits_overrides_and_adds_tools() -> None:
    class LargeDeskEnv(DeskEnv):
        def stop(self) -> str:
            return "never"

        @tool
        def shout(self, text: str) -> str:
            """Shout."""
            return text.upper()

    env = LargeDeskEnv()
    env.reset(seed=0)
    assert [schema["function"]["name"] for schema in env.tools] == ["note", "weigh", "gather", "stop", "shout"]
    assert env.step("stop")[0][0]["content"] == "never"
    assert env.step("shout a")[0][0]["content"] == "A"
    assert len(DeskEnv().tools) == 4


def _begin(self: ToolEnv, options: Mapping[str, Any]) -> str:
    return ""


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({}, "needs a type hint"),
        ({"x": dict}, "has type <class 'dict'>"),
        ({"x": "Nowhere"}, "unknown at the module's top level"),
        ({"x": int | str}, "has type int | str"),
        ({"x": list}, "has type <class 'list'>"),
    ],
)
def test_a_tool_without_a_possible_schema_is_a_type_error_that_names_it(
    annotations: dict[str, Any], problem: str
) -> None:
    def bad(self: ToolEnv, x):  # type: ignore[no-untyped-def]
        return ""

    bad.__annotations__ = annotations
    with pytest.raises(TypeError, match=rf"BadEnv\.bad.*{problem}".replace("|", r"\|")):
        type("BadEnv", (ToolEnv,), {"begin": _begin, "bad": tool(bad)})


def test_a_tool_takes_no_star_arguments_and_no_name_that_environments_have() -> None:
    def many(self: ToolEnv, *texts: str) -> str:
        return ""

    with pytest.raises(TypeError, match="must be an ordinary one"):
        type("BadEnv", (ToolEnv,), {"begin": _begin, "many": tool(many)})
    with pytest.raises(TypeError, match="cannot be named 'step'"):
        type("BadEnv", (ToolEnv,), {"begin": _begin, "step": tool(many)})


def test_read_call_checks_without_calling(env: DeskEnv) -> None:
    assert env.read_call({"role": "assistant", "content": "stop"}).name == "stop"
    with pytest.raises(InvalidAction):
        env.read_call({"role": "assistant", "content": "stop now"})
    assert env.num_turns == 0
