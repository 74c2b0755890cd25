import dataclasses
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import swe_repository as purse

from turnwise import UserError
from turnwise.env.conformance import validate
from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import missing
from turnwise.tasks import TaskSet, make_env, world_of
from turnwise_envs.swe.bash import SUBMIT, BashSwe, fenced
from turnwise_envs.swe.full import FullSwe
from turnwise_envs.swe.task import Recipe

pytestmark = pytest.mark.skipif(missing(Tier.BUBBLEWRAP) is not None, reason=str(missing(Tier.BUBBLEWRAP)))

EDIT = {"path": "purse/share.py", "old": "rest - 1 else", "new": "rest else"}


OLD_TEXT = "error: purse/share.py: the old text stands there"
NO_OLD = "error: edit needs the text that is to be replaced"


def hermes(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.fixture
def tasks(tmp_path):
    return purse.write(tmp_path, purse.line(0), purse.line(1))


@pytest.fixture
def env(tasks):
    made = make_env("turnwise/SWE-v0", {"tasks": tasks})
    made.reset(seed=0)
    yield made
    made.close()


def said(env, name, **arguments):
    return env.step(hermes(name, **arguments))[0][0]["content"]


def channels(info):
    return {event.channel: event.value for event in info["events"]}


@pytest.mark.parametrize("tools", ["full", "bash"])
def test_both_sets_of_tools_keep_every_promise(tasks, tools):
    checks = validate("turnwise/SWE-v0", {"tasks": tasks, "tools": tools}, limit_s=60.0)
    assert [f"{check.name}: {check.detail}" for check in checks if not check.passed] == []


def test_an_agent_that_explores_edits_and_submits_is_paid_by_channel(env):
    assert "purse-0" in env.unwrapped.state_key()
    assert "def shares" in said(env, "search", pattern="def shares")
    assert "    20      return [each + 1 if place < rest - 1" in said(
        env, "view", path="purse/share.py", first=15, last=25
    )
    assert "1 failed" in said(env, "bash", command="python3 -m pytest -q test_issue.py")
    _, reward, _, _, info = env.step(hermes("edit", **EDIT))
    assert (reward, channels(info)) == (1.0, {"progress": 1.0})
    assert "1 passed" in said(env, "bash", command="python3 -m pytest -q test_issue.py")
    _, _, terminated, _, info = env.step(hermes("submit"))
    found = channels(info)
    assert terminated
    assert found.pop("outcome") == 1.0
    assert found == {f"test/{name}": 1.0 for name in purse.FAIL_TO_PASS + purse.PASS_TO_PASS}
    assert set(world_of(env).gold()["tests"]) == set(purse.FAIL_TO_PASS + purse.PASS_TO_PASS)


def test_an_agent_that_submits_nothing_gets_0_and_the_tests_that_pass(env):
    _, _, _, _, info = env.step(hermes("submit"))
    found = channels(info)
    assert found.pop("outcome") == 0.0
    assert sum(found.values()) == len(purse.PASS_TO_PASS)


def test_the_shell_remembers_its_folder_and_variables_and_nothing_that_runs(env):
    said(env, "bash", command="export KEY='a b'; cd purse; sleep 100 &")
    assert said(env, "bash", command='echo "$KEY"; basename $(pwd); pgrep sleep') == "a b\npurse\n[exit status 1]"
    assert said(env, "bash", command="cd /; exit 3") == "[exit status 3]"
    assert said(env, "bash", command="pwd") == "/"
    assert said(env, "bash", command="if then").endswith("[exit status 2]")
    assert said(env, "bash", command="true") == "[no output]"


def test_a_command_that_hangs_or_floods_is_an_observation(tasks):
    env = make_env("turnwise/SWE-v0", {"tasks": tasks, "command_s": 2.0, "shown_bytes": 300})
    try:
        env.reset(seed=0)
        assert said(env, "bash", command="echo first; sleep 100") == "first\n[ended after 2 s]"
        assert said(env, "bash", command="head -c 1G /dev/zero | tr '\\0' x").count("bytes left out") == 1
        assert "\ufffd" in said(env, "bash", command="head -c 100 /dev/urandom")
        assert "bytes left out" in said(env, "bash", command="seq 100000")
        assert said(env, "bash", command="pwd").endswith("repo")
    finally:
        env.close()


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (("view", {"path": "none.py"}), "error: none.py: missing"),
        (("view", {"path": "purse"}), "error: purse: not a file"),
        (("view", {"path": "purse/share.py", "first": 9, "last": 3}), "error: view needs 1 <= first <= last"),
        (("edit", {"path": "purse/share.py", "old": "name", "new": "x"}), f"{OLD_TEXT} 11 times, not once"),
        (("edit", {"path": "purse/share.py", "old": "no such", "new": "x"}), f"{OLD_TEXT} 0 times, not once"),
        (("edit", {"path": "purse/share.py", "old": "", "new": "x"}), NO_OLD),
        (("bash", {"command": " "}), "error: bash needs a command"),
        (("bash", {"command": "a\0b"}), "error: a command has no NUL and at most 100000 bytes"),
        (("bash", {"command": "x" * 100_001}), "error: a command has no NUL and at most 100000 bytes"),
    ],
)  # fmt: skip
def test_an_action_that_cannot_be_carried_out_costs_format(env, call, answer):
    messages, reward, _, _, info = env.step(hermes(call[0], **call[1]))
    assert (messages[0]["content"], reward, info["is_valid"]) == (answer, -1.0, False)


