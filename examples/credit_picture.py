"""How credit lands on the turns of one trajectory, drawn for each family of estimators.

    python examples/credit_picture.py [FOLDER]         docs/results by default: credit-outcome.png and so on

The world is small enough to know the truth. Of three keys one is right; it is taken at the second of six turns, and
opens the door at the end with probability 0.75, the others with 0.25. The other turns do nothing. A judge also scores
every turn: 0.5 for taking the right key, 0 otherwise, with noise. Sixteen trajectories make a group; drawn is one that
took the right key and found the door shut all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from turnwise import registry
from turnwise.config.plugins import build_plugin
from turnwise.credit import Array, TurnRewards

TURNS = ("look\naround", "take\na key", "walk", "walk", "walk", "open\nthe door")
KEY_TURN, GROUP = 1, 16
OPENS = (0.25, 0.75)
"""Chance of a wrong and of the right key."""

FAMILIES = {
    "outcome": ("The whole score for every turn", ("grpo", "rloo"), {"outcome": 1.0}),
    "turn": ("From each turn on, against the same turn of the others", ("turn_loo",), {"outcome": 1.0, "judge": 1.0}),
    "state": ("Against the others in the same state", ("state_gae", "turnwise"), {"outcome": 1.0}),
    "process": ("A judge's turn scores alone", ("turn_loo", "turnwise"), {"judge": 1.0}),
}
"""By name: title, estimators, and weights of the channels that they see."""

COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2")


def played(seed: int) -> tuple[TurnRewards, int]:
    """Return a group and the row of its trajectory that took the right key in vain."""
    rng = np.random.default_rng(seed)
    is_right = rng.random(GROUP) < 1 / 3
    opened = rng.random(GROUP) < np.where(is_right, OPENS[1], OPENS[0])
    judged = rng.normal(scale=0.1, size=(GROUP, len(TURNS)))
    judged[:, KEY_TURN] += 0.5 * is_right
    unlucky = np.flatnonzero(is_right & ~opened)
    if not len(unlucky) or is_right.sum() < 3:
        return played(seed + 1)
    shape = judged.shape
    states = [["start", "start", *[f"{turn} {bool(right)}" for turn in range(2, len(TURNS))]] for right in is_right]
    states = [[f"{turn} {state}" for turn, state in enumerate(row)] for row in states]
    turn = {"outcome": np.zeros(shape), "judge": judged}
    whole = {"outcome": opened.astype(float), "judge": np.zeros(GROUP)}
    rewards = TurnRewards(
        group=["the door"] * GROUP,
        num_turns=np.full(GROUP, len(TURNS)),
        num_tokens=np.full(shape, 10),
        turn=turn,
        turn_mask=dict.fromkeys(turn, np.ones(shape, dtype=bool)),
        outcome=whole,
        outcome_mask=dict.fromkeys(whole, np.ones(GROUP, dtype=bool)),
        weights={},
        state_keys=states,
    )
    return rewards, int(unlucky[0])


def true_advantages(weights: dict[str, float]) -> Array:
    """Return [turns] what taking the right key is worth beyond a random choice; other turns are worth nothing."""
    gain = weights.get("outcome", 0.0) * (OPENS[1] - OPENS[0]) + weights.get("judge", 0.0) * 0.5
    return np.where(np.arange(len(TURNS)) == KEY_TURN, gain * (1 - 1 / 3), 0.0)


def estimated(name: str, rewards: TurnRewards, weights: dict[str, float]) -> Array:
    """Return [trajectories, turns] the advantages with the estimator's defaults."""
    found, options = build_plugin("estimator", {"name": name})
    seen = TurnRewards(**{field: getattr(rewards, field) for field in rewards.__slots__} | {"weights": weights})
    values: Array = found(options).estimate(seen).values
    return values


def draw(family: str, path: Path, rewards: TurnRewards, row: int) -> None:
    """Write the picture of one family."""
    title, names, weights = FAMILIES[family]
    names = tuple(name for name in names if name in registry.names("estimator"))
    figure = Figure(figsize=(7.2, 3.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    _bars(axes, names, [estimated(name, rewards, weights)[row] for name in names])
    places = np.arange(len(TURNS))
    truth = true_advantages(weights)
    axes.hlines(truth, places - 0.42, places + 0.42, color="0.15", linewidth=1.6, label="true advantage")
    axes.set_xticks(places, [f"{name}" for name in TURNS], fontsize=9)
    axes.set_ylabel("advantage", fontsize=9)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.tick_params(labelsize=9, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="best", ncols=1)
    figure.savefig(path, format="png", facecolor="white")


def _bars(axes: Axes, names: Sequence[str], values: Sequence[Array]) -> None:
    width = 0.7 / len(names)
    for number, (name, held) in enumerate(zip(names, values, strict=True)):
        at = np.arange(len(held)) + (number - (len(names) - 1) / 2) * width
        axes.bar(at, held, width=0.92 * width, color=COLOURS[number], label=name)


def main(folder: Path) -> list[Path]:
    """Write all pictures and return their paths."""
    rewards, row = played(seed=0)
    paths = [folder / f"credit-{family}.png" for family in FAMILIES]
    for family, path in zip(FAMILIES, paths, strict=True):
        draw(family, path, rewards, row)
    return paths


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "results")
