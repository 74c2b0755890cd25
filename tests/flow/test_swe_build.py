"""`turnwise swe build` on a tiny package, in real sandboxes and with the grader that the environment has."""

import asyncio
import json
import signal
import subprocess
import sys
from functools import partial

import pytest
from swe_package import SHELF, TESTS, write_package

from turnwise.cli import run_command
from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import missing
from turnwise_envs.swe import baseline, diffs
from turnwise_envs.swe.build import build
from turnwise_envs.swe.operators import edits
from turnwise_envs.swe.prove import prove
from turnwise_envs.swe.repository import case_of
from turnwise_envs.swe.task import load_tasks

pytestmark = pytest.mark.skipif(missing(Tier.BUBBLEWRAP) is not None, reason=f"bubblewrap: {missing(Tier.BUBBLEWRAP)}")


def made(folder, output, num_bugs=6, seed=0):
    said = []
    work = build(str(folder), output, num_bugs=num_bugs, seed=seed, cache=output / "cache", say=said.append)
    return asyncio.run(work), said


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "oddments"
    write_package(folder)
    output = tmp_path_factory.mktemp("made")
    result, said = made(folder, output)
    return folder, output, result, said


@pytest.fixture(scope="module")
def tasks(built):
    return load_tasks(built[1] / "oddments.jsonl")


def test_every_task_is_proven_and_counted(built, tasks):
    _, _, result, said = built
    assert len(tasks) == result.num_tasks == 6
    assert result.num_gold == result.num_proven >= 6
    assert result.num_empty == 0
    assert sum(result.operators.values()) == 6
    assert result.num_single >= 5
    assert any("tests are fast and pass each time" in line for line in said)


def test_the_gold_patch_turns_the_bug_around(tasks):
    for task in tasks:
        case = case_of(task)
        path = task.recipe.functions[0].path
        assert case.gold[path].decode() == SHELF
        assert case.workspace[path] != case.gold[path]
        assert diffs.paths(task.patch) == [path]


def test_a_single_edit_is_undone_by_one_of_the_same_operators(tasks):
    singles = [task for task in tasks if task.recipe.difficulty["is_single_edit"]]
    for task in singles:
        function = task.recipe.functions[0]
        spoiled = case_of(task).workspace[function.path].decode()
        back = edits(spoiled, function.first_line, function.last_line)
        assert SHELF in [edit.apply(spoiled) for edit in back]
    assert singles


def test_hidden_tests_are_not_in_the_workspace_and_others_are(tasks):
    for task in tasks:
        workspace = case_of(task).workspace
        assert task.recipe.hidden == ("tests/test_shelf.py",)
        assert "tests/test_shelf.py" not in workspace
        assert "tests/test_visible.py" in workspace
        assert {name.split("::")[0] for name in task.fail_to_pass} == {"tests/test_shelf.py"}
        assert not set(task.fail_to_pass) & set(task.pass_to_pass)
        assert task.pass_to_pass


def test_an_issue_quotes_the_failure_and_not_the_bug(tasks):
    for task in tasks:
        function = task.recipe.functions[0]
        lines = case_of(task).workspace[function.path].decode().splitlines()
        fixed = {
            line[1:].strip() for line in task.patch.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
        }
        assert fixed
        assert not any(line and line in task.problem_statement for line in fixed)
        assert "oddments.shelf." in task.problem_statement or "`oddments.shelf`" in task.problem_statement
        assert " ".join(task.recipe.reproduction) in task.problem_statement
        assert f"line {function.first_line}" not in task.problem_statement
        assert lines


def test_a_reproduction_is_one_test_with_what_it_needs(tasks):
    for task in tasks:
        ((path, text),) = task.recipe.added.items()
        assert path == "test_issue.py"
        assert text.count("def test") == 1
        compile(text, path, "exec")
        assert task.recipe.reproduction[-1] == path


def test_probes_ask_for_the_function_and_some_of_them_tell_the_bug(tasks):
    probes = [probe for task in tasks for probe in task.recipe.probes]
    assert {probe.call.split(":")[0] for probe in probes} == {"oddments.shelf"}
    assert all(len(task.recipe.probes) <= 8 for task in tasks)
    assert len(probes) >= len(tasks)


def test_difficulty_is_recorded(tasks):
    for task in tasks:
        found = task.recipe.difficulty
        assert found["num_failing"] == len(task.fail_to_pass)
        assert found["num_tests"] > found["num_failing"] or len(task.pass_to_pass) > 0
        assert found["distance"] >= 1
        assert found["num_changed"] >= 1
        assert 2 <= found["num_lines"] <= 30