def test_a_bad_search_is_an_observation(env):
    assert said(env, "search", pattern="(").startswith("error: grep")
    assert said(env, "search", pattern="no such thing") == "nothing found"


def test_a_message_of_the_bash_set_holds_one_block_and_a_line_submits(tasks):
    env = make_env("turnwise/SWE-v0", {"tasks": tasks, "tools": "bash"})
    try:
        env.reset(seed=0)
        for text in ("hello", fenced("ls") + "\n" + fenced("ls"), "```python\nx\n```", fenced("")):
            assert not env.step(text)[4]["is_valid"]
        assert env.step(f"I look.\n\n{fenced('ls')}\n")[0][0]["content"].split() == [
            "README.md",
            "purse",
            "test_issue.py",
            "tests",
        ]
        assert env.step(fenced(f"echo {SUBMIT}"))[2]
    finally:
        env.close()


@pytest.mark.parametrize("tools", ["full", "bash"])
@pytest.mark.parametrize("mistakes", [0.0, 0.4])
def test_demonstrations_solve_the_task_unless_they_slip(tasks, tools, mistakes):
    env = make_env("turnwise/SWE-v0", {"tasks": tasks, "tools": tools, "mistakes": mistakes})
    world, rng, outcomes = world_of(env), np.random.default_rng(1), []
    try:
        for _ in range(4 if mistakes else 1):
            env.reset(seed=0)
            info, over = {}, False
            while not over:
                _, _, over, _, info = env.step(world.demonstrate(rng))
            outcomes.append(channels(info)["outcome"])
    finally:
        env.close()
    assert 1.0 in outcomes


def test_the_oracle_knows_edits_towards_the_gold_patch_and_their_states_differ(env):
    world = world_of(env)
    before = world.state_key()
    assert world.oracle(hermes("edit", **EDIT)) == 1.0
    assert world.oracle(hermes("edit", path="purse/share.py", old="rest - 1 else", new="rest - 2 else")) == 0.0
    assert world.oracle(hermes("edit", path="README.md", old="# Purse", new="# Bag")) == 0.0
    assert world.oracle(hermes("submit")) == 0.0
    assert world.oracle(hermes("view", path="x")) is None
    assert world.oracle("nonsense") == -1.0
    assert world.state_key() == before
    env.step(hermes("edit", **EDIT))
    assert world.oracle(hermes("submit")) == 1.0
    assert world.state_key() != before
    env.step(hermes("bash", command="sed -i 's/< rest else/< rest - 1 else/' purse/share.py"))
    assert world.state_key() == before


def test_progress_is_paid_once_and_by_the_trusted_reproduction(env):
    fake = "printf 'def test_x():\\n    pass\\n' > test_issue.py"
    assert channels(env.step(hermes("bash", command=fake))[4]) == {}
    assert channels(env.step(hermes("edit", **EDIT))[4]) == {"progress": 1.0}
    back = {**EDIT, "old": EDIT["new"], "new": EDIT["old"]}
    assert channels(env.step(hermes("edit", **back))[4]) == {}
    assert channels(env.step(hermes("edit", **EDIT))[4]) == {}


