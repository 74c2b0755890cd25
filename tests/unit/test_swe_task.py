import json
import tarfile

import pyarrow
import pyarrow.parquet
import pytest
import swe_repository as purse

from turnwise import UserError
from turnwise.errors import failure_of
from turnwise.records import FailureKind
from turnwise_envs.swe import diffs
from turnwise_envs.swe.repository import TaskError, case_of
from turnwise_envs.swe.task import load_tasks, to_json

GOLD = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-bad\n+good\n"
BENCH = {
    "instance_id": "owner__name-1",
    "repo": "owner/name",
    "base_commit": "abc",
    "patch": GOLD,
    "test_patch": "",
    "problem_statement": "it is bad",
    "hints_text": "",
    "version": "1.0",
    "FAIL_TO_PASS": '["tests/test_x.py::test_bad"]',
    "PASS_TO_PASS": "[]",
    "environment_setup_commit": "def",
}


def written(tmp_path, *lines, name="tasks.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_line_of_swe_bench_loads_as_it_is(tmp_path):
    (task,) = load_tasks(written(tmp_path, BENCH))
    assert (task.instance_id, task.repo, task.base_commit) == ("owner__name-1", "owner/name", "abc")
    assert task.tests == ("tests/test_x.py::test_bad",)
    assert (task.patch, task.recipe) == (GOLD, None)
    assert task.image == "swebench/sweb.eval.x86_64.owner_1776_name-1:latest"
    (other,) = load_tasks(written(tmp_path, {**BENCH, "image": "own:1"}))
    assert other.image == "own:1"


def test_a_list_of_swe_gyms_and_a_parquet_file_load_alike(tmp_path):
    gym = {**BENCH, "FAIL_TO_PASS": ["tests/test_x.py::test_bad"], "PASS_TO_PASS": ["tests/test_x.py::test_fine"]}
    (tmp_path / "gym.json").write_text(json.dumps([gym]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([gym]), tmp_path / "gym.parquet")
    first, second = (load_tasks(tmp_path / name)[0] for name in ("gym.json", "gym.parquet"))
    assert first.tests == second.tests == ("tests/test_x.py::test_bad", "tests/test_x.py::test_fine")


def test_the_patch_of_swe_smith_makes_the_bug_so_the_gold_patch_undoes_it(tmp_path):
    smith = {
        "instance_id": "owner__name.1.combine__x",
        "repo": "swesmith/owner__name.1",
        "patch": GOLD,
        "FAIL_TO_PASS": ["tests/test_x.py::test_bad"],
        "PASS_TO_PASS": [],
        "image_name": "swebench/swesmith.x86_64.owner__name.1",
        "problem_statement": "it is bad",
    }
    (task,) = load_tasks(written(tmp_path, smith))
    assert diffs.apply({"x.py": b"good\n"}, task.patch) == {"x.py": b"bad\n"}
    assert task.image == smith["image_name"]
    assert (task.recipe.archive, task.recipe.bug, task.recipe.hidden) == ("", GOLD, ("tests/test_x.py",))
    assert task.archive_path is None
    assert load_tasks(written(tmp_path, to_json(task)))[0].patch == task.patch


def test_a_line_of_r2e_gym_is_named_by_its_commit_and_its_expected_passes_decide(tmp_path):
    r2e = {
        "repo_name": "orange3",
        "docker_image": "namanjain12/orange3_final:abc",
        "commit_hash": "abc",
        "problem_statement": "it is bad",
        "expected_output_json": json.dumps({"TestX.test_a": "PASSED", "TestX.test_b": "FAILED"}),
    }
    (task,) = load_tasks(written(tmp_path, r2e))
    assert (task.instance_id, task.base_commit) == ("orange3__abc", "abc")
    assert (task.fail_to_pass, task.image) == (("TestX.test_a",), r2e["docker_image"])


def test_our_own_line_survives_writing_and_reading(tmp_path):
    (task,) = load_tasks(purse.write(tmp_path, purse.line(probes=purse.PROBES, conftest=["tests/conftest.py"])))
    assert task.patch == diffs.reverse(purse.bug()), "the gold patch is the bug turned around"
    assert task.recipe.functions[0].name == "shares"
    again = written(tmp_path, to_json(task), name="again.jsonl")
    assert to_json(load_tasks(again)[0]) == to_json(task)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"instance_id": None}, '"instance_id"'),
        ({"problem_statement": ""}, '"problem_statement" must be a text that is not empty'),
        ({"repo": 7}, '"repo" must be a text'),
        ({"FAIL_TO_PASS": []}, 'lacks "FAIL_TO_PASS"'),
        ({"FAIL_TO_PASS": "not json"}, '"FAIL_TO_PASS" must be a list of texts'),
        ({"PASS_TO_PASS": [1]}, '"PASS_TO_PASS" must be a list of texts'),
        ({"patch": "what"}, '"patch" is no diff'),
        ({"test_patch": GOLD.replace("x.py", "../x.py")}, "leads out of the repository"),
        ({"turnwise": []}, '"turnwise" must be an object'),
        ({"turnwise": {"archive": 7}}, '"archive" must be a text'),
        ({"turnwise": {"archive": "a.tar", "speed": 1}}, 'unknown key "turnwise.speed"'),
        ({"turnwise": {"archive": "a.tar", "hidden": ["../x"]}}, '"hidden" must be a path'),
        ({"turnwise": {"archive": "a.tar", "added": {"x": 1}}}, '"added" must be an object of texts'),
        ({"turnwise": {"archive": "a.tar", "reproduction": "pytest"}}, '"reproduction" must be a command'),
        ({"turnwise": {"archive": "a.tar", "root": "/etc"}}, '"root" must be a path'),
        ({"turnwise": {"archive": "a.tar", "probes": [{"call": "x"}]}}, '"probes" must be a list'),
        ({"turnwise": {"archive": "a.tar", "functions": [{"path": "x"}]}}, '"functions" must be a list'),
        ({"turnwise": {"archive": "a.tar", "timeout_s": -1}}, '"timeout_s" must be a number'),
    ],
)
def test_a_bad_line_is_an_error_that_names_file_line_and_field(tmp_path, change, problem):
    path = written(tmp_path, {**BENCH, "instance_id": "fine"}, {**BENCH, **change})
    with pytest.raises(UserError) as raised:
        load_tasks(path)
    assert f"{path}:2" in str(raised.value)
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none_or_names_a_task_twice_is_an_error(tmp_path):
    for name, text in (("none.jsonl", None), ("empty.jsonl", ""), ("bad.jsonl", "{"), ("bad.parquet", "no")):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            load_tasks(tmp_path / name)
    with pytest.raises(UserError, match=r"is there twice, first at .*:1"):
        load_tasks(written(tmp_path, BENCH, BENCH))