def test_the_same_seed_gives_the_same_bytes(built, tmp_path):
    folder, output, _, _ = built
    made(folder, tmp_path / "again")
    names = ("oddments.jsonl", "repos/oddments-local.tar")
    assert [(tmp_path / "again" / name).read_bytes() for name in names] == [
        (output / name).read_bytes() for name in names
    ]


def test_nothing_but_the_files_is_left(built):
    assert sorted(path.name for path in built[1].iterdir()) == ["oddments.jsonl", "repos"]


def test_check_finds_a_task_that_does_not_hold(built, tmp_path, capsys):
    _, output, _, _ = built
    first, second = [json.loads(line) for line in (output / "oddments.jsonl").read_text().splitlines()[:2]]
    first["PASS_TO_PASS"] += first["FAIL_TO_PASS"]  # now doing nothing still fails what it should
    second["turnwise"]["archive"] = first["turnwise"]["archive"] = str(output / first["turnwise"]["archive"])
    second["FAIL_TO_PASS"] = ["tests/test_visible.py::test_a_visible_one"]  # that no bug breaks
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, (first, second))))
    assert run_command(["swe", "check", str(tmp_path / "bad.jsonl")]) == 1
    said = capsys.readouterr().out
    assert "gold solves 2/2, empty solves 1/2" in said
    assert f"{second['instance_id']}: gold 1, empty 1" in said


def test_a_proof_wants_exactly_the_failing_tests_to_fail(tasks, built):
    import dataclasses

    task = tasks[0]
    less = dataclasses.replace(task, fail_to_pass=(*task.fail_to_pass, *task.pass_to_pass[:1]))
    whole, odd = asyncio.run(prove([task, less], lambda done: None))
    assert whole.holds
    assert (odd.gold, odd.empty) == (1.0, 0.0)
    assert not odd.holds


def test_the_command_prints_its_table(tmp_path):
    folder = write_package(tmp_path / "oddments")
    command = [sys.executable, "-m", "turnwise", "swe", "build", "--package", folder, "--bugs", "2"]
    ran = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, timeout=200, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "2 tasks in 1 files" in ran.stdout
    assert "oddments==local" in " ".join(ran.stdout.split())


def test_an_interrupt_keeps_the_packages_that_are_done(tmp_path):
    words = [word for name in ("first", "second") for word in ("--package", write_package(tmp_path / name))]
    command = [sys.executable, "-m", "turnwise", "swe", "build", *words, "--output", str(tmp_path / "out")]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # whoever started the tests may have had it ignored
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--bugs", "1"], preexec_fn=heard, **piped) as run:
        next(line for line in run.stdout if line.startswith("second: ") and "pass each time" in line)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert (run.returncode, said) == (130, "error: interrupted\n")
    assert load_tasks(tmp_path / "out" / "first.jsonl")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first.jsonl", "repos"]


ENDLESS = "def test_nothing():\n    while True:\n        pass\n"


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        (TESTS.replace("==", "!="), "its own tests do not pass as it is"),
        ("import nosuchmodule\n", "its own tests do not pass as it is"),
        (ENDLESS, "its own tests do not pass as it is"),
    ],
)
def test_a_package_whose_tests_do_not_pass_is_refused(tests, problem, tmp_path, capsys, monkeypatch):
    if tests == ENDLESS:
        monkeypatch.setattr(baseline, "TEST_S", 1.0)  # it is stopped as often as a run is made
    folder = write_package(tmp_path / "oddments", tests=tests)
    assert run_command(["swe", "build", "--package", folder, "--output", str(tmp_path / "out")]) == 2
    assert problem in capsys.readouterr().err


def test_a_package_without_a_bug_that_its_tests_find_is_refused_and_the_next_one_is_built(tmp_path, capsys):
    blind = "def test_a():\n    pass\n" + "".join(f"def test_{i}():\n    pass\n" for i in range(5))
    refused = write_package(tmp_path / "blind", tests=blind)
    (tmp_path / "blind" / "tests" / "test_visible.py").unlink()
    good = write_package(tmp_path / "oddments")
    words = ["swe", "build", "--package", refused, "--package", good, "--output", str(tmp_path / "out"), "--bugs", "1"]
    assert run_command(words) == 2
    captured = capsys.readouterr()
    assert "no bug of 0 in 0 functions makes a task" in captured.err
    assert "1 tasks in 1 files" in captured.out
    assert (tmp_path / "out" / "oddments.jsonl").is_file()
