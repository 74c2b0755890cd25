"""Makes tasks of bugs: the diff, the hidden tests, a reproduction that was tried, an issue, and how difficult it is."""

from __future__ import annotations

import ast
import random
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from turnwise_envs.swe import diffs, reproduction, statement
from turnwise_envs.swe.baseline import Baseline
from turnwise_envs.swe.mutants import Target, targets
from turnwise_envs.swe.package import Package
from turnwise_envs.swe.probing import probes_of
from turnwise_envs.swe.screen import LIMIT_S, TEST_S, Bug
from turnwise_envs.swe.syntax import parse
from turnwise_envs.swe.task import Function, Probe, Recipe, SweTask
from turnwise_envs.swe.trial import Place, TestRun, Trials, Variant

MAX_PASSING = 40
MAX_REPRODUCTION = 60
"""Lines of a reproduction."""

MAX_CUT = 3
"""Failing tests that are tried as a reproduction."""

TIMEOUT_S = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """A test that fails with the bug and passes without it."""

    path: str
    text: str
    test: str  # the test that it comes from
    run: TestRun  # how it fails
    failed: str  # the statement that fails


class Drafts:
    """Makes the tasks of one package."""

    def __init__(self, package: Package, baseline: Baseline, archive: str, seed: int) -> None:
        """`archive`: where the repository's archive will be, from the task file's folder."""
        self._package, self._baseline, self._archive, self._seed = package, baseline, archive, seed
        self._commit = commit(package)
        self._names = _names(package)

    async def tasks(self, bugs: Sequence[Bug], trials: Trials) -> list[SweTask]:
        """Return the tasks of those bugs that have a reproduction, in order."""
        found = await self._reproductions(bugs, trials)
        probes = await probes_of(self._package, self._baseline, bugs, trials)
        return [self._task(bug, found[index], probes[index]) for index, bug in enumerate(bugs) if index in found]

    async def _reproductions(self, bugs: Sequence[Bug], trials: Trials) -> dict[int, Reproduction]:
        """Return the first attempt of each bug that fails with it and passes without it."""
        waiting = {index: self._attempts(bug) for index, bug in enumerate(bugs)}
        found: dict[int, Reproduction] = {}
        while waiting:
            now = {index: attempt for index, rest in waiting.items() if (attempt := next(rest, None)) is not None}
            waiting = {index: waiting[index] for index in now}
            spoiled = {index: _spoiled(bugs[index]) for index in now}
            with_bug = [_variant(now[index], spoiled[index]) for index in now]
            without = [_variant(now[index], {}) for index in now]
            tried = await trials.each([*with_bug, *without], seed=0)
            for index, bad, good in zip(now, tried[: len(now)], tried[len(now) :], strict=True):
                failed = [run for run in bad.tests.values() if run.outcome == "failed" and run.kind]
                is_good = bool(good.tests) and all(run.outcome == "passed" for run in good.tests.values())
                if failed and is_good:
                    found[index] = _finished(now[index], failed[0])
                    del waiting[index]
        return found

    def _attempts(self, bug: Bug) -> Iterator[tuple[str, str, str]]:
        """Yield test, path and text of what may become the reproduction, short tests first."""
        texts: list[tuple[int, str, str, str]] = []
        for test, run in bug.failing.items():
            source = self._package.text(test.split("::")[0])
            path = reproduction.place(test, self._package.conftest, source)
            for text in reproduction.cut(source, test, run):
                num_lines = text.count("\n")
                if num_lines <= MAX_REPRODUCTION:
                    texts.append((num_lines, test, path, text))
        for _, test, path, text in sorted(texts)[: 2 * MAX_CUT]:
            yield test, path, text

    def _task(self, bug: Bug, found: Reproduction, probes: tuple[Probe, ...]) -> SweTask:
        target = bug.mutant.target
        clean, spoiled = ({target.path: text.encode()} for text in (bug.source, bug.mutant.apply(bug.source)))
        diff = diffs.make(clean, spoiled)
        name = f"{self._package.name}__{target.name}-{blake2b(diff.encode(), digest_size=4).hexdigest()}"
        command = reproduction.command(found.path)
        report = statement.Report(
            package=self._package.name,
            version=self._package.version,
            name=self._called(bug, found.test),
            statement=found.failed,
            run=found.run,
            path=found.path,
            command=shlex.join(command),
            num_failing=len(bug.failing),
        )
        hidden = tuple(sorted({test.split("::")[0] for test in bug.failing}))
        added_lines = bug.mutant.apply(bug.source).count("\n") - bug.source.count("\n")
        recipe = Recipe(
            archive=self._archive,
            bug=diff,
            hidden=hidden,
            added={found.path: found.text},
            reproduction=tuple(command),
            root=self._package.root,
            functions=(
                Function(
                    path=target.path,
                    first_line=target.first_line,
                    last_line=target.last_line + added_lines,
                    name=target.name,
                ),
            ),
            difficulty=self._difficulty(bug, diff),
            probes=probes,
            conftest=self._package.conftest,
            timeout_s=TIMEOUT_S,
        )
        return SweTask(
            instance_id=name,
            repo=f"{self._package.name}=={self._package.version}",
            problem_statement=statement.write(report, random.Random(f"{self._seed}/{name}")),
            fail_to_pass=tuple(bug.failing),
            pass_to_pass=self._passing(bug, hidden),
            base_commit=self._commit,
            patch=diffs.reverse(diff),
            recipe=recipe,
        )

    def _passing(self, bug: Bug, hidden: Sequence[str]) -> tuple[str, ...]:
        """Return tests that pass with the bug: those that reach the function, then others of the same files."""
        others = [
            test
            for test in self._baseline.tests
            if test.split("::")[0] in hidden and test not in bug.failing and test not in bug.passing
        ]
        return (*bug.passing, *others)[:MAX_PASSING]

    def _difficulty(self, bug: Bug, diff: str) -> dict[str, object]:
        reached = self._baseline.reached[bug.mutant.target.place]
        changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        return {
            "num_failing": len(bug.failing),
            "num_tests": len(reached),
            "distance": min(reached[test].depth for test in bug.failing),
            "operators": list(bug.mutant.operators),
            "is_single_edit": bug.mutant.is_single,
            "num_changed": len(changed),
            "num_lines": bug.mutant.target.num_lines,
        }

    def _called(self, bug: Bug, test: str) -> str:
        """Return the name by which the test came in, if it is public, else that of the module with the bug."""
        reached = self._baseline.reached[bug.mutant.target.place][test]
        for place in (reached.outer, bug.mutant.target.place):
            if place in self._names:
                return self._names[place]
        return self._package.module(bug.mutant.target.path)


