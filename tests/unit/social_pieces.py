"""What the tests of the social environments share: random play, and events by channel."""

import math

import numpy as np

from turnwise.env.conformance import MALFORMED, NO_ACTIONS
from turnwise.tasks import world_of

MALFORMED_ACTIONS = (*MALFORMED, *NO_ACTIONS)


def told(answer):
    """The events of a step by channel."""
    return {event.channel: event.value for event in answer[4]["events"]}


def play_at_random(env, num_episodes, more):
    """Play episodes of random valid and malformed actions; every answer must be well formed."""
    rng = np.random.default_rng(0)
    actions = [*world_of(env).sample_actions, *more]
    for seed in range(num_episodes):
        env.reset(seed=seed, options={"split": ("train", "eval")[seed % 2]})
        for _ in range(100):
            world = world_of(env)
            demonstrated = rng.random() < 0.3
            action = world.demonstrate(rng) if demonstrated else actions[int(rng.integers(len(actions)))]
            if isinstance(action, str):
                assert world.oracle(action) is None or -1 <= world.oracle(action) <= 1
            observation, reward, terminated, truncated, _ = env.step(action)
            assert env.observation_space.contains(observation)
            assert math.isfinite(reward)
            if terminated or truncated:
                break
        else:
            raise AssertionError("an episode did not end")
