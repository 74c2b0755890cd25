"""The success of the best possible policy on a small Gymnasium environment, by value iteration over its own table.

`curves.py` draws it beside the learnt policies and a flow test compares with it; nobody has to type the number in.
For environments of the kind of FrozenLake only: a known transition table, and a reward of 1 that ends the episode.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-12
"""Without a limit on steps, iteration ends when no state's value moves more than this."""

MAX_SWEEPS = 1_000_000

Outcomes = list[tuple[float, int, float, bool]]
"""Of one action in one state: (probability, next state, reward, whether the episode ends)."""

Table = dict[int, dict[int, Outcomes]]


def optimal_success(env_id: str = "FrozenLake-v1", horizon: int | None = None, **kwargs: Any) -> float:
    """Return the probability, 0 to 1, with which an optimal policy succeeds within `horizon` steps.

    The policy may use the number of steps left. `horizon` None: the environment's own limit on steps, or none if it has
    none. `kwargs` go to `gymnasium.make`. ValueError for rewards whose sum is not a success rate.
    """
    env = gymnasium.make(env_id, **kwargs)
    try:
        table: Table = env.unwrapped.P  # type: ignore[attr-defined]
        start: NDArray[np.float64] = np.asarray(env.unwrapped.initial_state_distrib)  # type: ignore[attr-defined]
        limit = horizon if horizon is not None else env.spec.max_episode_steps if env.spec else None
    finally:
        env.close()
    check_rewards(env_id, table)
    return float(start @ state_values(table, limit))


def state_values(table: Table, horizon: int | None) -> NDArray[np.float64]:
    """Return [num_states] success probabilities of the best policy with `horizon` steps left; None: any number."""
    probability, following, reward, goes_on = _arrays(table)
    values = np.zeros(len(table))
    for _ in range(MAX_SWEEPS if horizon is None else horizon):
        # Bellman's equation without discount: what an outcome gives, and what can be had from where it leads
        better = (probability * (reward + goes_on * values[following])).sum(axis=-1).max(axis=-1)
        if horizon is None and np.abs(better - values).max() <= TOLERANCE:
            return better
        values = better
    return values


def check_rewards(env_id: str, table: Table) -> None:
    """ValueError unless every reward is 0, or 1 at the end of the episode."""
    for state, actions in table.items():
        for outcomes in actions.values():
            for _, _, reward, ends in outcomes:
                if reward != 0 and not (reward == 1 and ends):
                    raise ValueError(f"{env_id}: a reward of {reward:g} in state {state} is not a success at the end")


def _arrays(table: Table) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the table as arrays [states, actions, outcomes]: probability, next state, reward, whether it goes on."""
    num_actions = max(len(actions) for actions in table.values())
    most = max(len(outcomes) for actions in table.values() for outcomes in actions.values())
    shape = (len(table), num_actions, most)
    probability, reward, goes_on = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    following = np.zeros(shape, np.int64)
    for state, actions in table.items():
        for action, outcomes in actions.items():
            for place, (p, to, gain, ends) in enumerate(outcomes):
                at = state, action, place
                probability[at], following[at], reward[at], goes_on[at] = p, to, gain, not ends
    return probability, following, reward, goes_on
