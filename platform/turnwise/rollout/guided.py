"""Guided attempts: which failed episodes of a group are tried again with the environment's guidance (Agent-RLVR).

arXiv 2506.11425; algorithms.md 4.10. The stream plans with `with_guided`; the rollout worker plays. Which first
attempts may be followed is decided beforehand, from the seed and the number of the group: not from which of them fail,
nor from the order in which they end. So a group is the same in every run, and in a resumed one.

A guided attempt is an episode of its own: the same task, another seed, its guidance in the first observation. What it
writes is sampled, and trained on, in that context. In credit it is compared with guided attempts only (`credit.split`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from turnwise.config.schema import GuidedConfig
from turnwise.records import Trajectory
from turnwise.rollout.episode import EpisodeSpec

_STREAM = 1  # keeps these draws apart from the seeds of first attempts


def with_guided(
    specs: Sequence[EpisodeSpec], config: GuidedConfig, *, number: int, seed: int, update: int
) -> list[EpisodeSpec]:
    """Return the first attempts of group `number`, those that are chosen with the guided attempt that may follow.

    Each is chosen with the probability of `update`, at most `per_group` of them.
    """
    rng = np.random.default_rng([seed, number, _STREAM])
    draws, seeds = rng.random(len(specs)), rng.integers(2**32, size=len(specs))
    lowest = np.argsort(draws, kind="stable")[: config.per_group]
    chosen = {int(place) for place in lowest if draws[place] < share(config, update)}
    return [
        replace(spec, again=_again(spec, len(specs), int(seeds[place]))) if place in chosen else spec
        for place, spec in enumerate(specs)
    ]


def share(config: GuidedConfig, update: int) -> float:
    """Return the probability that a failed first attempt of an update is followed."""
    if not config.over:
        return config.share
    done = min(1.0, update / config.over)
    return config.share + (config.final - config.share) * done


def has_failed(trajectory: Trajectory, success: tuple[str, float]) -> bool:
    """Whether the policy failed: the episode is complete, and its events on a channel sum to at most a threshold."""
    channel, threshold = success
    return trajectory.end.is_complete and trajectory.events_by_channel.get(channel, 0.0) <= threshold


def _again(spec: EpisodeSpec, size: int, seed: int) -> EpisodeSpec:
    """Return the attempt after `spec`, in whose place in a lock-step batch it plays: that one is over by then."""
    index = size + spec.index
    name = f"{spec.group_id}/{index}"
    return replace(spec, trajectory_id=name, index=index, seed=seed, first_attempt=spec.trajectory_id)
