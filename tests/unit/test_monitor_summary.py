import json
import subprocess

import pytest

import turnwise
from turnwise.monitor import summary
from turnwise.monitor.summary import Heldout, RunResult, config_digest, summarise, wilson_interval

HELDOUT = [
    Heldout(mode="sampled", update=0, successes=84, episodes=200),
    Heldout(mode="greedy", update=0, successes=90, episodes=200),
    Heldout(mode="sampled", update=20, successes=150, episodes=200),
    Heldout(mode="sampled", update=40, successes=186, episodes=199, failures=1),
    Heldout(mode="greedy", update=40, successes=192, episodes=200),
]


def result(**changes):
    fields = {"run": "r", "status": "finished", "seed": 1, "config": {"seed": 1}, "updates": 40, "episodes": 5120}
    spent = {"wall_s": 300.5, "stages_s": {"rollout": 200.1234, "update": 90.0}, "failures": {"env:step": 3}}
    return RunResult(**{**fields, **spent, "heldout": HELDOUT, "checkpoints": ["checkpoints/update-000040"], **changes})


def test_held_out_success_is_stated_before_and_after_with_its_interval():
    stated = summarise(result())["heldout"]
    before, after = stated["before"]["sampled"], stated["after"]["sampled"]
    assert (before["success_rate"], before["successes"], before["episodes"], before["update"]) == (0.42, 84, 200, 0)
    assert (after["successes"], after["episodes"], after["failures"], after["update"]) == (186, 199, 1, 40)
    assert stated["after"]["greedy"]["success_rate"] == 0.96
    low, high = before["interval_95"]
    assert (low, high) == (pytest.approx(0.3537, abs=2e-4), pytest.approx(0.4892, abs=2e-4))


def test_the_interval_agrees_with_published_values_and_stays_within_0_and_1():
    assert wilson_interval(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson_interval(0, 20)[0] == 0.0
    assert wilson_interval(0, 20)[1] == pytest.approx(0.1611, abs=1e-4)
    assert wilson_interval(29, 29)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_a_summary_is_plain_json_and_says_what_it_ran_on():
    stated = json.loads(json.dumps(summarise(result()), allow_nan=False))
    assert stated["stages_s"]["rollout"] == 200.123
    assert stated["failures"] == {"env:step": 3}
    assert stated["versions"]["turnwise"] == turnwise.__version__
    assert stated["versions"]["torch"].startswith("2.")
    assert set(stated["versions"]) >= {"git", "python", "ray", "transformers"}
    assert stated["machine"]["cpus"] >= 1
    assert stated["error"] is None


def test_a_run_that_failed_early_has_a_summary_too():
    stated = summarise(result(status="failed", error="StalledError: nothing moved", heldout=[], updates=0))
    assert stated["heldout"] == {"before": {}, "after": {}}
    assert (stated["status"], stated["error"]) == ("failed", "StalledError: nothing moved")


def test_an_evaluation_in_which_everything_failed_has_no_rate():
    lost = Heldout(mode="greedy", update=0, successes=0, episodes=0, failures=200)
    assert summarise(result(heldout=[lost]))["heldout"]["before"]["greedy"]["success_rate"] is None


def test_the_digest_depends_on_values_and_not_on_the_order_of_keys():
    assert config_digest({"a": 1, "b": {"c": 2, "d": 3}}) == config_digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert config_digest({"a": 1}) != config_digest({"a": 2})


def test_the_commit_is_that_of_the_source_tree_and_of_no_other(tmp_path, monkeypatch):
    package = tmp_path / "tree" / "site" / "turnwise"
    package.mkdir(parents=True)
    for name in ("__init__.py", "records.py"):
        (package / name).write_text("")
    monkeypatch.setattr(turnwise, "__file__", str(package / "__init__.py"))
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path / "tree")]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "empty"]):
        subprocess.run([*git, *arguments], check=True, timeout=20)
    assert summary.git_commit.__wrapped__() is None
    for arguments in (["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *arguments], check=True, timeout=20)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True, timeout=20).stdout
    assert summary.git_commit.__wrapped__() == head.strip()
    (package / "records.py").write_text("changed = True\n")
    assert summary.git_commit.__wrapped__() == f"{head.strip()}-dirty"
