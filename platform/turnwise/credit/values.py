"""Values of states, for estimators that subtract a critic's estimate. The platform trains no critic.

A value is the score of a turn on a channel of weight 0: it is read, but it is no reward and in no sum. It estimates
what the trajectory still gets from this turn on, before its action, in units of the weighted sum of all channels.
"""

from __future__ import annotations

import numpy as np

from turnwise.credit import Array, Mask, TurnRewards
from turnwise.credit.returns import weighted_rewards
from turnwise.errors import JudgeError


def turn_values(rewards: TurnRewards, channel: str) -> tuple[Array, Mask]:
    """Return each turn's value and whether it is known, [N, K] each; a turn without a score on the channel has none.

    JudgeError for a score of a whole trajectory, which is no turn's value.
    """
    whole = rewards.outcome_mask[channel]
    wrong = np.nonzero(whole & (np.where(whole, rewards.outcome[channel], 0.0) != 0.0))[0]
    if len(wrong):
        place = f"score on channel {channel!r}, trajectory {rewards.name_of(int(wrong[0]))}, whole trajectory"
        raise JudgeError(f"{place}: the channel holds values, one a turn")
    known = rewards.turn_mask[channel] & whole[:, None] & rewards.turn_exists
    if channel in rewards.turn_scored:
        known = known & rewards.turn_scored[channel]
    return np.where(known, rewards.turn[channel], 0.0), known


def rewards_and_values(rewards: TurnRewards, channel: str) -> tuple[Array, Array, Mask]:
    """Return the weighted reward and the value of each turn, and which advantages they make known, [N, K] each.

    An advantage of these is a sum over its own and all later turns: what is unknown hides it and all earlier ones.
    """
    immediate, known = weighted_rewards(rewards)
    values, has_value = turn_values(rewards, channel)
    hidden = rewards.turn_exists & ~(known & has_value)
    return immediate, values, rewards.turn_exists & ~np.logical_or.accumulate(hidden[:, ::-1], axis=1)[:, ::-1]