def test_splits_are_files_of_their_own(tasks, tmp_path):
    (tmp_path / "held").mkdir()
    held = purse.write(tmp_path / "held", purse.line(9))
    given = {"tasks": [tasks, held], "eval_tasks": held}
    assert TaskSet.of("turnwise/SWE-v0", given, "train", 0).num_tasks == 3
    assert TaskSet.of("turnwise/SWE-v0", given, "eval", 0).num_tasks == 1
    env = make_env("turnwise/SWE-v0", given)
    _, info = env.reset(seed=0, options={"split": "eval"})
    assert info["gold"]["instance_id"] == "purse-9"
    with pytest.raises(UserError, match="empty task set"):
        TaskSet.of("turnwise/SWE-v0", {"tasks": tasks}, "eval", 0)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({}, "env.kwargs.tasks=None: no task file"),
        ({"tasks": "none.jsonl"}, "env.kwargs.tasks=none.jsonl: cannot be read"),
        ({"tasks": [7]}, "no path"),
        ({"tools": "hammer"}, "env.kwargs.tools=hammer: no such set of tools"),
        ({"max_turn": 3}, "takes no such argument; did you mean max_turns?"),
        ({"max_turns": 0}, "env.kwargs.max_turns=0: out of range"),
        ({"mistakes": 2}, "env.kwargs.mistakes=2: not a probability"),
        ({"shown_bytes": "x"}, "env.kwargs.shown_bytes=x: out of range"),
        ({"command_s": 1000.0}, "env.kwargs.command_s=1000.0: not seconds"),
        ({"deadline_s": 0}, "env.kwargs.deadline_s=0: not seconds"),
        ({"sandbox": {"memory": 3}}, "env.kwargs.sandbox"),
        ({"sandbox": {"memory_mb": "much"}}, "env.kwargs.sandbox"),
        ({"sandbox": {"memory_mb": 1}}, "env.kwargs.sandbox.memory_mb=1: is too small"),
        ({"sandbox": {"read_only": ["/etc"]}}, "env.kwargs.sandbox.read_only"),
        ({"sandbox": {"minimum": "process"}}, "env.kwargs.sandbox.minimum"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(tasks, kwargs, problem):
    given = {"tasks": tasks, **kwargs} if kwargs else {}
    with pytest.raises(UserError) as raised:
        make_env("turnwise/SWE-v0", given)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"turnwise": None}, "has neither an archive"),
        ({"FAIL_TO_PASS": ["test_x (module.Class)"]}, "no test as pytest names it"),
    ],
)
def test_a_task_that_cannot_be_run_here_is_an_error_that_names_its_line(tmp_path, change, problem):
    path = purse.write(tmp_path, {**purse.line(), **change})
    with pytest.raises(UserError, match=problem) as raised:
        make_env("turnwise/SWE-v0", {"tasks": path})
    assert f"{path}:1" in str(raised.value)


def test_a_missing_archive_is_told_before_anything_starts(tmp_path):
    path = purse.write(tmp_path, purse.line(archive="repos/none.tar"))
    with pytest.raises(UserError, match=r"none\.tar is not there"):
        make_env("turnwise/SWE-v0", {"tasks": path})


@pytest.mark.parametrize("kind", [FullSwe, BashSwe])
def test_the_arguments_are_those_of_the_page(kind):
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
    table = page.split("## turnwise/SWE-v0\n")[1].split("\n**Tools.**")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    written = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"kwargs"}
    assert written == set(inspect.signature(kind).parameters) - {"render_mode"} | {"tools"}


def test_the_keys_of_a_task_are_those_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
    table = page.split("### Tasks\n")[1].split("| key | what it is |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [field.name for field in dataclasses.fields(Recipe)]


def test_guidance_names_the_place_and_the_tests_that_fail_but_not_the_change(tmp_path):
    place = {"path": "purse/share.py", "first_line": 1, "last_line": 9, "name": "share"}
    line = purse.line(0)
    line["turnwise"] = {**line["turnwise"], "functions": [place]}
    env = make_env("turnwise/SWE-v0", {"tasks": purse.write(tmp_path, line)})
    env.reset(seed=0)
    assert "submitted nothing" in world_of(env).guide()
    env.step(hermes("submit"))
    guidance = world_of(env).guide()
    assert "share in purse/share.py" in guidance
    assert line["FAIL_TO_PASS"][0] in guidance
    assert EDIT["new"] not in guidance
    env.close()


def test_there_is_no_guidance_where_the_place_is_not_known(tmp_path):
    line = purse.line(0)
    line["turnwise"] = {key: value for key, value in line["turnwise"].items() if key != "functions"}
    env = make_env("turnwise/SWE-v0", {"tasks": purse.write(tmp_path, line)})
    env.reset(seed=0)
    assert world_of(env).guide() is None
    env.close()
