"""What an implicit PRM knows of single turns: its rewards against the environment's oracle, on a stored training.

    turnwise train examples/search_citation_rubric.yaml name=recorded rollout.oracle=true \
        credit.channels.oracle=0.0 learner.updates=25
    python benchmarks/prm_ranking.py runs/recorded [--json FILE] [lr=2e-3 loss=ce ...]

The scorer starts as the run's policy did, scores the groups of each update and learns from them, as in training, but
nobody learns from it. AUC: that a turn which the oracle finds right has a higher reward than one that it finds wrong,
over all turns of an update, and over pairs of one group and turn number, which is what an advantage compares; means
over the updates from the sixth on.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

import machine
from turnwise.config.plugins import build_plugin
from turnwise.records import Group
from turnwise.reward import Start
from turnwise.store.store import Store
from turnwise_rewards.trained.implicit_prm import ImplicitPRM

FIRST = 6
"""First update that counts."""

Turns = dict[tuple[str, int], float]
"""A value by trajectory and turn."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = _parser().parse_intermixed_args(argv)
    options = OmegaConf.to_container(OmegaConf.from_dotlist(given.words))
    assert isinstance(options, dict)
    found = {"options": options, **measured(given.run, options), "machine": machine.described()}
    text = json.dumps(found, indent=1)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(text)


def measured(run: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return the two shares by update, and their means."""
    kind, config = build_plugin("scorer", {"name": "implicit_prm", **options})
    scorer: ImplicitPRM = kind(config)
    store = Store(run)
    updates = store.updates()
    scorer.begin(
        Start(model_path=run / "warmstart", dtype="float32", seed=0, updates=len(updates), is_synchronous=True)
    )
    overall, within = [], []
    for update in updates:
        groups = store.groups(update)
        rewards = {(s.trajectory_id, s.turn): s.value for group in groups for s in scorer.score(group)}
        pairs = [list(compared(group, rewards)) for group in groups]  # by group and turn: (reward, is right)
        overall.append(auc([each for group in pairs for turn in group for each in turn]))
        turns = [turn for group in pairs for turn in group]
        counts = [sum(ok for _, ok in turn) * sum(not ok for _, ok in turn) for turn in turns]
        shares = [auc(turn) if count else 0.0 for turn, count in zip(turns, counts, strict=True)]
        within.append(float(np.average(shares, weights=counts)) if sum(counts) else float("nan"))
        scorer.update(groups)
    means = {"overall": float(np.nanmean(overall[FIRST - 1 :])), "within": float(np.nanmean(within[FIRST - 1 :]))}
    return {"auc": means, "overall": overall, "within": within}


def compared(group: Group, rewards: Turns) -> Iterator[list[tuple[float, bool]]]:
    """Yield for each turn number the (reward, whether the oracle finds it right) of the group's turns."""
    oracle = {(s.trajectory_id, s.turn): s.value for s in group.scores if s.channel == "oracle"}
    turns: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for trajectory in group.trajectories:
        for number in range(len(trajectory.turns)):
            place = (trajectory.trajectory_id, number)
            if oracle.get(place) is not None and rewards.get(place) is not None:
                turns[number].append((rewards[place], oracle[place] > 0))
    yield from turns.values()


def auc(values: Sequence[tuple[float, bool]]) -> float:
    """Return the share of (right, wrong) pairs in order, ties half; NaN without a pair."""
    rights, wrongs = (np.array([value for value, ok in values if ok is wanted]) for wanted in (True, False))
    if not len(rights) or not len(wrongs):
        return float("nan")
    differences = rights[:, None] - wrongs[None, :]
    return float(np.mean((differences > 0) + 0.5 * (differences == 0)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder, recorded with rollout.oracle=true")
    parser.add_argument("words", nargs="*", help="options of the scorer, name=value")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


if __name__ == "__main__":
    main()
