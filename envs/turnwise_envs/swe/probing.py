"""Makes probes: calls of a function as its own tests make them, with what they must give.

Arguments are recorded while the tests run on the clean package; a probe asks for the function that the tests
call, or for the one with the bug. What it must give is what the clean package gives, twice, in the
program that will ask at grading. Calls that raise, that give something without a spelling, or something long, are no
probes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from turnwise.sandbox import Sandbox
from turnwise.sandbox.tiers import open_sandbox
from turnwise_envs.swe.baseline import FILES_S, TEST_S, Baseline
from turnwise_envs.swe.mutants import Target, targets
from turnwise_envs.swe.package import Package
from turnwise_envs.swe.probes import ISOLATED, agree, ask
from turnwise_envs.swe.screen import Bug
from turnwise_envs.swe.task import Probe
from turnwise_envs.swe.testkit import kit_folder
from turnwise_envs.swe.trial import Place, Trials, Variant, packed, policy

MAX_PROBES, MAX_TELLING = 8, 4
"""Of a task; and of these, those that the bug changes, if there are others."""

MAX_VALUE = 2000
"""Characters of what a call gives, as JSON."""

CALLS_S = 300.0
LIMITED = ("/bin/sh", "-c", 'ulimit -t 10; exec "$0" "$@"')
"""Seconds of the processor for the calls of one function: a busy machine changes nothing."""

NO_VALUE = object()


class Prober:
    """A sandbox that asks a package, clean or with a bug, what calls give."""

    def __init__(self, package: Package, box: Sandbox) -> None:
        """`box` holds the clean package."""
        self._package, self._box = package, box

    @classmethod
    async def open(cls, package: Package) -> Self:
        """Return one; SandboxLost if it does not start."""
        box = await open_sandbox(policy())
        try:
            await box.restore(packed(package.files))
        except BaseException:
            await box.close()
            raise
        return cls(package, box)

    async def close(self) -> None:
        """End the sandbox."""
        await self._box.close()

    async def values(self, calls: Sequence[Probe], seed: int, texts: Mapping[str, str] | None = None) -> list[Any]:
        """Return what calls give, with some files changed; NO_VALUE for those that were not reached."""
        try:
            for path, text in (texts or {}).items():
                await self._box.write(path, text.encode())
            found = await ask(
                self._box,
                calls,
                kit=kit_folder(),
                root=".",
                imports=[self._package.root],
                deadline_s=CALLS_S,
                python=[*LIMITED, *ISOLATED],
                seed=seed,
            )
        finally:
            for path in texts or {}:
                await self._box.write(path, self._package.files[path])
        return found + [NO_VALUE] * (len(calls) - len(found))


async def probes_of(
    package: Package, baseline: Baseline, bugs: Sequence[Bug], trials: Trials
) -> list[tuple[Probe, ...]]:
    """Return the probes of each bug, of some none."""
    functions = {target.place: target for path in package.sources for target in targets(path, package.text(path))}
    wanted = [_place(baseline, bug, functions) for bug in bugs]
    places = sorted({place for place in wanted if place is not None})
    if not places:
        return [()] * len(bugs)
    everything = Variant(files=package.tests, tests=tuple(baseline.tests), test_s=TEST_S, limit_s=FILES_S)
    recorded = (await trials.each([everything], seed=0, record=places))[0].calls
    prober = await Prober.open(package)
    try:
        sound = {place: await _sound(prober, _calls(package, functions[place], recorded)) for place in places}
        return [
            () if place is None else await _chosen(prober, sound[place], bug)
            for bug, place in zip(bugs, wanted, strict=True)
        ]
    finally:
        await prober.close()


def _place(baseline: Baseline, bug: Bug, functions: Mapping[Place, Target]) -> Place | None:
    """Return the function to ask for: that by which most failing tests come in, or that with the bug."""
    reached = baseline.reached[bug.mutant.target.place]
    outer = Counter(reached[test].outer for test in bug.failing)
    for place in (*(place for place, _ in outer.most_common()), bug.mutant.target.place):
        if place in functions and not functions[place].is_method:
            return place
    return None


def _calls(package: Package, target: Target, recorded: Mapping[Place, Sequence[str]]) -> list[Probe]:
    """Return the recorded calls of a function, without what they give."""
    found = []
    for text in recorded.get(target.place, ()):
        try:
            args, kwargs = json.loads(text)
            name = f"{package.module(target.path)}:{target.name}"
            found.append(Probe(call=name, args=tuple(args), kwargs=dict(kwargs), expected=None))
        except (ValueError, TypeError, RecursionError):
            continue
    return found


async def _sound(prober: Prober, calls: Sequence[Probe]) -> list[Probe]:
    """Return the calls that always give the same plain value, with it."""
    if not calls:
        return []
    first, second = [await prober.values(calls, seed) for seed in (0, 1)]
    return [
        replace(call, expected=value)
        for call, value, again in zip(calls, first, second, strict=True)
        if _is_plain(value) and agree(value, again)
    ]


async def _chosen(prober: Prober, sound: Sequence[Probe], bug: Bug) -> tuple[Probe, ...]:
    """Return some probes, first those that the bug changes; none where the bug lets a call not end."""
    if not sound:
        return ()
    path = bug.mutant.target.path
    values = await prober.values(sound, 0, {path: bug.mutant.apply(bug.source)})
    if any(value is NO_VALUE for value in values):
        return ()
    same = [agree(value, probe.expected) for probe, value in zip(sound, values, strict=True)]
    telling = [probe for probe, is_same in zip(sound, same, strict=True) if not is_same]
    others = [probe for probe, is_same in zip(sound, same, strict=True) if is_same]
    num_telling = max(MAX_TELLING, MAX_PROBES - len(others))
    return (*telling[:num_telling], *others)[:MAX_PROBES]


def _is_plain(value: Any) -> bool:
    """Whether a value is there, short, and says all of itself."""
    if value is NO_VALUE:
        return False
    text = json.dumps(value)
    return len(text) <= MAX_VALUE and '"$raises"' not in text and '"$type"' not in text and " at 0x" not in text
