import os

import numpy as np
import pytest

from turnwise.monitor.curve import draw_curve, series, smoothed

HELDOUT = {"eval/sampled/success_rate": 0.4, "eval/sampled/episodes": 200, "eval/greedy/success_rate": 0.5}


def training(updates):
    figures = {"reward/mean": 0.5, "episode/success_rate": 0.6, "async/staleness_mean": 0.1, "speed/tokens_per_s": 5e3}
    return [{"update": update, **figures} for update in updates]


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"update": 0, **HELDOUT}],
        training(range(1, 4)),
        [{"update": 0, **HELDOUT}, *training(range(1, 4)), {"update": 3, "reward/mean": None, **HELDOUT}],
        [{"update": 1, "reward/mean": -20.0}, {"update": 2, "reward/mean": 7.0}],
        [{"update": 0, "eval/greedy/success_rate": 0.0, "eval/greedy/episodes": 0}],
    ],
    ids=["nothing", "before", "training", "all", "wide rewards", "no episodes"],
)
def test_any_state_of_a_run_can_be_drawn(tmp_path, entries):
    draw_curve(entries, tmp_path / "curve.png", "run")
    assert os.listdir(tmp_path) == ["curve.png"]
    assert pixels(tmp_path / "curve.png").shape[0] > 500


def test_a_held_out_point_shows(tmp_path):
    entries = training(range(1, 4))
    draw_curve(entries, tmp_path / "without.png", "run")
    draw_curve([{"update": 0, **HELDOUT}, *entries], tmp_path / "with.png", "run")
    greedy = np.array([0x6C, 0x3F, 0x9E]) / 255
    counts = [
        int((np.abs(pixels(tmp_path / name)[..., :3] - greedy).max(-1) < 0.01).sum())
        for name in ("without.png", "with.png")
    ]
    assert counts[0] == 0
    assert counts[1] > 100


def test_series_skip_what_was_not_measured():
    entries = [{"update": 1, "a": 1.0}, {"update": 2}, {"update": 3, "a": None}, {"update": 4, "a": 2}]
    assert series(entries, "a") == ([1, 4], [1.0, 2.0])


def test_the_moving_average_starts_at_the_first_value():
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([0.0, 1.0])[1] == pytest.approx(0.3 / 0.51)
