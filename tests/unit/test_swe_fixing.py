"""The set of tools `operators`: small edits, the failing test's answers, hidden tests that decide."""

import io
import json
import tarfile

import numpy as np
import pytest

from turnwise.env.conformance import validate
from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import missing
from turnwise.tasks import make_env, world_of

CLIMB = '''"""Heights of a walk."""


def climb(steps, least=0):
    total = 0
    for step in steps:
        if step > least:
            total += step
    return total


def double(steps):
    return climb(steps) * 2
'''
HIDDEN = """import hills


def test_climb():
    assert hills.climb([1, -2, 3]) == 4


def test_least():
    assert hills.climb([1, 2, 3], least=1) == 5


def test_double():
    assert hills.double([]) == 0
"""
FILES = {
    "hills/__init__.py": "from hills.climb import climb, double\n",
    "hills/climb.py": CLIMB,
    "test_hills.py": HIDDEN,
}
BUG = """--- a/hills/climb.py
+++ b/hills/climb.py
@@ -4,6 +4,6 @@
 def climb(steps, least=0):
     total = 0
     for step in steps:
-        if step > least:
+        if step < least:
             total += step
     return total
"""
ISSUE = """from hills import climb


def test_climb():
    assert climb([1, -2, 3]) == 4
"""


@pytest.fixture
def tasks(tmp_path):
    """Write a task file with one small repository, and return its path."""
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    with tarfile.open(tmp_path / "hills.tar", "w") as archive:
        for path, text in FILES.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    recipe = {"archive": "hills.tar", "bug": BUG, "hidden": ["test_hills.py"], "added": {"test_issue.py": ISSUE}}
    line = {
        "instance_id": "hills-1",
        "repo": "hills",
        "problem_statement": "climb adds up what goes down.",
        "FAIL_TO_PASS": ["test_hills.py::test_climb", "test_hills.py::test_least"],
        "PASS_TO_PASS": ["test_hills.py::test_double"],
        "turnwise": {**recipe, "reproduction": ["python3", "-m", "pytest", "test_issue.py"]},
    }
    path = tmp_path / "hills.jsonl"
    path.write_text(json.dumps(line) + "\n")
    return path


def opened(tasks, **kwargs):
    env = make_env("turnwise/SWE-v0", {"tools": "operators", "tasks": str(tasks), **kwargs})
    messages, info = env.reset(seed=0)
    return env, messages[0]["content"], info


def events(info):
    return {event.channel: event.value for event in info["events"]}


def number_of(env, line):
    """Return the action that makes a line of the file this."""
    known = world_of(env).known
    for (change, line_label), edits in known.attempts.items():
        if any(line in known.edited(at)[1].splitlines() for at in edits):
            return f"fix {change} | {line_label}"
    raise AssertionError(line)


def change_of(action):
    """Return the change and the line that an action names."""
    return tuple(action.removeprefix("fix ").split(" | "))


def batched(listed):
    """Return the changes and lines of a list."""
    words = listed.split()
    return zip(words[::2], words[1::2], strict=True)


def test_the_function_that_fails_is_shown_in_few_words(tasks):
    env, text, _ = opened(tasks)
    assert text.startswith("i0 def g0 ( v0 , v1 = 0 ) : L1 i1 v2 = 0 L2 i1 for v3 in v0 : L3 i2 if v3 < v1 : L4 ")
    functions, _, listed = text.partition(" fails AssertionError ; ")
    assert functions.endswith(" i1 return v2 L6")
    pairs = list(batched(listed))
    assert pairs == list(world_of(env).known.attempts)
    assert [line for change, line in pairs if change == "1"] == ["L2", "L1"]
    assert {(">", "L4"), ("-", "L5"), ("not", "L6")} <= set(pairs)
    env.close()


def test_a_wrong_edit_is_answered_and_the_right_one_is_paid(tasks):
    env, _, _ = opened(tasks)
    messages, _, terminated, _, info = env.step(number_of(env, "            total -= step"))
    assert messages[0]["content"].startswith("fails AssertionError ; ")
    assert (terminated, events(info)) == (False, {})
    messages, _, terminated, _, info = env.step(number_of(env, "        if step > least:"))
    assert (messages[0]["content"], terminated, events(info)["outcome"]) == ("passes", True, 1.0)
    assert events(info)["test/test_hills.py::test_least"] == 1.0
    assert env.unwrapped.sandbox_tier


def test_an_edit_that_only_the_shown_test_likes_is_not_paid(tasks):
    text = tasks.read_text().replace("climb([1, -2, 3]) == 4", "climb([1]) == 1")
    tasks.write_text(text)
    env, _, _ = opened(tasks)
    messages, _, terminated, _, info = env.step(number_of(env, "        if step >= least:"))
    assert (messages[0]["content"], terminated, events(info)["outcome"]) == ("passes", True, 0.0)
    assert events(info)["test/test_hills.py::test_climb"] == 1.0
    assert events(info)["test/test_hills.py::test_least"] == 0.0


