"""Finds bugs worth a task: those that make some tests fail and leave others, each time, and let none hang.

Functions are taken in turn, a bug of each before the second of any; each bug runs the tests that reach its function,
with two seeds of Python's hashes. The order follows from the seed alone, and so does what is kept: limits are on the
processor's time, far above what a test takes.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from turnwise_envs.swe.baseline import Baseline
from turnwise_envs.swe.mutants import Bugs, Mutant, Target, is_inverted, targets
from turnwise_envs.swe.package import Package
from turnwise_envs.swe.trial import TestRun, Trials, Variant, unanimous

MIN_LINES, MAX_LINES = 2, 30
"""Of a function's code; a small model must read it."""

MIN_REACHING, MAX_REACHING, MAX_REACHING_S = 2, 150, 1.0
"""Tests that run a function, and the seconds that they take."""

MAX_FAILING = 20
PER_FUNCTION = 3
"""Tasks of one function, as long as others have some."""

LEVELS = 16
"""Bugs of one function that are tried at most."""

SINGLE_SHARE = 0.85
"""Of the tasks, those whose bug is a single edit of `operators.py`."""

ROUND = 24
PATIENCE = 4
"""Rounds in a row that keep nothing, after which there is no more to be had."""

TEST_S, LIMIT_S = 2.0, 10.0
NO_NAME = {"NameError", "UnboundLocalError"}
"""What a linter finds is no task: a bug that does nothing else is dropped."""

OUT_OF_TIME = "the test ran out of time"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bug:
    """A bug that is worth a task, and what it does."""

    mutant: Mutant
    source: str  # of its file, without it
    failing: Mapping[str, TestRun]
    passing: tuple[str, ...]  # of the tests that reach the function


@dataclass(slots=True)
class Screened:
    """What became of the bugs that were tried."""

    bugs: list[Bug]
    num_functions: int = 0
    num_tried: int = 0


def eligible(package: Package, baseline: Baseline) -> list[Target]:
    """Return the functions that get bugs."""
    found = []
    for path in package.sources:
        for target in targets(path, package.text(path)):
            reaching = baseline.reached.get(target.place, {})
            is_right = MIN_REACHING <= len(reaching) <= MAX_REACHING and MIN_LINES <= target.num_lines <= MAX_LINES
            if is_right and baseline.seconds(reaching) <= MAX_REACHING_S:
                found.append(target)
    return found


async def screen(
    package: Package,
    baseline: Baseline,
    trials: Trials,
    *,
    num_bugs: int,
    seed: int,
    say: Callable[[str], None],
) -> Screened:
    """Return bugs for `num_bugs` tasks, fewer where the package has no more."""
    wanted = eligible(package, baseline)
    found = Screened(bugs=[], num_functions=len(wanted))
    keeper = Keeper(num_bugs)
    order = _order(package, wanted, seed)
    idle = 0
    while not keeper.is_full and idle < PATIENCE and (batch := list(itertools.islice(order, ROUND))):
        num_before = keeper.num_found
        batch = [mutant for mutant in batch if keeper.may_take(mutant)]
        for bug in await _tried(package, baseline, trials, batch):
            keeper.add(bug)
        found.num_tried += len(batch)
        idle = 0 if keeper.num_found > num_before else idle + 1
        say(f"{package.name}: {found.num_tried} bugs tried, {len(keeper.kept)} of {num_bugs} kept")
    found.bugs = keeper.all()
    return found


