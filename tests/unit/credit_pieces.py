"""What the credit tests share: trajectories, groups and rewards in a line each."""

import numpy as np

from turnwise.credit import TurnRewards
from turnwise.records import End, Group, Score, Task, Trajectory, Turn

TASK = Task(env_id="turnwise-tests/None-v0", task_id="0", seed=0)


def turn(num_tokens=2, *, num_observed=3, starts_context=False, version=0, first_id=10):
    return Turn(
        observation_ids=np.arange(num_observed, dtype=np.int32),
        action_ids=np.arange(first_id, first_id + num_tokens, dtype=np.int32),
        logprobs=np.full(num_tokens, -0.5, dtype=np.float32),
        versions=np.full(num_tokens, version, dtype=np.int32),
        starts_context=starts_context,
    )


def trajectory(group, index, turns):
    turns = [turn(n) for n in turns] if all(isinstance(n, int) for n in turns) else turns
    return Trajectory(
        trajectory_id=f"{group}/{index}",
        group_id=group,
        index=index,
        task=TASK,
        turns=tuple(turns),
        end=End.TERMINATED,
    )


def score(where, value, *, turn=None, channel="outcome", source="test", span=None):
    return Score(trajectory_id=where, channel=channel, value=value, turn=turn, source=source, span=span)


def group(name, turns_by_member, scores):
    members = tuple(trajectory(name, index, turns) for index, turns in enumerate(turns_by_member))
    return Group(group_id=name, task=TASK, trajectories=members, scores=tuple(scores))


def rewards(
    groups, turn_rewards, outcomes, *, masked_turns=(), masked_outcomes=(), weight=1.0, width=None, state_keys=()
):
    """Return rewards of one channel "x"; `turn_rewards` is ragged, None there and in `outcomes` is masked."""
    num_turns = np.asarray([len(row) for row in turn_rewards])
    width = width or max(1, int(num_turns.max(initial=1)))
    values, mask = np.zeros((len(groups), width)), np.zeros((len(groups), width), dtype=bool)
    tokens = np.zeros((len(groups), width), dtype=np.int64)
    for i, row in enumerate(turn_rewards):
        values[i, : len(row)], mask[i, : len(row)], tokens[i, : len(row)] = row, True, 2
    for i, k in masked_turns:
        values[i, k], mask[i, k] = 0.0, False
    known = np.asarray([i not in set(masked_outcomes) for i in range(len(groups))])
    return TurnRewards(
        group=list(groups),
        num_turns=num_turns,
        num_tokens=tokens,
        turn={"x": values},
        turn_mask={"x": mask},
        outcome={"x": np.where(known, np.asarray(outcomes, dtype=np.float64), 0.0)},
        outcome_mask={"x": known},
        weights={"x": weight},
        state_keys=state_keys,
    )