def test_what_is_no_edit_is_an_error_to_read(tasks):
    env, _, _ = opened(tasks)
    for action in ("fix > | L99", "fix ^ | L4", "fix > | 4", "fix L4 | >", "fix >", "fix", "hello"):
        messages, _, terminated, _, info = env.step(action)
        assert messages[0]["content"].startswith("error: ")
        assert (terminated, info["is_valid"], events(info)) == (False, False, {"format": -1.0})
    env.close()


def test_an_edit_is_tried_once(tasks):
    env, _, _ = opened(tasks)
    wrong = number_of(env, "            total -= step")
    assert env.step(wrong)[4]["is_valid"]
    messages, _, terminated, _, info = env.step(wrong)
    assert messages[0]["content"] == f"error: not to be tried ; {world_of(env).known.left([change_of(wrong)])}"
    assert (terminated, info["is_valid"], events(info)) == (False, False, {"format": -1.0})
    env.close()


def test_what_was_tried_is_not_listed_again(tasks):
    env, text, _ = opened(tasks)
    wrong = number_of(env, "            total -= step")
    assert " - L5" in text
    messages, *_ = env.step(wrong)
    assert " - L5" not in messages[0]["content"]
    assert messages[0]["content"].partition(" ; ")[2] == text.partition(" ; ")[2].replace("- L5 ", "")
    env.close()


def test_an_error_is_told_with_its_line(tasks):
    env, _, _ = opened(tasks)
    messages, *_ = env.step(number_of(env, "    for step in least:"))
    assert messages[0]["content"].startswith("fails TypeError at L3 ; ")
    env.close()


def test_an_episode_ends_when_nothing_is_left_to_try(tasks):
    tasks.write_text(tasks.read_text().replace("climb([1, -2, 3]) == 4", "climb([1, -2, 3]) == 99"))
    env, _, _ = opened(tasks, max_turns=500)
    attempts = list(world_of(env).known.attempts)
    for change, line in attempts:
        messages, _, terminated, _, info = env.step(f"fix {change} | {line}")
    assert (terminated, events(info)) == (True, {"outcome": 0.0})
    assert messages[0]["content"].endswith(" ; ")
    env.close()


def test_the_gold_edit_is_known_and_demonstrated(tasks):
    env, _, _ = opened(tasks)
    world = world_of(env)
    right = number_of(env, "        if step > least:")
    assert world.oracle(right) == 1.0
    assert world.oracle(number_of(env, "            total -= step")) == 0.0
    assert world.oracle("fix") == -1.0
    assert world.oracle("fix > | L99") == -1.0
    assert world.demonstrate(np.random.default_rng(0)) == right
    env.close()


def test_mistakes_are_edits_that_were_not_tried(tasks):
    env, _, _ = opened(tasks, mistakes=1.0)
    rng, made = np.random.default_rng(0), []
    for _ in range(6):
        made.append(world_of(env).demonstrate(rng))
        if env.step(made[-1])[2]:
            break
    assert len(set(made)) == len(made)
    env.close()


def test_states_differ_by_what_was_tried_not_by_its_order(tasks):
    env, _, info = opened(tasks)
    keys = [info["state_key"]]
    first, second = number_of(env, "            total -= step"), number_of(env, "    total = 1")
    keys += [env.step(action)[4]["state_key"] for action in (first, second)]
    env.reset(seed=0)
    again = [env.step(action)[4]["state_key"] for action in (second, first)]
    assert len(set(keys)) == 3
    assert again[1] == keys[2]
    env.close()


def test_results_are_kept_for_other_processes(tasks, tmp_path):
    env, _, _ = opened(tasks, remember=str(tmp_path / "kept"))
    env.step(number_of(env, "        if step > least:"))
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert len(kept) == 3
    assert all(name.startswith("hills-1-") for name in kept)


def test_a_task_without_a_reproduction_is_the_tasks_mistake(tasks):
    tasks.write_text(tasks.read_text().replace('"test_issue.py": ', '"notes.txt": '))
    with pytest.raises(UserError, match="none of its tasks has a reproduction"):
        opened(tasks)


def test_it_keeps_to_what_every_environment_keeps_to(tasks):
    checks = validate("turnwise/SWE-v0", {"tools": "operators", "tasks": str(tasks), "eval_tasks": str(tasks)})
    broken = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
    assert not broken, broken


def test_guidance_is_the_edits_of_the_function_with_the_bug(tasks):
    place = {"path": "hills/climb.py", "first_line": 4, "last_line": 9, "name": "climb"}
    line = json.loads(tasks.read_text())
    line["turnwise"]["functions"] = [place]
    tasks.write_text(json.dumps(line))
    env, _, _ = opened(tasks)
    assert world_of(env).guide() == "one of L1 to L6"
    env.close()
