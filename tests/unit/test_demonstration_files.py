"""Files of demonstrations: written line by line, refused where a line is wrong or of another world, and imitated."""

import dataclasses
import json
import os
import resource

import numpy as np
import pytest

from turnwise import warmstart
from turnwise.config import load_config
from turnwise.config.schema import SftConfig
from turnwise.demonstration_files import append, read, read_for
from turnwise.demonstrations import SEED_OFFSET, record
from turnwise.errors import UserError
from turnwise.learner.sft import token_rows, train
from turnwise.models import resolve_model
from turnwise.tasks import TaskSet, make_env

SEARCH = "turnwise/Search-v0"
KWARGS = {"hops": 1, "num_entities": 10}


def recorded(count, *, split="train", seed=0, env_id=SEARCH, kwargs=KWARGS):
    tasks, env = TaskSet.of(env_id, kwargs, split, seed + SEED_OFFSET), make_env(env_id, kwargs)
    return list(record(env, [tasks.task(index) for index in range(count)], seed))


def written(path, demonstrations):
    for demonstration in demonstrations:
        append(path, demonstration, "--record")
    return path


def run_of(*files, words=()):
    given = [f"env.id={SEARCH}", f"env.kwargs={json.dumps(KWARGS)}", "sft.steps=6", "sft.batch_size=4"]
    given += [f"sft.files={json.dumps([str(file) for file in files])}"] if files else []
    return load_config(None, [*given, *words]).config


def test_what_is_written_is_read_again_and_appended_to(tmp_path):
    shown, file = recorded(3), tmp_path / "d.jsonl"
    written(file, shown[:2])
    assert all(json.loads(line)["schema_version"] == 2 for line in file.read_text().splitlines())
    file.write_text(file.read_text().rstrip("\n"))  # as an editor leaves it
    append(file, shown[2], "--record")
    assert read(file) == [(f"{file}:{number}", each) for number, each in enumerate(shown, start=1)]


def test_a_full_disk_leaves_the_lines_before_and_no_part_of_one(tmp_path):
    shown, file = recorded(2), tmp_path / "d.jsonl"
    written(file, shown[:1])
    whole, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limits[1]))
    try:
        with pytest.raises(UserError, match=r"^--output=.*d\.jsonl: cannot be written \(No space left on device\); "):
            append(file, shown[1], "--output")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == whole
    append(file, shown[1], "--output")
    assert [each for _, each in read(file)] == shown
    with pytest.raises(UserError, match=r"^--output=.*: cannot be written \(Is a directory\)"):
        append(tmp_path, shown[1], "--output")


def test_what_no_file_can_hold_costs_a_character_and_not_the_episode(tmp_path):
    (shown,) = recorded(1)
    half = {"role": "user", "content": "half \ud800"}
    file = written(tmp_path / "d.jsonl", [dataclasses.replace(shown, messages=[half, *shown.messages])])
    assert read(file)[0][1].messages == [half | {"content": "half ?"}, *shown.messages]


GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}
USER, ASSISTANT = GOOD["messages"]
TASK = {"schema_version": 2, "env_id": "a/B-v0", "task_id": "1", "seed": 1, "split": "train", "data": {}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ("[]", "not a JSON object"),
        ("{}", "missing 'messages'"),
        (GOOD | {"schema_version": 99}, "schema_version 99, this Turnwise reads 2"),
        (GOOD | {"schema_version": "2"}, "schema_version '2', this Turnwise reads 2"),
        (GOOD | {"messages": []}, "not a list of messages"),
        (GOOD | {"messages": [USER]}, "nothing to learn"),
        (GOOD | {"messages": [ASSISTANT]}, "precedes every observation"),
        (GOOD | {"messages": [USER, ASSISTANT, ASSISTANT]}, "two assistant messages in a row"),
        (GOOD | {"messages": [USER, {"role": "assistant", "content": ""}]}, "must spell the action"),
        (GOOD | {"messages": [USER, {"role": "assistant", "content": None}]}, "content is not a text"),
        (GOOD | {"messages": [USER, {"role": "assistant", "content": "half \ud800"}]}, "surrogates not allowed"),
        (GOOD | {"messages": [USER | {"content": "x" * 1_000_001}, ASSISTANT]}, "at most 1000000 characters"),
        (GOOD | {"messages": [{"role": "robot", "content": "x"}]}, "no role among"),
        (GOOD | {"tools": ["x"]}, "not a list of JSON schemas"),
        (GOOD | {"tools": [{"name": "x"}]}, "not a list of JSON schemas"),
        (GOOD | {"outcome": "good"}, "could not convert"),
        (GOOD | {"outcome": float("inf")}, "outcome is inf"),
        (GOOD | {"task": {"schema_version": 99}}, "schema_version 99"),
        (GOOD | {"task": 3}, "task is not an object"),
        (GOOD | {"task": TASK | {"env_id": 3}}, "task.env_id is not of type str"),
        (GOOD | {"task": TASK | {"seed": "1"}}, "task.seed is not of type int"),
        (GOOD | {"task": TASK | {"data": None}}, "task.data is not of type dict"),
        (GOOD | {"task": TASK | {"seed": -1}}, "task.seed is below 0"),
        (GOOD | {"task": TASK | {"split": "evl"}}, "task.split none of train, eval"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_number(tmp_path, line, problem):
    text = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(GOOD)}\n\n{text}\n")
    with pytest.raises(UserError, match=r"^sft\.files=.*d\.jsonl:3: .*; correct or remove the line$") as caught:
        read(tmp_path / "d.jsonl")
    assert problem in str(caught.value)


def test_a_file_that_is_absent_or_empty_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^sft\.files=.*absent\.jsonl: cannot be read \(No such file"):
        read_for(run_of(tmp_path / "absent.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"empty\.jsonl: holds no demonstrations"):
        read_for(run_of(tmp_path / "empty.jsonl"))
    os.mkfifo(tmp_path / "pipe.jsonl")  # a run reads a file twice
    with pytest.raises(UserError, match=r"pipe\.jsonl: cannot be read \(no ordinary file\)"):
        read_for(run_of(tmp_path / "pipe.jsonl"))


def test_a_line_of_another_environment_is_refused_and_one_of_none_is_not(tmp_path):
    file = written(tmp_path / "d.jsonl", recorded(1))
    written(file, recorded(1, env_id="turnwise/Sokoban-v0", kwargs={}))
    with pytest.raises(UserError, match=r"d\.jsonl:2: is of turnwise/Sokoban-v0, not of env\.id=turnwise/Search-v0"):
        read_for(run_of(file))
    file.write_text(json.dumps(GOOD))
    assert len(read_for(run_of(file))[0]) == 1
    written(tmp_path / "mine.jsonl", recorded(1))
    found, warnings = read_for(run_of(tmp_path / "mine.jsonl", words=[f"env.id=turnwise_envs.search:{SEARCH}"]))
    assert (len(found), warnings) == (1, [])


def test_held_out_tasks_are_refused_by_a_run_that_measures_on_them(tmp_path):
    file = written(tmp_path / "d.jsonl", [*recorded(1), *recorded(1, split="eval")])
    with pytest.raises(UserError, match=r"d\.jsonl:2: is of a held-out task.*; record it with --split train"):
        read_for(run_of(file))
    assert len(read_for(run_of(file, words=["eval.tasks=0"]))[0]) == 2


def test_tools_of_other_names_are_refused_and_other_schemas_are_a_warning(tmp_path):
    (shown,) = recorded(1)
    renamed, changed = json.loads(json.dumps(shown.tools)), json.loads(json.dumps(shown.tools))
    renamed[1]["function"]["name"] = "browse"
    changed[0]["function"]["description"] = "Find."
    file = written(tmp_path / "d.jsonl", [shown, dataclasses.replace(shown, tools=changed)])
    found, (warning,) = read_for(run_of(file))
    assert len(found) == 2
    assert warning == f"{file}:2: the schema of search is another now; record it again with this run's env.kwargs"
    append(file, dataclasses.replace(shown, tools=renamed), "--record")
    with pytest.raises(UserError, match=r"d\.jsonl:3: the environment has no tool browse; record it again"):
        read_for(run_of(file))
    variants = [dataclasses.replace(shown, tools=[*shown.tools[:2], {**shown.tools[2], "n": n}]) for n in range(5)]
    many = [written(tmp_path / "5.jsonl", variants), file]
    with pytest.raises(UserError, match=r"d\.jsonl:3: the environment has no tool browse"):
        read_for(run_of(*many))
    lacking = written(tmp_path / "less.jsonl", [dataclasses.replace(shown, tools=shown.tools[:1])])
    with pytest.raises(UserError, match=r"less\.jsonl:1: it lacks the environment's tool"):
        read_for(run_of(lacking))


def test_tools_that_are_the_tasks_own_are_those_of_the_task(tmp_path):
    shown = recorded(3, env_id="turnwise/BFCL-v0", kwargs={})
    assert len({json.dumps(each.tools) for each in shown}) > 1
    file = written(tmp_path / "d.jsonl", shown)
    assert read_for(run_of(file, words=["env.id=turnwise/BFCL-v0", "env.kwargs={}"])) == (shown, [])


def test_recorded_demonstrations_precede_those_of_files_in_their_order(tmp_path):
    first, second = recorded(2, seed=5), recorded(3, seed=6)
    files = written(tmp_path / "1.jsonl", first), written(tmp_path / "2.jsonl", second)
    said = []
    mixed = warmstart.demonstrations(run_of(*files, words=["sft.demonstrations=4"]), said.append)
    assert mixed == [*recorded(4), *first, *second]
    assert said == ["warm start: 4 demonstrations recorded, 5 from files"]
    assert warmstart.demonstrations(run_of(*files), said.append) == [*first, *second]


def test_a_model_learns_the_same_from_a_file_as_from_recording(tmp_path):
    from turnwise.config.schema import LearnerConfig
    from turnwise.learner.policy import Learner

    model = resolve_model("tiny")
    file = written(tmp_path / "d.jsonl", recorded(8))
    given = [run_of(file), run_of(words=["sft.demonstrations=8"]), run_of(file, words=["sft.demonstrations=8"])]
    rows = [token_rows(warmstart.demonstrations(run, print), warmstart.agent_of(run, model)) for run in given]
    assert rows[2].num_rows == 2 * rows[0].num_rows
    np.testing.assert_array_equal(rows[2].ids, np.concatenate([rows[1].ids, rows[0].ids]))
    config = SftConfig(steps=3, batch_size=4, lr=1e-3)

    def losses(rows):
        learner = Learner(model, LearnerConfig(), seed=0, temperature=1.0, dtype="float32", device="cpu")
        return train(learner, rows, config, seed=0)

    from_file, from_recording = losses(rows[0]), losses(rows[1])
    assert from_file == from_recording
    assert from_file[-1] < from_file[0]
