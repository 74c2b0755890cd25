"""`turnwise`: equal states pooled; exact unbiasedness also where states come again; `turn_loo` without keys."""

import itertools

import numpy as np
import pytest
from credit_pieces import rewards

from turnwise.credit.estimators.turn_loo import TurnLoo, TurnLooConfig
from turnwise.credit.estimators.turnwise import Turnwise, TurnwiseConfig
from turnwise.errors import UserError


def estimate(batch, **options):
    return Turnwise(TurnwiseConfig(**options)).estimate(batch)


def maze(**changes):
    """One group. States: a start s, a fork f; the third trajectory goes through f twice."""
    given = {
        "groups": ["g"] * 3,
        "turn_rewards": [[0.0, 0.0], [0.5, 0.0], [0.0, 0.25, 0.0]],
        "outcomes": [1.0, 0.0, 1.0],
        "state_keys": [["s", "f"], ["s", "f"], ["s", "f", "f"]],
    }
    return rewards(**(given | changes))


def test_what_follows_is_pooled_over_first_visits_and_the_baseline_shrinks_to_the_turns_own():
    found = estimate(maze(), match="state")
    # returns [1, 1], [0.5, 0], [1.25, 1.25, 1]; first visits of f by the three: 1, 0, 1.25
    pooled_at_fork = (1 + 0 + 1.25) / 3
    turn_0 = [(0.5 + 1.25) / 2, (1 + 1.25) / 2, (1 + 0.5) / 2]
    fork = [((0 + 1.25) / 2 + 0 + 1.25) / 3, ((1 + 1.25) / 2 + 1 + 1.25) / 3, (0.5 + 1 + 0) / 3]
    expected = [
        [pooled_at_fork - turn_0[0], 1 - fork[0], 0.0],
        [0.5 + pooled_at_fork - turn_0[1], 0 - fork[1], 0.0],
        # its second visit reads the others' first ones beside its own return from there
        [pooled_at_fork - turn_0[2], 0.25 + (1 + 1 + 0) / 3 - fork[2], 1 - fork[2]],
    ]
    np.testing.assert_allclose(found.values, expected)
    assert found.mask.tolist() == [[True, True, False], [True, True, False], [True, True, True]]


def test_by_turn_every_turn_is_compared_with_what_the_others_in_its_state_were_led_to():
    found = estimate(maze())
    at_fork = np.asarray([1, 0, 0.25 + 1])
    start = np.asarray([0, 0.5, 0]) + at_fork.mean()
    own = np.asarray(
        [[(0.5 + 1.25) / 2, 1.25 / 2], [2.25 / 2, 2.25 / 2], [1.5 / 2, 1 / 2]]
    )  # the baselines of turn_loo
    expected = np.zeros((3, 3))
    expected[:, 0] = start - (own[:, 0] + start.sum() - start) / 3
    expected[:, 1] = at_fork - (own[:, 1] + at_fork.sum() - at_fork) / 3
    expected[2, 2] = 1 - (1 + 0) / 2  # alone at its second visit
    np.testing.assert_allclose(found.values, expected, atol=1e-12)


def test_turns_that_all_led_to_the_same_state_have_no_advantage_without_shrink():
    found = estimate(maze(turn_rewards=[[0.0, 0.0], [0.0, 0.0], [0.0, 0.25, 0.0]]), shrink=0.0)
    np.testing.assert_allclose(found.values[:, 0], 0.0, atol=1e-12)
    assert np.abs(found.values[:, 1]).min() > 0.1