def test_a_case_holds_no_hidden_test_for_the_agent_and_every_one_for_the_grading(tmp_path):
    case = case_of(load_tasks(purse.write(tmp_path))[0])
    assert "tests/test_share.py" not in case.workspace
    assert case.workspace["test_issue.py"] == purse.ISSUE.encode()
    assert purse.BAD.encode() in case.workspace["purse/share.py"]
    assert case.trusted["tests/test_share.py"] == purse.CLEAN["tests/test_share.py"].encode()
    assert case.gold["purse/share.py"] == purse.CLEAN["purse/share.py"].encode()
    assert case_of(case.task) is case


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ({"bug": GOLD}, "turnwise.bug: x.py: the file is not there"),
        ({"hidden": ["tests/none.py"]}, "hidden test tests/none.py is not in the repository"),
        ({"archive": "repos/none.tar"}, "No such file"),
        ({"archive": "tasks.jsonl"}, "could not be opened"),
    ],
)
def test_a_task_whose_base_does_not_build_is_a_classified_failure(tmp_path, recipe, problem):
    (task,) = load_tasks(purse.write(tmp_path, purse.line(**recipe)))
    with pytest.raises(TaskError, match=problem) as raised:
        case_of(task)
    failure = failure_of(raised.value, "reset")
    assert (failure.kind, failure.is_retryable) == (FailureKind.ENV, False)
    assert failure.cause.startswith("TaskError: task purse-0")


def test_a_file_that_the_fix_changes_is_no_test_whatever_its_folder_is_called(tmp_path):
    clean = {**purse.CLEAN, "purse/test/client.py": "good\n", "purse/test/other.py": "good\n"}
    bug = diffs.make(purse.as_bytes(clean), purse.as_bytes({**clean, "purse/test/client.py": "bad\n"}))
    case = case_of(load_tasks(purse.write(tmp_path, purse.line(bug=bug), clean=clean))[0])
    assert not case.is_test("purse/test/client.py")
    assert case.is_test("purse/test/other.py")


def test_an_archive_that_leads_out_is_refused_and_its_links_lead_to_files_within(tmp_path):
    path = purse.write(tmp_path)
    for name, target in (("../evil", None), ("/etc/evil", None), ("out", "../../etc/passwd"), ("out", "/etc/passwd")):
        with tarfile.open(tmp_path / "repos" / "purse.tar", "a") as archive:
            member = tarfile.TarInfo(name)
            if target is not None:
                member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        with pytest.raises(TaskError, match="leads out of the repository"):
            case_of(load_tasks(path)[0])
        purse.write(tmp_path)
    with tarfile.open(tmp_path / "repos" / "purse.tar", "a") as archive:
        for name, target in (("purse/again.py", "share.py"), ("loop", "loop"), ("folder", "purse")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    case = case_of(load_tasks(path)[0])
    assert case.trusted["purse/again.py"] == purse.CLEAN["purse/share.py"].encode()
    assert not {"loop", "folder"} & set(case.trusted)
