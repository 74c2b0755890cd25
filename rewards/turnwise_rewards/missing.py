"""Missing is not zero: what the formulas of this package do with a score that a judge failed to give (None).

Called by the modules beside it. A missing value leaves the statistic; where nothing is left, the result is missing too,
and the scorer that hosts the formula emits a masked score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there; None where there is none."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def check_finite(name: str, value: float | None) -> None:
    """ValueError, naming the value, for one that is there and not finite."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, it must be finite (None if it is missing)")