@pytest.mark.parametrize(
    "estimator", [TurnLoo(TurnLooConfig(immediate=["x"])), Turnwise(TurnwiseConfig(immediate=["x"]))]
)
def test_an_immediate_channel_judges_one_turn(estimator):
    turns = [[1.0, 0.25], [0.0, 4.0], [0.5, 9.0]]
    found = estimator.estimate(rewards(["g"] * 3, turns, [0.0] * 3, masked_turns=[(2, 1)]))
    # no key: the others' scores of the same turn; the masked one takes its own turn alone
    np.testing.assert_allclose(found.values, [[0.75, -3.75], [-0.75, 3.75], [0.0, 0.0]])
    assert found.mask.tolist() == [[True, True], [True, True], [True, False]]
    keyed = Turnwise(TurnwiseConfig(immediate=["x"], shrink=0.0))
    found = keyed.estimate(rewards(["g"] * 3, turns, [0.0] * 3, state_keys=[["s", "l"], ["s", "r"], ["s", "r"]]))
    np.testing.assert_allclose(found.values, [[0.75, 0.25 - 6.5], [-0.75, -5.0], [0.0, 5.0]])


def test_an_immediate_channel_that_scores_whole_trajectories_is_refused():
    with pytest.raises(UserError, match="immediate=x: the channel also scores whole trajectories"):
        estimate(maze(), immediate=["x"])
    found = estimate(maze(outcomes=[0.0] * 3, masked_outcomes=[0]), immediate=["x"])
    assert found.mask.tolist() == [[False] * 3, [True, True, False], [True, True, True]]


@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0.8}, {"singleton": "raw"}, {"shrink": 0.0}, {"match": "state"}, {"lookahead": "own"}]
)
def test_without_keys_it_is_turn_loo_bit_for_bit(options):
    rng = np.random.default_rng(0)
    turns = [rng.normal(size=rng.integers(1, 6)).tolist() for _ in range(40)]
    names = [f"g{i // 5}" for i in range(39)] + ["alone"]
    batch = rewards(names, turns, rng.normal(size=40), masked_turns=[(3, 0)], masked_outcomes=[7])
    shared = {name: value for name, value in options.items() if name in ("gamma", "singleton")}
    ours, other = estimate(batch, **options), TurnLoo(TurnLooConfig(**shared)).estimate(batch)
    np.testing.assert_array_equal(ours.values, other.values)
    np.testing.assert_array_equal(ours.mask, other.mask)


def test_a_masked_return_is_in_no_mean_and_its_turns_are_not_trained_on():
    found = estimate(maze(masked_outcomes=[0]), shrink=0.0, match="state")
    assert found.mask.tolist() == [[False] * 3, [True, True, False], [True, True, True]]
    np.testing.assert_allclose(found.values[1], [0.5 + (0 + 1.25) / 2 - 1.25, 0 - 1.25, 0.0])
    found = estimate(maze(masked_outcomes=[0]), shrink=0.0)
    assert found.mask.tolist() == [[False] * 3, [True, True, False], [True, True, True]]
    # both came from s to f, so what is left of the first turn is its own reward
    np.testing.assert_allclose(found.values[1], [0.5, 0 - 1.25, 0.0])


def test_chance_after_an_action_and_turns_that_do_not_matter_hardly_reach_the_advantages():
    """One choice, then a coin that no choice influences."""
    rng = np.random.default_rng(0)
    choices, coins = rng.integers(0, 2, 3200), rng.integers(0, 2, 3200)
    batch = rewards(
        [f"g{i // 32}" for i in range(3200)],
        [[0.1 * choice, 0.0] for choice in choices],
        coins.astype(float),
        state_keys=[["start", "coin"]] * 3200,
    )
    ours, other = estimate(batch), TurnLoo(TurnLooConfig()).estimate(batch)
    assert ours.values[:, 0].var() < 0.1 * other.values[:, 0].var()


def two_tasks(**changes):
    """A task that both fail and one that both solve; the second member of the second is a turn longer."""
    given = {
        "groups": ["bad", "bad", "good", "good"],
        "turn_rewards": [[0.0], [0.0], [0.0], [0.25, 0.0]],
        "outcomes": [0.0, 0.0, 1.0, 1.0],
    }
    return rewards(**(given | changes))


