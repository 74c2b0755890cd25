"""The benchmarks: what they compute, and that their output has the shape that docs/performance.md explains."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from credit_pieces import group, score, trajectory, turn

import comparison
import contenders
import credit
import credit_gradients
import credit_lm
import credit_picture
import curves
import flagship
import loop
import prm_ranking
import processes
import softmax
from bare import asks_of, count_tokens
from optimal import check_rewards, optimal_success
from turnwise import registry
from turnwise.config.schema import key
from turnwise.credit import TurnAdvantages, TurnRewards
from turnwise.errors import UserError
from turnwise.store.store import Store


def test_without_slipping_the_optimal_policy_always_succeeds_and_needs_six_steps() -> None:
    assert optimal_success("FrozenLake-v1", is_slippery=False) == 1.0
    assert optimal_success("FrozenLake-v1", horizon=6, is_slippery=False) == 1.0
    assert optimal_success("FrozenLake-v1", horizon=5, is_slippery=False) == 0.0


@pytest.mark.parametrize("horizon", [0, 1, 2, 7])
def test_beside_the_goal_each_slippery_step_misses_with_two_thirds(horizon: int) -> None:
    # one row of start and goal: of the three directions that a step may take, one leads to the goal, two stay
    assert optimal_success("FrozenLake-v1", horizon=horizon, desc=["SG"]) == pytest.approx(1 - (2 / 3) ** horizon)


def test_the_slippery_lake_is_between_its_known_bounds_and_grows_with_the_horizon() -> None:
    by_horizon = [optimal_success("FrozenLake-v1", horizon=steps) for steps in (1, 6, 25, 50, 100, 400, 5000)]
    assert by_horizon == sorted(by_horizon)
    assert by_horizon[1] == pytest.approx(3 / 3**6)
    assert 0.70 < optimal_success() < 0.83
    assert optimal_success() == by_horizon[4]  # the environment's own limit is 100 steps
    assert by_horizon[-1] == pytest.approx(14 / 17)


def test_rewards_that_are_no_success_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="not a success"):
        check_rewards("x", {0: {0: [(1.0, 0, -1.0, False)]}})
    with pytest.raises(ValueError, match="not a success"):
        check_rewards("x", {0: {0: [(1.0, 0, 1.0, False)]}})


def test_the_engine_is_asked_what_the_recorded_episode_asked() -> None:
    turns = [turn(2, num_observed=3), turn(1, num_observed=4), turn(3, num_observed=2, starts_context=True)]
    episode = trajectory("g", 0, turns)
    episode.provenance["episode_seed"] = 5  # type: ignore[index]
    asks = asks_of(episode)
    assert [len(ask.context_ids) for ask in asks] == [3, 3 + 2 + 4, 2]
    assert [len(ask.action_ids) for ask in asks] == [2, 1, 3]
    assert np.array_equal(asks[1].context_ids[3:5], asks[0].action_ids)
    assert len({ask.seed for ask in asks}) == 3
    assert count_tokens([episode]) == (6, 15)


def test_seeds_that_are_there_are_not_trained_again() -> None:
    results = curves.empty_results(curves.EXPERIMENTS["frozenlake"])
    assert results["optimum"] == optimal_success()
    results["seeds"].append({"seed": 1})
    assert curves.missing_seeds(results, [0, 1, 2]) == [0, 2]


def held(seed: int) -> dict[str, object]:
    def measured(success: float) -> dict[str, dict[str, float]]:
        return {"sampled": {"success_rate": success}, "greedy": {"success_rate": success + 0.02}}

    return {
        "seed": seed,
        "updates": 2,
        "minutes": 3.0 + seed,
        "heldout": {"before": measured(0.2 * seed), "after": measured(0.9)},
        "training": [[1, 0.5], [2, 0.6]],
        "measured": {"sampled": [[0, 0.2], [2, 0.9]], "greedy": [[0, 0.22], [2, 0.92]]},
    }


def test_results_come_back_as_written_with_a_picture_and_a_table(tmp_path: Path) -> None:
    results = curves.empty_results(curves.EXPERIMENTS["frozenlake"])
    results["seeds"] = [held(1), held(0)]
    curves.write_results(results, tmp_path)
    assert curves.read_results(tmp_path / "frozenlake.json") == results
    assert [seed["seed"] for seed in results["seeds"]] == [0, 1]
    assert (tmp_path / "frozenlake.png").read_bytes().startswith(b"\x89PNG")
    lines = curves.table(results).splitlines()
    assert lines[0] == "| seed | sampled, before | sampled, after | greedy, before | greedy, after | minutes |"
    assert lines[3] == "| 1 | 0.200 | 0.900 | 0.220 | 0.920 | 4.0 |"
    assert lines[4] == "| mean | 0.100 | 0.900 | 0.120 | 0.920 | 3.5 |"
    assert "0.744" in lines[-1]


@pytest.mark.parametrize("process", processes.every_process(), ids=lambda process: process.name)
def test_the_true_advantages_are_those_of_many_episodes(process: processes.Process) -> None:
    rng = np.random.default_rng(0)
    policy = softmax.softmax(rng.normal(size=(1, process.num_observations, processes.ACTIONS)))
    np.testing.assert_allclose(process.chance.sum(axis=2)[~process.is_end], 1.0)
    played = processes.play(process, policy, rng.random((1, 40_000, 2 * process.horizon + 1)), 8)
    returns = played.outcomes + played.rewards.sum(axis=2)
    v, q = processes.values(process, policy)
    k, states = np.arange(process.horizon), played.states
    true = np.where(played.exists, q[0, k, states, played.actions] - v[0, k, states], 0.0)
    # what happened is the start's value, the turns' advantages, and chance that no action influences
    rest = returns - v[0, 0, states[:, :, 0]] - true.sum(axis=2)
    assert abs(rest.mean()) < 4 * rest.std() / 200 + 1e-9
    assert abs((rest * true.sum(axis=2)).mean()) < 4 * (rest * true.sum(axis=2)).std() / 200 + 1e-9
    assert processes.success(process, policy)[0] == pytest.approx(played.outcomes.mean(), abs=0.02)


def test_the_gradient_of_the_true_advantages_is_that_of_the_expected_return() -> None:
    process = processes.search()
    logits = np.random.default_rng(0).normal(size=(1, process.num_observations, processes.ACTIONS))
    found = credit.true_gradient(process, softmax.softmax(logits))[0, 2, 1]
    step = np.zeros_like(logits)
    step[0, 2, 1] = 1e-5
    up, down = (processes.success(process, softmax.softmax(logits + sign * step))[0] for sign in (1, -1))
    assert found == pytest.approx((up - down) / 2e-5, rel=1e-5)


@dataclass
class ActorCriticConfig:
    value_channel: str = key("", "channel of the critic")
    judged: str = key("", "channel that is read, if any")


class ActorCritic:
    """Reads a critic, tells tokens apart, and centres over the whole batch."""

    Config, needs_group, value_options = ActorCriticConfig, False, ("value_channel",)

    def __init__(self, config: ActorCriticConfig) -> None:
        self.config = config

    def estimate(self, rewards: TurnRewards) -> TurnAdvantages:
        if self.config.judged and self.config.judged not in rewards.turn:
            raise UserError("judged", self.config.judged, "no such channel", "score it")
        values = rewards.outcome["outcome"][:, None] - rewards.turn[self.config.value_channel]
        values = np.where(rewards.turn_exists, values - values.mean(), 0.0)
        tokens = [
            [np.asarray([v - 1, v + 1]) for v in row[:n]] for row, n in zip(values, rewards.num_turns, strict=True)
        ]
        return TurnAdvantages(values=np.zeros_like(values), mask=rewards.turn_exists, tokens=tokens)


def test_an_estimator_gets_its_critic_its_tokens_averaged_and_its_batch_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.load_plugins()  # before the copy, or what they register would be lost with it
    monkeypatch.setattr(registry, "_items", {kind: dict(items) for kind, items in registry._items.items()})
    registry.register("estimator", "actor_critic")(ActorCritic)
    process = processes.key_turn("key", "", 3, 0)
    policy = np.full((1, process.num_observations, processes.ACTIONS), 1 / processes.ACTIONS)
    contender, _ = credit.fed("x", {"name": "actor_critic"}, process, policy)
    assert contender is not None
    assert contender.uses_critic
    assert not contender.is_local
    grpo, _ = credit.fed("grpo", {"name": "grpo"}, process, policy)
    assert grpo is not None
    assert grpo.is_local
    two = np.concatenate([policy, policy])
    played = processes.play(process, two, np.random.default_rng(0).random((2, 16, 7)), 8)
    together, _ = softmax.credited(contender, process, two, played, played.rewards, 8)
    # each policy's batch is centred by itself, so the mean of the tokens' advantages is what was centred
    np.testing.assert_allclose(together.sum(axis=(1, 2)), 0.0, atol=1e-9)
    assert np.abs(together).max() > 0.1
    unfed, reason = credit.fed("x", {"name": "actor_critic", "judged": "belief"}, process, policy)
    assert unfed is None
    assert "no such channel" in reason


@pytest.mark.parametrize("label", contenders.KNOWING)
def test_those_that_know_the_process_give_the_true_advantages_on_average(label: str) -> None:
    process = processes.judged_key("judged", "", 4, 1)
    policy = np.full((1, process.num_observations, processes.ACTIONS), 1 / processes.ACTIONS)
    rng = np.random.default_rng(0)
    played = processes.play(process, policy, rng.random((1, 40_000, 9)), 8)
    scored = np.where(played.exists, played.rewards + process.noise * rng.normal(size=played.rewards.shape), 0.0)
    contender = next(one for one in contenders.knowing() if one.label == label)
    found, mask = softmax.credited(contender, process, policy, played, scored, 8)
    is_right = played.rewards[0, :, 1] > 0
    # at the key turn: 0.5 of chance and 0.5 of the judge between right and wrong
    assert found[0, is_right, 1].mean() == pytest.approx(0.75, abs=0.02)
    assert found[0, ~is_right, 1].mean() == pytest.approx(-0.25, abs=0.02)
    assert np.abs(found[0][:, [0, 2, 3]].mean(axis=0)).max() < 0.02
    assert mask.all()


def test_the_pictures_of_credit_are_drawn_one_a_family(tmp_path: Path) -> None:
    paths = credit_picture.main(tmp_path)
    assert [path.name for path in paths] == [f"credit-{name}.png" for name in ("outcome", "turn", "state", "process")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_an_estimator_that_gives_the_key_turn_nothing_has_no_accuracy() -> None:
    process = processes.key_turn("key", "", 3, 0)
    policy = credit.halfway(process)
    training = softmax.Training()
    options = credit.Options(seeds=1, groups=200, training=training, rates=(0.1,), learn=None, is_quick=True)
    for name in ("vpr", "cm2"):  # no later reward counts; vpr leaves all out, cm2 trains the last turn
        contender, _ = credit.fed(name, {"name": name}, process, policy)
        assert contender is not None
        found = credit.accuracy(contender, process, policy, options)
        assert set(found) == {"rank_correlation"}
        assert abs(found["rank_correlation"]) < 0.1


def test_ranks_share_ties() -> None:
    assert credit.rank_correlation(np.asarray([1.0, 2, 2, 3]), np.asarray([0.0, 5, 5, 9])) == pytest.approx(1.0)
    assert credit.rank_correlation(np.asarray([1.0, 2, 3]), np.asarray([3.0, 2, 1])) == pytest.approx(-1.0)
    assert credit.rank_correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_the_credit_benchmark_compares_what_a_process_can_feed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "credit.json"
    chosen = ["--processes", "key_of_3", "--estimators", "turn_loo", "turnwise", "--learn", "turnwise"]
    credit.main(["--quick", *chosen, "--json", str(path)])
    report = json.loads(path.read_text())
    rows = report["processes"][0]["estimators"]
    assert set(rows) == {"grpo", "turn_loo", "turnwise", *contenders.VARIANTS, *contenders.KNOWING}
    assert {label for label, row in rows.items() if "ratio" in row} == {"grpo", "turnwise", *contenders.KNOWING}
    assert rows["turnwise, judged"] == {"not_fed": "no channel process"}
    assert rows["grpo"]["ratio"]["mean"] == 1.0
    assert rows["turnwise"]["gradient_variance"] < rows["turn_loo"]["gradient_variance"]
    assert all(held["share"] < 0.01 for held in report["cost"]["estimators"].values())
    assert "turnwise" in capsys.readouterr().out


def test_a_run_folder_is_never_named_again(tmp_path: Path) -> None:
    first = curves.free_name(tmp_path, "quickstart-seed0")
    (tmp_path / first).mkdir()
    assert curves.free_name(tmp_path, "quickstart-seed0") != first


def test_the_loop_benchmark_reports_every_part_and_the_machine(tmp_path: Path) -> None:
    # in a process of its own: it starts and ends a Ray cluster
    command = [sys.executable, loop.__file__, "--quick", "--json", str(tmp_path / "loop.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "whole loop" in done.stdout
    report = json.loads((tmp_path / "loop.json").read_text())
    assert set(report["summary"]["parts"]) == set(loop.TITLES)
    for part in report["summary"]["parts"].values():
        assert part["sampled_per_s"]["min"] <= part["sampled_per_s"]["median"] <= part["sampled_per_s"]["max"]
        assert 0 < part["sampled_per_s"]["median"] < part["all_per_s"]["median"]
    for stage in report["summary"]["stages"].values():
        assert stage["works"]["median"] + stage["waits"]["median"] == pytest.approx(1.0)
    assert report["summary"]["exact_share"]["min"] == 1.0
    assert report["machine"]["cpu"]
    assert len(report["load_before"]) == len(report["load_after"]) == 3
    assert report["settings"] == {"repeats": 1, "updates": 1, "quick": True}


def _training(estimator: str, seed: int, rise: int) -> dict[str, object]:
    rates = {mode: {"success_rate": 0.1} for mode in ("sampled", "greedy")}
    return {
        "estimator": estimator,
        "seed": seed,
        "updates": 40,
        "episodes": 4000,
        "heldout": {"before": rates, "after": rates},
        "training": [[update, 0.9 if update > rise else 0.0] for update in range(1, 41)],
    }


def test_the_first_episodes_at_a_level_count_and_who_never_gets_there_is_said(tmp_path: Path) -> None:
    early, late, never = (_training("grpo", seed, rise) for seed, rise in enumerate((5, 20, 40)))
    reached = [comparison.episodes_to(held, held["training"], 0.5) for held in (early, late, never)]
    assert 500 < reached[0] < 1200 < reached[1] < 2800
    assert reached[2] is None
    results = {"title": "both", "runs": [early, never, _training("turnwise", 0, 5)]}
    lines = credit_lm.table(results).splitlines()
    assert lines[2].startswith("| grpo | 2 | 0.100 (0.100 to 0.100)")
    assert "1 never" in lines[2]
    assert "never" not in lines[3]
    comparison.write(results, tmp_path / "both.json", credit_lm.draw)
    assert json.loads((tmp_path / "both.json").read_text()) == results
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_the_flagships_table_holds_both_measures_and_its_picture_both_curves(tmp_path: Path) -> None:
    shares = {"success": [[0, 0.0], [20, 0.25], [60, 0.5]], "evidenced": [[0, 0.0], [20, 0.125], [60, 0.25]]}
    runs = []
    for contender in ("grpo", "flagship"):
        held = _training(contender, 0, 5)
        curve = held["training"]
        about = {"contender": contender, "minutes": 7.25, "training": {"success": curve, "evidenced": curve}}
        runs.append({**held, **about, "measured": {"sampled": shares, "greedy": shares}})
    results = {"runs": runs}
    lines = flagship.table(results).splitlines()
    assert lines[0].startswith("| contender | mode | seeds | success 20 | success 60 | evidenced 20 | evidenced 60 |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| flagship"] * 2 + ["| grpo"] * 2
    assert "0.250 (0.250 to 0.250) | 0.500 (0.500 to 0.500) | 0.125 (0.125 to 0.125) | 0.250" in lines[2]
    assert {line.count("|") for line in lines} == {10}
    again = json.loads(json.dumps(runs[1])) | {"seed": 1}
    again["measured"]["sampled"]["success"][-1][1] = 0.75
    paired = flagship.differences({"runs": [*runs, again, {**runs[0], "seed": 1}]})
    assert paired.startswith("flagship less grpo, 2 pairs (mean, standard error): success sampled +0.125, 0.125;")
    assert "success greedy +0.000, 0.000" in paired
    comparison.write(results, tmp_path / "flagship.json", flagship.draw)
    assert json.loads((tmp_path / "flagship.json").read_text()) == results
    assert (tmp_path / "flagship.png").read_bytes().startswith(b"\x89PNG")


def test_the_shares_of_a_training_are_of_its_stored_episodes(tmp_path: Path) -> None:
    outcomes = {"a/0": {"outcome": 1.0, "citation": 1.0}, "a/1": {"outcome": 1.0, "citation": 0.5}}
    outcomes |= {"a/2": {"outcome": 0.0, "citation": 1.0}, "a/3": {"outcome": 0.0}}
    scores = [score(name, value, channel=channel) for name, held in outcomes.items() for channel, value in held.items()]
    Store(tmp_path).append(3, [group("a", [[turn()]] * 4, scores)])
    assert flagship.training(tmp_path) == {"success": [[3, 0.5]], "evidenced": [[3, 0.25]]}


def test_gradients_that_agree_have_a_signal_and_those_that_do_not_have_none() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50)
    steady, noisy, turned = credit_gradients.Halves(), credit_gradients.Halves(), credit_gradients.Halves()
    for _ in range(400):
        noise = rng.normal(size=50)
        steady.add(truth + noise)
        noisy.add(5.0 * noise)
        turned.add(2.0 * truth + 2.0 * rng.normal(size=50))
    assert steady.snr() == pytest.approx(float(truth @ truth) / 50, rel=0.15)
    assert abs(noisy.snr()) < 0.05
    assert credit_gradients.cosine(steady, turned) == pytest.approx(1.0, abs=0.02)


def test_the_ranking_of_turns_compares_within_group_and_turn() -> None:
    assert prm_ranking.auc([(0.2, True), (0.1, False), (0.2, False), (0.3, False)]) == pytest.approx(0.5)
    assert np.isnan(prm_ranking.auc([(0.2, True)]))
    oracle = [score(f"a/{k}", value, turn=0, channel="oracle") for k, value in enumerate((1.0, -1.0, None))]
    episodes = group("a", [[turn()], [turn()], [turn()]], oracle)
    rewards = {("a/0", 0): 0.5, ("a/1", 0): 0.1, ("a/2", 0): 0.3}
    assert list(prm_ranking.compared(episodes, rewards)) == [[(0.5, True), (0.1, False)]]
