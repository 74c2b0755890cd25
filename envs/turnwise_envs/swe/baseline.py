"""What a package's tests do before anything is spoiled: which can be relied on, and which functions they run.

A test counts if it passes in two runs with different seeds of Python's hashes, in a third one that is traced, and in
the runner that grades, and if it is fast. Functions that run while modules are imported are left alone: with a bug in
one of them, no test file may be read at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from turnwise.errors import UserError
from turnwise.sandbox.tiers import open_sandbox
from turnwise_envs.swe.package import FIELD, Package
from turnwise_envs.swe.runner import run_tests
from turnwise_envs.swe.testkit import kit_folder
from turnwise_envs.swe.trial import Place, Reached, TestRun, Trials, Variant, packed, policy

TEST_S, MAX_TEST_S = 5.0, 0.3
"""Seconds that a test may take before it is stopped, and at most to count."""

FILES_S = 400.0
MIN_TESTS = 5
MIN_SHARE = 0.5
"""Of the tests that ran, those that must pass for a package to be of use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The tests that count, and what they run."""

    tests: Mapping[str, TestRun]
    reached: Mapping[Place, Mapping[str, Reached]]  # function to the tests that run it, and how
    num_ran: int  # tests that there are

    def seconds(self, names: Iterable[str]) -> float:
        """Return the seconds that tests take."""
        return sum(self.tests[name].seconds for name in names)


async def measure(wanted: str, package: Package, trials: Trials) -> Baseline:
    """Run all tests; UserError naming the package where too few pass, or none are there."""
    everything = [Variant(files=package.tests, test_s=TEST_S, limit_s=FILES_S)]
    tries = [(await trials.each(everything, seed=seed, trace=seed == 3))[0] for seed in (1, 2, 3)]
    if not all(tried.is_sound for tried in tries):
        raise UserError(FIELD, wanted, f"its tests do not end within {FILES_S:g} s", "take another package")
    names = [name for name, run in tries[0].tests.items() if _counts([tried.tests.get(name) for tried in tries])]
    graded = await _graded(package, names)
    sound = {name: tries[0].tests[name] for name in names if name in graded}
    num_ran = len(tries[0].tests)
    if len(sound) < MIN_TESTS or len(sound) < MIN_SHARE * num_ran:
        problem = f"its own tests do not pass as it is ({len(sound)} of {num_ran} do, each time and fast)"
        raise UserError(FIELD, wanted, problem, "take another version, or install what its tests import")
    return Baseline(tests=sound, reached=_reached(sound, tries[2].tests, set(tries[2].imported)), num_ran=num_ran)


def _counts(runs: list[TestRun | None]) -> bool:
    return all(run is not None and run.outcome == "passed" for run in runs) and all(
        run is not None and run.seconds <= MAX_TEST_S for run in runs[:2]
    )


async def _graded(package: Package, names: list[str]) -> set[str]:
    """Return those that pass in the runner that grades."""
    box = await open_sandbox(policy())
    try:
        await box.restore(packed(package.files))
        options = {"imports": (package.root,), "conftest": package.conftest, "deadline_s": FILES_S}
        run = await run_tests(box, names, kit=kit_folder(), **options)
    finally:
        await box.close()
    return {name for name in names if run.passed(name)}


def _reached(
    sound: Mapping[str, TestRun], traced: Mapping[str, TestRun], imported: set[Place]
) -> dict[Place, dict[str, Reached]]:
    found: dict[Place, dict[str, Reached]] = defaultdict(dict)
    for name in sound:
        for place, how in traced[name].ran.items():
            if place not in imported:
                found[place][name] = how
    return found