def commit(package: Package) -> str:
    """Return a name for the repository's content, 40 hexadecimal digits."""
    total = blake2b(digest_size=20)
    for path, data in package.files.items():
        total.update(f"{path}\0{len(data)}\0".encode() + data)
    return total.hexdigest()


def _names(package: Package) -> dict[Place, str]:
    """Return the full names of a package's public functions; of a method with underscores, that of its class."""
    found = {}
    for path in package.sources:
        for target in targets(path, package.text(path)):
            name = _public(target)
            if name:
                found[target.place] = f"{package.module(path)}.{name}"
    return found


def _public(target: Target) -> str:
    names = target.name.split(".")
    while names and names[-1].startswith("_"):
        names.pop()
    return "" if any(name.startswith("_") for name in names) else ".".join(names)


def _spoiled(bug: Bug) -> dict[str, str]:
    return {bug.mutant.target.path: bug.mutant.apply(bug.source)}


def _variant(attempt: tuple[str, str, str], texts: Mapping[str, str]) -> Variant:
    _, path, text = attempt
    return Variant(texts={**texts, path: text}, files=(path,), test_s=TEST_S, limit_s=LIMIT_S)


def _finished(attempt: tuple[str, str, str], run: TestRun) -> Reproduction:
    test, path, text = attempt
    failed = reproduction.failing_source(text, f"{path}::", run) or _last_statement(text)
    return Reproduction(path=path, text=text, test=test, run=run, failed=failed)


def _last_statement(text: str) -> str:
    body = parse(text).body
    return ast.get_source_segment(text, body[-1]) or text
