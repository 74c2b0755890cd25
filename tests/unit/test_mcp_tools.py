"""What a server of the Model Context Protocol says, as an agent is shown it, and the tasks over it."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mcp_pieces import written
from mcp_types import CallToolResult

from turnwise import InvalidAction, UserError
from turnwise.errors import EnvError
from turnwise_envs.mcp.tasks import load_tasks
from turnwise_envs.mcp.tools import Offered, Result, catalogue, cut, read_result


def offered(name="find", **shape):
    return Offered(name=name, description="", parameters={"type": "object", **shape})


def test_names_become_identifiers_and_none_is_there_twice():
    names = ["odd-name!", "odd_name_", "7up", "answer", "名前", "", "x" * 99, "ok"]
    tools = catalogue([offered(name) for name in names], ["answer"])
    assert [tool.real_name for tool in tools.values()] == names
    shown = list(tools)
    assert shown[:6] == ["odd_name_", "odd_name__2", "t7up", "answer_2", "__", "tool"]
    assert all(name.isidentifier() and name.isascii() and len(name) < 70 for name in shown)
    assert [tool.schema["function"]["name"] for tool in tools.values()] == shown


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([offered("a"), offered("a")], "the tool 'a' twice"),
        ([offered(properties=[1])], "'find' has no usable schema"),
        ([offered(properties={"x": 7})], "no usable schema"),
        ([offered(properties={"x": {"type": "text"}})], "'text' is not valid"),
        ([Offered(name="find", description="", parameters={"type": "string"})], "its arguments are no object"),
        ([offered(description="x" * 2_000_000)], "more than 1000000 characters"),
    ],
)
def test_a_list_of_tools_that_no_agent_can_be_shown_is_the_servers_failure(tools, said):
    with pytest.raises(EnvError, match=said):
        catalogue(tools, [])


def test_arguments_are_checked_and_not_converted():
    shape = {"properties": {"n": {"type": "integer", "maximum": 9}, "any": True}, "required": ["n"]}
    tool = catalogue([offered(**shape, additionalProperties=False)], [])["find"]
    assert tool.schema["function"]["parameters"]["properties"]["any"] == {}
    assert tool.check({"n": 3, "any": [None]}) == {"n": 3, "any": [None]}
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for arguments, said in [
        ({"n": "3"}, "find n: '3' is not of type 'integer'"),
        ({"n": 10}, "find n: 10 is greater than the maximum of 9"),
        ({}, "find: 'n' is a required property"),
        ({"n": 1, "m": 1}, "find: Additional properties are not allowed"),
        ({"n": 1, "any": "\ud800"}, "not plain JSON"),
        ({"n": 1, "any": float("nan")}, "not plain JSON"),
        ({"n": 1, "any": deep}, "not plain JSON"),
    ]:
        with pytest.raises(InvalidAction, match=said):
            tool.check(arguments)


def test_no_pattern_of_the_servers_is_run_and_nothing_is_fetched():
    shape = {
        "properties": {"pattern": {"type": "string", "pattern": "^(a+)+$"}, "far": {"$ref": "http://127.0.0.1:9/x"}},
        "patternProperties": {"^(a+)+$": {}},
        "additionalProperties": False,
    }
    tool = catalogue([offered(**shape)], [])["find"]
    began = time.perf_counter()
    assert tool.check({"pattern": "a" * 40 + "!", "a" * 40 + "!": 1})
    assert tool.check({"far": 1}) == {"far": 1}
    assert time.perf_counter() - began < 1
    assert tool.schema["function"]["parameters"]["properties"]["pattern"]["pattern"] == "^(a+)+$"
    with pytest.raises(InvalidAction, match="find pattern: 1 is not of type 'string'"):
        tool.check({"pattern": 1})


def test_results_are_texts_with_notes_for_the_rest():
    found = read_result(
        CallToolResult.model_validate(
            {
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "data": "AAAA", "mimeType": "image/png"},
                    {"type": "resource_link", "uri": "file:///a", "name": "a"},
                    {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
                    {"type": "resource", "resource": {"uri": "file:///c", "blob": "AAAA"}},
                ]
            }
        )
    )
    assert found.text == "see\n[image image/png, 3 bytes]\n[resource file:///a]\ninside\n[resource file:///c]"
    assert not found.is_error
    said = SimpleNamespace(content=[], structured_content={"result": 3}, is_error=False)
    assert read_result(said) == Result(text="3", is_error=False, value=3)
    assert cut("x" * 300, 100) == "x" * 100 + "\n[300 characters, 100 shown]"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"tasks.jsonl:1: not JSON"),
        ("[]", "not a JSON object"),
        ('{"prompt": "p"}', 'neither "answer" nor "check"'),
        ('{"prompt": " ", "answer": "a"}', '"prompt" must be a text'),
        ('{"prompt": "p", "answer": [1]}', '"answer" a text or a list of texts'),
        ('{"prompt": "p", "answer": "a", "anwser": 1}', 'unknown key "anwser"'),
        ('{"prompt": "p", "check": "grade"}', '"check" must be a call'),
        ('{"prompt": "p", "check": {"name": "c", "arguments": []}}', '"check" must be a call'),
        ('{"prompt": "p", "answer": "a", "calls": [{"tool": "x"}]}', '"calls" must be a call'),
        ('{"prompt": "p", "answer": "a", "split": "test"}', '"split" must be one of'),
        ("", "empty task set"),
        (
            '{"prompt": "p", "answer": "a"}\n{"prompt": "p", "answer": "b", "split": "eval"}',
            "'p' stands in both splits",
        ),
        ('{"id": "i", "prompt": "p", "answer": "a"}\n{"id": "i", "prompt": "q", "answer": "b"}', "'i' is there twice"),
    ],
)
def test_a_bad_line_of_tasks_is_the_users_mistake(tmp_path: Path, line, said):
    path = tmp_path / "tasks.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=said) as raised:
        load_tasks(str(path))
    assert "\n" not in str(raised.value)


def test_a_check_decides_or_is_a_failure_and_never_a_guess(tmp_path: Path):
    tasks = [
        {"prompt": str(number), "check": check}
        for number, check in enumerate([{"name": "c"}, {"name": "c", "expect": True}])
    ]
    free, expecting = (task.check for task in load_tasks(written(tmp_path, *tasks))["train"])
    for value, outcome in [(1, 1.0), (0.25, 0.25), (True, 1.0), (False, 0.0)]:
        assert free.verdict(Result(text="", is_error=False, value=value)) == outcome
    assert expecting.verdict(Result(text="", is_error=False, value=True)) == 1.0
    assert expecting.verdict(Result(text="", is_error=False, value=1)) == 0.0
    for value in ("well done", 2, None, {"score": 1}, json.loads("NaN")):
        with pytest.raises(EnvError, match="no number from 0 to 1"):
            free.verdict(Result(text="", is_error=False, value=value))
    with pytest.raises(EnvError, match="the check c failed: broken"):
        free.verdict(Result(text="broken", is_error=True, value=1))
