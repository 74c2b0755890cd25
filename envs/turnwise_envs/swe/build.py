"""`turnwise swe build`: from a package to a file of proven tasks.

Fetch, baseline, screening, drafts, proof: each in its module. A package's file is written when all of it is done, so
that whoever interrupts keeps the packages before it. The same package, number and seed give the same bytes.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from turnwise.errors import UserError
from turnwise_envs.swe.baseline import measure
from turnwise_envs.swe.draft import Drafts
from turnwise_envs.swe.package import FIELD, Package, open_package
from turnwise_envs.swe.prove import Proof, prove
from turnwise_envs.swe.screen import Screened, screen
from turnwise_envs.swe.task import SweTask, load_tasks, to_json
from turnwise_envs.swe.trial import Trials, packed

SPARE = 1.15
"""Bugs that are looked for, for each that is wanted: some have no reproduction, or do not hold."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What became of a package."""

    package: str
    file: Path
    num_functions: int  # that may have a bug
    num_tried: int  # bugs
    num_proven: int  # tasks that went to the proof
    num_gold: int  # of these, solved by the gold patch
    num_empty: int  # and by doing nothing
    num_tasks: int  # written
    num_single: int  # of these, with a bug that is a single edit
    operators: Counter[str]
    seconds: float


async def build(wanted: str, output: Path, *, num_bugs: int, seed: int, cache: Path, say: Say) -> Built:
    """Write the tasks of one package; UserError for one that has none."""
    began = time.monotonic()
    package = open_package(wanted, cache)
    say(f"{package.name}: {len(package.sources)} modules, {len(package.tests)} test files")
    archive = f"repos/{package.name}-{package.version}.tar"
    async with Trials(package) as trials:
        baseline = await measure(wanted, package, trials)
        say(f"{package.name}: {len(baseline.tests)} of {baseline.num_ran} tests are fast and pass each time")
        wished = round(num_bugs * SPARE) + 1
        screened = await screen(package, baseline, trials, num_bugs=wished, seed=seed, say=say)
        drafts = await Drafts(package, baseline, archive, seed).tasks(screened.bugs, trials)
    write(output / archive, packed(package.files))
    proofs = await _proofs(package, drafts, output, say)
    tasks = [proof.task for proof in proofs if proof.holds][:num_bugs]
    if not tasks:
        problem = f"no bug of {screened.num_tried} in {screened.num_functions} functions makes a task"
        raise UserError(FIELD, wanted, problem, "take a package with more tests")
    file = output / f"{package.name}.jsonl"
    write(file, lines(tasks))
    return _built(package, file, screened, proofs, tasks, time.monotonic() - began)


async def _proofs(package: Package, drafts: list[SweTask], output: Path, say: Say) -> list[Proof]:
    """Prove tasks as they are on disk."""
    draft = output / f".{package.name}.draft.jsonl"
    write(draft, lines(drafts))

    def told(done: int) -> None:
        if done % 10 == 0 or done == len(drafts):
            say(f"{package.name}: {done} of {len(drafts)} tasks tried with the grader")

    try:
        proofs = await prove(load_tasks(draft) if drafts else (), told)
    finally:
        draft.unlink(missing_ok=True)
    for proof in proofs:
        if not proof.holds:
            say(f"{package.name}: left out {proof}")
    return proofs


def lines(tasks: list[SweTask]) -> bytes:
    """Return tasks as JSON lines."""
    return b"".join(json.dumps(to_json(task), ensure_ascii=False).encode() + b"\n" for task in tasks)


def write(path: Path, data: bytes) -> None:
    """Make or replace a file in one step, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _built(
    package: Package, file: Path, screened: Screened, proofs: list[Proof], tasks: list[SweTask], seconds: float
) -> Built:
    operators: Counter[str] = Counter()
    num_single = 0
    for task in tasks:
        difficulty = task.recipe.difficulty if task.recipe is not None else {}
        num_single += bool(difficulty["is_single_edit"])
        kinds = difficulty["operators"]
        operators[kinds[0] if len(kinds) == 1 else "combination"] += 1
    return Built(
        package=f"{package.name}=={package.version}",
        file=file,
        num_functions=screened.num_functions,
        num_tried=screened.num_tried,
        num_proven=len(proofs),
        num_gold=sum(proof.gold == 1.0 for proof in proofs),
        num_empty=sum(proof.empty == 1.0 for proof in proofs),
        num_tasks=len(tasks),
        num_single=num_single,
        operators=operators,
        seconds=seconds,
    )