def test_a_prior_tells_tasks_that_all_fail_from_tasks_that_all_succeed():
    assert not estimate(two_tasks(turn_rewards=[[0.0]] * 4)).values.any()
    found = estimate(two_tasks(), prior=2.0).values
    # returns from turn 0: 0, 0, 1, 1.25; from turn 1, where an ended one goes on with its last: 0, 0, 1, 1
    bad = 0 - (2 * 1.125 + 1 * 0) / 3
    expected = [[bad, 0.0], [bad, 0.0], [1 - (2 * 0 + 1.25) / 3, 0.0], [1.25 - (2 * 0 + 1) / 3, 1 - (2 * 0 + 1) / 3]]
    np.testing.assert_allclose(found, expected)


def test_a_prior_counts_beside_the_visits_of_a_state():
    keys = [["s"], ["s"], ["s"], ["s", "f"]]
    found = estimate(two_tasks(state_keys=keys), prior=2.0, shrink=0.5).values
    # the third has one visit of its state, the fourth's 1.25, and half a visit of the baseline, which is that too
    np.testing.assert_allclose(found[2, 0], 1 - (2 * 0 + 1.5 * 1.25) / 3.5)
    np.testing.assert_allclose(found[3, 1], 1 - (2 * 0 + 1 * 1) / 3)  # nobody else saw f: one other


def test_a_prior_changes_nothing_without_another_task_and_leaves_masked_ones_out():
    np.testing.assert_array_equal(estimate(maze(), prior=3.0).values, estimate(maze()).values)
    found = estimate(two_tasks(masked_outcomes=[0]), prior=2.0, singleton="raw")
    np.testing.assert_allclose(found.values[2, 0], 1 - (2 * 0 + 1.25) / 3)
    assert not found.mask[0].any()


@pytest.mark.parametrize("options", [{"prior": 1.0}, {"prior": 5.0, "match": "state"}, {"prior": 2.0, "shrink": 0.0}])
def test_the_expected_gradient_is_the_true_one_with_a_prior(options):
    """Two tasks of two, each batch by itself: other tasks must know nothing of what is done in one."""
    episodes = [([0.3 * first, 0.0], float(second), (first, second)) for first in (0, 1) for second in (0, 1)]
    found, true = np.zeros(2), np.zeros(2)
    for members in itertools.product(range(len(episodes)), repeat=4):
        batch = rewards(
            ["a", "a", "b", "b"],
            [episodes[m][0] for m in members],
            [episodes[m][1] for m in members],
            state_keys=[["s", str(episodes[m][2][0])] for m in members],
        )
        chosen = np.asarray([episodes[m][2] for m in members])
        scores = chosen - np.asarray([0.4, 0.7])
        chance = np.prod(np.where(chosen == 1, [0.4, 0.7], [0.6, 0.3]))
        found += chance * (estimate(batch, **options).values * scores).mean(axis=0)
        returns = np.asarray([[sum(episodes[m][0]) + episodes[m][1], episodes[m][1]] for m in members])
        true += chance * (returns * scores).mean(axis=0)
    np.testing.assert_allclose(found, true, atol=1e-12)
    assert np.abs(true).min() > 0.05


# A loop that is left by choice or by chance: in state x the policy stays (0) or leaves (1); staying leads back to x, or
# to y, where one more choice decides.
STAY_IN_X = 0.6
THETA = {"x": 0.3, "y": -0.2}


DEPTH = 9
"""Longer stays in x have a chance of one in a million together, and are left out."""


def paths():
    """(states, actions, chance without the policy's part, turn rewards, outcome) of every episode."""
    for stays in itertools.count():
        states, actions, chance = ["x"] * stays, [0] * stays, STAY_IN_X**stays
        rest = [0.1] * stays
        yield [*states, "x"], [*actions, 1], chance, [*rest, 0.0], 0.3
        for choice in (0, 1):
            missed = chance * (1 - STAY_IN_X)
            yield [*states, "x", "y"], [*actions, 0, choice], missed, [*rest, 0.1, 0.0], float(choice)
        if stays == DEPTH:
            return