class Keeper:
    """What is kept: enough variety, no two bugs of a function that make the same tests fail."""

    def __init__(self, num_bugs: int) -> None:
        """Keep at most `num_bugs`."""
        self._num_bugs = num_bugs
        self._max_extra = num_bugs - round(SINGLE_SHARE * num_bugs)
        self.kept: list[Bug] = []
        self._spare: list[Bug] = []
        self._behaviours: set[tuple[object, frozenset[str]]] = set()
        self._by_function: Counter[object] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether there are enough."""
        return len(self.kept) >= self._num_bugs

    @property
    def num_found(self) -> int:
        """Bugs that are kept, now or for worse times."""
        return len(self.kept) + len(self._spare)

    def may_take(self, mutant: Mutant) -> bool:
        """Whether a bug is still wanted, whatever it does."""
        num_extra = sum(not bug.mutant.is_single for bug in self.kept)
        is_wanted = mutant.is_single or num_extra < self._max_extra
        return is_wanted and self._by_function[mutant.target.place] < 2 * PER_FUNCTION

    def add(self, bug: Bug) -> None:
        """Take a bug, keep it for worse times, or drop it."""
        behaviour = (bug.mutant.target.place, frozenset(bug.failing))
        if behaviour in self._behaviours or not self.may_take(bug.mutant):
            return
        if bug.mutant.is_single and not is_inverted(bug.mutant, bug.source):
            return
        self._behaviours.add(behaviour)
        self._by_function[bug.mutant.target.place] += 1
        is_spare = self._by_function[bug.mutant.target.place] > PER_FUNCTION
        (self._spare if is_spare or self.is_full else self.kept).append(bug)

    def all(self) -> list[Bug]:
        """Return what is kept, filled up."""
        extra = sum(not bug.mutant.is_single for bug in self.kept)
        for bug in self._spare:
            if not self.is_full and (bug.mutant.is_single or extra < self._max_extra):
                extra += not bug.mutant.is_single
                self.kept.append(bug)
        return self.kept


def _order(package: Package, wanted: Sequence[Target], seed: int) -> Iterator[Mutant]:
    """Yield bugs, one of each function before the second of any."""
    rng = random.Random(f"{seed}/{package.name}/{package.version}")
    shuffled = rng.sample(list(wanted), len(wanted))
    streams = [_bugs(target, package.text(target.path), random.Random(rng.random())) for target in shuffled]
    for _ in range(LEVELS):
        for stream in streams:
            yield from itertools.islice(stream, 1)


def _bugs(target: Target, source: str, rng: random.Random) -> Iterator[Mutant]:
    """Yield a function's bugs, single edits and others in their shares."""
    bugs = Bugs(target, source, rng)
    singles, extras = bugs.singles(), bugs.extras()
    while True:
        first, second = (singles, extras) if rng.random() < SINGLE_SHARE else (extras, singles)
        mutant = next(first, None) or next(second, None)
        if mutant is None:
            return
        yield mutant


async def _tried(package: Package, baseline: Baseline, trials: Trials, batch: Sequence[Mutant]) -> list[Bug]:
    """Return those of the bugs that are worth a task."""
    variants = [_variant(package, baseline, mutant) for mutant in batch]
    first = await trials.each(variants, seed=0)
    again = [index for index, tried in enumerate(first) if tried.is_sound and tried.named("failed")]
    second = await trials.each([variants[index] for index in again], seed=1)
    bugs = []
    for index, tried in zip(again, second, strict=True):
        tests = unanimous([first[index], tried])
        bug = None if tests is None else _bug(package, batch[index], tests)
        bugs += [] if bug is None else [bug]
    return bugs


def _variant(package: Package, baseline: Baseline, mutant: Mutant) -> Variant:
    names = tuple(baseline.reached[mutant.target.place])
    files = tuple(dict.fromkeys(name.split("::")[0] for name in names))
    path = mutant.target.path
    limit_s = LIMIT_S + 3 * baseline.seconds(names)
    return Variant(
        texts={path: mutant.apply(package.text(path))}, files=files, tests=names, test_s=TEST_S, limit_s=limit_s
    )


def _bug(package: Package, mutant: Mutant, tests: Mapping[str, TestRun]) -> Bug | None:
    """Return a bug if it fails some tests and passes others, none out of time, and none for a reason of no test's."""
    failing = {name: run for name, run in tests.items() if run.outcome == "failed"}
    passing = tuple(name for name, run in tests.items() if run.outcome == "passed")
    hangs = any(OUT_OF_TIME in run.message for run in failing.values())
    is_plain = {run.kind for run in failing.values()} <= NO_NAME
    is_clear = not is_plain and all(run.kind and run.phase == "call" for run in failing.values())
    if not failing or hangs or not is_clear or len(failing) > MAX_FAILING or len(failing) + len(passing) < len(tests):
        return None
    return Bug(mutant=mutant, source=package.text(mutant.target.path), failing=failing, passing=passing)
