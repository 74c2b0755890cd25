"""Bad input: one line that names field, value and remedy, exit code 2, nothing running, nothing written."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import pytest

import turnwise.cli
from turnwise import TurnEnv, cluster
from turnwise.config import load_config, masked_yaml
from turnwise.models import resolve_model
from turnwise.processes import marked_processes


class Nothing(TurnEnv):
    """An environment whose task set is empty."""

    def begin(self, options: Any) -> str:
        return "hello"

    def act(self, action: Any) -> str:
        self.finish()
        return "bye"

    def num_tasks(self, split: str) -> int | None:
        return 0


class Talkative(Nothing):
    """An environment whose first observation is long."""

    sample_actions: ClassVar[tuple[str, ...]] = ("yes",)

    def begin(self, options: Any) -> str:
        return "who knows what " * 200

    def num_tasks(self, split: str) -> int | None:
        return None


class Keyless(Talkative):
    """An environment whose states have no keys."""

    def begin(self, options: Any) -> str:
        return "hello"


class Hanging(Talkative):
    """An environment that does not answer."""

    def begin(self, options: Any) -> str:
        time.sleep(5)
        return "sorry"


@pytest.fixture(autouse=True)
def environments() -> Iterator[None]:
    gymnasium.register("tests/Hanging-v0", entry_point=Hanging, disable_env_checker=True)
    gymnasium.register("tests/Keyless-v0", entry_point=Keyless, disable_env_checker=True)
    gymnasium.register("tests/Nothing-v0", entry_point=Nothing, disable_env_checker=True)
    gymnasium.register("tests/Talkative-v0", entry_point=Talkative, disable_env_checker=True)
    yield
    for name in ("tests/Keyless-v0", "tests/Nothing-v0", "tests/Talkative-v0", "tests/Hanging-v0"):
        gymnasium.registry.pop(name)


@pytest.fixture(scope="module")
def used_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def broken_yaml(folder: Path, port: int) -> list[str]:
    (folder / "run.yaml").write_text("seed: 1\nlearner: {lr: 1e-3\nname: x\n")
    return ["run.yaml"]


def existing_run(folder: Path, port: int) -> list[str]:
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs" / "old" / "summary.json").write_text("{}")
    return ["name=old"]


def run_of_another_seed(folder: Path, port: int) -> list[str]:
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs" / "old" / "config.yaml").write_text(masked_yaml(load_config(None, ["name=old", "seed=4"])))
    return ["name=old", "resume=true", "seed=5"]


def run_of_another_environment(folder: Path, port: int) -> list[str]:
    (folder / "runs" / "old").mkdir(parents=True)
    (folder / "runs" / "old" / "config.yaml").write_text(masked_yaml(load_config(None, ["name=old"])))
    return ["name=old", "resume=true", "env.kwargs={hops: 3}"]


def run_that_had_an_option_more(folder: Path, port: int) -> list[str]:
    (folder / "runs" / "old").mkdir(parents=True)
    loaded = load_config(None, ["name=old", "env.kwargs={hops: 3, distractors: 2}"])
    (folder / "runs" / "old" / "config.yaml").write_text(masked_yaml(loaded))
    return ["name=old", "resume=true", "env.kwargs={hops: 3}"]


def runs_below_a_file(folder: Path, port: int) -> list[str]:
    (folder / "file").write_text("")
    return ["runs_dir=file/runs"]


def no_chat_template(folder: Path, port: int) -> list[str]:
    shutil.copytree(resolve_model("tiny"), folder / "model")
    (folder / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = folder / "model" / "tokenizer_config.json"
    content = json.loads(tokenizer.read_text())
    content.pop("chat_template", None)
    tokenizer.write_text(json.dumps(content))
    return ["model.path=model"]


Prepare = Callable[[Path, int], list[str]]


def given(*words: str) -> Prepare:
    return lambda folder, port: [word.replace("PORT", str(port)) for word in words]


ALONE = ("rollout.group_size=1", "rollout.min_group_size=1", "credit.estimator={name: reinforce_pp}")

CASES: dict[str, tuple[Prepare, tuple[str, ...]]] = {
    "unknown key": (given("learner.lrr=1"), ("learner.lrr=1", "no such key", "did you mean learner.lr?")),
    "unknown option": (given("agent.max_contxt=1"), ("agent.max_contxt=1", "did you mean agent.max_context?")),
    "wrong type": (given("rollout.slots=many"), ("rollout.slots=many", "a whole number is expected", "write")),
    "no key=value": (given("seed=1", "slots"), ("argument=slots", "key=value")),
    "no such file": (given("absent.yaml"), ("config=absent.yaml", "does not exist", "name a YAML file")),
    "broken file": (broken_yaml, ("config=run.yaml:", "is not valid YAML", "mend the YAML")),
    "no effect": (
        given("learner.min_lr_fraction=0"),
        ("learner.min_lr_fraction=0", "learner.schedule=constant", "remove"),
    ),
    "group of one": (given("rollout.group_size=1"), ("rollout.group_size=1", "turnwise", "use at least 2")),
    "group of one in a selection": (
        given(*ALONE, "credit.select=[{name: dynamic_sampling}]"),
        ("rollout.group_size=1", "credit.select.0 compares", "use at least 2"),
    ),
    "group of one in a fusion": (
        given(*ALONE, "credit.fuse=[{name: preference}]"),
        ("rollout.group_size=1", "the fusion preference compares", "use at least 2"),
    ),
    "no channel for the estimator": (
        given("credit.estimator={name: istar}"),
        ("credit.estimator.process=process", "istar needs this channel", "add process: 1.0 to credit.channels"),
    ),
    "no critic": (
        given("credit.estimator={name: token_gae}"),
        ("credit.estimator.values=value", "its weight must be 0", "add value: 0.0 to credit.channels"),
    ),
    "no state key": (
        given("credit.estimator={name: gigpo}", "env.id=tests/Keyless-v0"),
        ("credit.estimator.name=gigpo", "gives none", "choose turn_loo"),
    ),
    "no belief key": (
        given("credit.estimator={name: rebel}", "credit.channels={outcome: 1.0, consistency: 1.0}"),
        ("credit.estimator.name=rebel", "compares turns of equal belief_key", "choose turn_loo"),
    ),
    "no oracle": (
        given("rollout.oracle=true", "env.id=tests/Keyless-v0"),
        ("rollout.oracle=true", "tests/Keyless-v0 has no oracle", "set rollout.oracle=false"),
    ),
    "no channel for a fusion": (
        given("credit.fuse=[{name: only_positive}]"),
        ("credit.channels.rubric=null", "the fusion only_positive needs this channel", "add rubric: 0.0"),
    ),
    "a selection before the fusion": (
        given(
            "credit.channels={both: 1.0, a: 0.0, b: 0.0}",
            "credit.fuse=[{name: ensemble, channels: [a, b], into: both}]",
            "credit.select=[{name: dynamic_sampling}]",
        ),
        ("credit.select.0.channel=null", "selections come before fusions", "name a channel that a scorer gives"),
    ),
    "threshold that is no number": (
        given("credit.fuse=[{name: constrain, constraints: {outcome: .nan}}]"),
        ("credit.fuse.0.constraints.outcome=nan", "is not a finite number", "use a finite number"),
    ),
    "weight that is no number": (
        given("credit.channels={outcome: .inf}"),
        ("credit.channels.outcome=inf", "is not a finite number", "use a finite number"),
    ),
    "too few members for the estimator": (
        given("credit.estimator={name: cm2, min_group: 9}"),
        ("credit.estimator.min_group=9", "leaves out smaller groups", "use at most"),
    ),
    "a ratio counted twice": (
        given("learner.objective={name: decoupled_ppo}", "learner.correction={name: tis}"),
        ("learner.correction.name=tis", "counted twice", "use none"),
    ),
    "unknown plug-in": (given("credit.estimator.name=grop"), ("credit.estimator.name=grop", "did you mean grpo?")),
    "unknown environment": (given("env.id=turnwise/Serch-v0"), ("env.id=turnwise/Serch-v0", "turnwise/Search-v0")),
    "no tasks": (given("env.id=tests/Nothing-v0"), ("env.id=tests/Nothing-v0", "empty task set", "tasks")),
    "no model": (given("model.path=nowhere"), ("model.path=nowhere", "no such folder", "tiny")),
    "no chat template": (no_chat_template, ("model.path=model", "no chat template", "chat_template.jinja")),
    "short context": (
        given("env.id=tests/Talkative-v0", "agent.max_context=64"),
        ("agent.max_context=64", "shorter than the first prompt", "set it to at least"),
    ),
    "context beyond the engine": (
        given("agent.max_context=900", "engine.max_context=800"),
        ("agent.max_context=900", "exceeds engine.max_context=800", "use at most 800"),
    ),
    "no demonstrations": (
        given("sft.steps=1", "sft.files=[absent.jsonl]"),
        ("sft.files=absent.jsonl", "cannot be read (No such file", "give"),
    ),
    "Ray Client": (given("ray.address=ray://127.0.0.1:1"), ("ray.address=ray://", "not supported", "turnwise submit")),
    "no port": (given("ray.address=somewhere"), ("ray.address=somewhere", "is not host:port", "write it as")),
    "unreachable cluster": (
        given("ray.address=127.0.0.1:1"),
        ("ray.address=127.0.0.1:1", "cannot be reached", "start"),
    ),
    "no cluster at all": (given("ray.address=127.0.0.1:PORT"), ("ray.address=127.0.0.1:", "no Ray cluster answered")),
    "port in use": (given("ray.dashboard_port=PORT"), ("ray.dashboard_port=", "in use", "choose another port")),
    "run exists": (existing_run, ("name=old", "holds a run already", "resume=true")),
    "nothing to resume": (given("resume=true"), ("resume=", "there is no run", "resume=false")),
    "another seed": (run_of_another_seed, ("seed=5", "began with 4", "resume with seed=4")),
    "another world": (run_of_another_environment, ("env.kwargs.hops=3", "began with nothing", "another name")),
    "an option less": (
        run_that_had_an_option_more,
        ("env.kwargs.distractors=nothing", "began with 2", "resume with env.kwargs.distractors=2"),
    ),
    "hanging environment": (
        given("env.id=tests/Hanging-v0", "timeouts.reset_s=0.2"),
        ("timeouts.reset_s=0.2", "took longer over its first observations", "mend tests/Hanging-v0"),
    ),
    "unwritable": (runs_below_a_file, ("runs_dir=file/runs", "is no folder", "choose a folder")),
}


def all_files(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    case: str,
    used_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare, expected = CASES[case]
    monkeypatch.setattr(cluster, "PROBE_S", 5.0)  # what listens at PORT never answers
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = prepare(tmp_path, used_port)
    if not any(word.startswith("ray.") for word in words):
        words = [*words, f"ray.dashboard_port={unused_port()}"]
    before = all_files(tmp_path)
    assert turnwise.cli.run_command(["train", *words]) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: "), captured.err
    for part in expected:
        assert part in captured.err
    assert captured.out == ""
    assert all_files(tmp_path) == before
    assert marked_processes(f"TURNWISE_CLUSTER={os.environ.get('TURNWISE_CLUSTER', '')}") == []


def test_a_mistake_in_the_keys_costs_neither_torch_nor_ray(tmp_path: Path) -> None:
    code = (
        "import sys, turnwise.cli; code = turnwise.cli.run_command(['train', 'learner.lrr=1']); "
        "print(code, sorted({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert answer.stdout == "2 []\n"
    assert answer.stderr.count("\n") == 1