def policy(state, action):
    stop = 1 / (1 + np.exp(-THETA[state]))
    return stop if action else 1 - stop


def gradients(**options):
    """Expected and true gradient by state, for groups of two."""
    episodes = list(paths())
    chances = np.asarray(
        [p * np.prod([policy(s, a) for s, a in zip(ss, aa, strict=True)]) for ss, aa, p, _, _ in episodes]
    )
    pairs = list(itertools.product(range(len(episodes)), repeat=2))
    members = [member for pair in pairs for member in pair]
    batch = rewards(
        np.repeat(np.arange(len(pairs)), 2).astype(str),
        [episodes[m][3] for m in members],
        [episodes[m][4] for m in members],
        state_keys=[episodes[m][0] for m in members],
    )
    weights = np.repeat([chances[a] * chances[b] for a, b in pairs], 2) / 2
    values = estimate(batch, **options).values
    found, true = dict.fromkeys(THETA, 0.0), dict.fromkeys(THETA, 0.0)
    for row, member in enumerate(members):
        states, actions, _, turns, outcome = episodes[member]
        for k, (state, action) in enumerate(zip(states, actions, strict=True)):
            score = action - policy(state, 1)
            found[state] += weights[row] * values[row, k] * score
            true[state] += weights[row] * (sum(turns[k:]) + outcome) * score
    return np.asarray(list(found.values())), np.asarray(list(true.values()))


OPTIONS = [
    {**match, **rest} for match in ({}, {"match": "state"}) for rest in ({}, {"lookahead": "own"}, {"shrink": 0.0})
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_expected_gradient_is_the_true_one_where_states_come_again(options):
    found, true = gradients(**options)
    np.testing.assert_allclose(found, true, atol=1e-5)
    assert np.abs(true).min() > 0.02


# A fork: the first choice leads left or right by chance, where the second one and chance decide. Three at a time, so
# that a baseline holds what followed a turn of its own trajectory.
LEFT = (0.8, 0.3)
WIN = {("l", 0): 0.9, ("l", 1): 0.4, ("r", 0): 0.2, ("r", 1): 0.5}
CHOICE = {"s": 0.35, "l": 0.6, "r": 0.45}  # probability of choosing 1


def forked():
    """(states, choices, chance of all, turn rewards, outcome) of every episode; one that wins goes on for a turn."""
    for first, side, second, won in itertools.product((0, 1), "lr", (0, 1), (0, 1)):
        chance = LEFT[first] if side == "l" else 1 - LEFT[first]
        chance *= WIN[side, second] if won else 1 - WIN[side, second]
        chance *= np.prod([CHOICE[s] if a else 1 - CHOICE[s] for s, a in (("s", first), (side, second))])
        yield ["s", side, *["w"] * won], [first, second], chance, [0.3 * first, -0.1, *[0.2] * won], float(won)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_expected_gradient_is_the_true_one_in_groups_of_three(options):
    episodes = list(forked())
    groups = list(itertools.product(range(len(episodes)), repeat=3))
    members = [member for group in groups for member in group]
    batch = rewards(
        np.repeat(np.arange(len(groups)), 3).astype(str),
        [episodes[m][3] for m in members],
        [episodes[m][4] for m in members],
        state_keys=[episodes[m][0] for m in members],
    )
    weights = np.repeat([np.prod([episodes[m][2] for m in group]) for group in groups], 3) / 3
    values = estimate(batch, **options).values
    found, true = dict.fromkeys(CHOICE, 0.0), dict.fromkeys(CHOICE, 0.0)
    for row, member in enumerate(members):
        states, choices, _, turns, outcome = episodes[member]
        for k, choice in enumerate(choices):
            score = weights[row] * (choice - CHOICE[states[k]])
            found[states[k]] += values[row, k] * score
            true[states[k]] += (sum(turns[k:]) + outcome) * score
    np.testing.assert_allclose(list(found.values()), list(true.values()), atol=1e-12)
    assert min(abs(value) for value in true.values()) > 0.01
