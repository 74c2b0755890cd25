"""Tries variants of a package in sandboxes: which tests pass, which fail and how, which functions they run.

Used while tasks are made, where thousands of variants are tried; verdicts are the grader's. Two sandboxes work at once,
and what comes out of them is read as text that may say anything.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from turnwise.sandbox import Sandbox, SandboxLost
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import open_sandbox
from turnwise_envs.swe.package import Package
from turnwise_envs.swe.testkit import PACKAGES, kit_folder

INSIDE = Path(__file__).with_name("trial_inside.py")
MEMORY_MB, DISK_MB = 1024, 128
OUTPUT_KB = 32 * 1024
WALL_S = 3600.0
WARM_S = 60.0
"""Seconds of the processor for reading all test files once; what is compiled then is kept."""

Place = tuple[str, int]
"""A function: its file, and its first line, that of its first decorator if it has one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """How a test came to a function, the first time."""

    depth: int  # functions of the package on the way, the function itself among them
    outer: Place  # the first of them, which the test called


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """The repository with some files changed, and which tests to run on it."""

    texts: Mapping[str, str] = field(default_factory=dict)  # by path, which may be new
    files: tuple[str, ...]  # test files
    tests: tuple[str, ...] | None = None  # of these files; None: all
    test_s: float  # seconds of the processor that one test may take
    limit_s: float  # the same for all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class TestRun:
    """What became of one test."""

    __test__ = False

    outcome: str  # passed, failed or skipped
    seconds: float  # of the processor
    kind: str = ""  # the exception's type, of a failed one
    message: str = ""
    explained: tuple[str, ...] = ()  # what pytest says of it, a line each
    frames: tuple[Place, ...] = ()  # of the repository, the innermost last
    phase: str = "call"
    ran: Mapping[Place, Reached] = field(default_factory=dict)  # functions that it ran, where traced


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What became of a variant."""

    is_sound: bool  # it ended in time, and said so
    tests: Mapping[str, TestRun] = field(default_factory=dict)
    imported: tuple[Place, ...] = ()  # functions that ran outside tests, where traced
    calls: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)  # arguments as JSON, where recorded

    def named(self, outcome: str) -> frozenset[str]:
        """Return the tests with an outcome."""
        return frozenset(name for name, run in self.tests.items() if run.outcome == outcome)


class Trials:
    """Sandboxes that hold one package each, and try variants of it."""

    def __init__(self, package: Package, num: int = 2) -> None:
        """`num`: sandboxes at once."""
        self._package, self._num = package, num
        self._site = f"{kit_folder()}/{PACKAGES}"
        self._archive = packed(package.files)
        self._boxes: list[Sandbox] = []

    async def __aenter__(self) -> Self:
        try:
            for _ in range(self._num):
                self._boxes.append(await self._opened())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    async def each(
        self, variants: Sequence[Variant], *, seed: int, trace: bool = False, record: Sequence[Place] = ()
    ) -> list[Tried]:
        """Return what became of each variant, in order; `seed` is that of Python's hashes.

        `trace`: note which functions run; `record`: and with which arguments these are called.
        """
        options = {"trace": trace or bool(record), "record": list(record)}
        shares = [range(first, len(variants), self._num) for first in range(self._num)]
        done = await asyncio.gather(
            *(
                self._share(place, [variants[index] for index in share], seed=seed, options=options)
                for place, share in enumerate(shares)
            )
        )
        found = {
            index: tried
            for share, answers in zip(shares, done, strict=True)
            for index, tried in zip(share, answers, strict=True)
        }
        return [found[index] for index in range(len(variants))]

    async def _share(
        self, place: int, variants: Sequence[Variant], *, seed: int, options: Mapping[str, Any]
    ) -> list[Tried]:
        """Try variants one after the other; where a sandbox is lost, another one takes the next."""
        done: list[Tried] = []
        while len(done) < len(variants):
            rest = variants[len(done) :]
            try:
                answers = await self._run(self._boxes[place], rest, seed=seed, options=options)
            except SandboxLost:
                await self._boxes[place].close()
                self._boxes[place] = await self._opened()
                answers = []
            done += answers or [Tried(is_sound=False)]
        return done

    async def _run(
        self, box: Sandbox, variants: Sequence[Variant], *, seed: int, options: Mapping[str, Any]
    ) -> list[Tried]:
        told = {"site": self._site, "root": self._package.root, "memory_mb": MEMORY_MB - 2 * 64}
        told |= {
            "tests": self._package.tests,
            **{"trace": False, "warm": False, "record": []},
            **options,
            "variants": [_told(variant) for variant in variants],
        }
        ran = await box.exec(
            ["python3", "-s", "-P", "-S", "-B", "-c", INSIDE.read_text(encoding="utf-8")],
            env={"PYTHONHASHSEED": str(seed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=json.dumps(told).encode(),
        )
        return [_tried(line) for line in ran.stdout.splitlines()[: len(variants)]]

    async def _opened(self) -> Sandbox:
        box = await open_sandbox(policy())
        try:
            await box.restore(self._archive)
            warm = Variant(files=self._package.tests, tests=(), test_s=1.0, limit_s=WARM_S)
            await self._run(box, [warm], seed=0, options={"warm": True})
        except BaseException:
            await box.close()
            raise
        return box

    async def _close(self) -> None:
        for box in self._boxes:
            await box.close()


def policy() -> SandboxPolicy:
    """Return what a sandbox may use in which tests are tried."""
    return SandboxPolicy(
        read_only=[kit_folder()], memory_mb=MEMORY_MB, disk_mb=DISK_MB, output_kb=OUTPUT_KB, wall_s=WALL_S
    )


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of files, the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def unanimous(tries: Sequence[Tried]) -> dict[str, TestRun] | None:
    """Return the tests if every try was sound and says the same of each, else None."""
    first, *others = tries
    if not all(tried.is_sound for tried in tries):
        return None
    said = {name: run.outcome for name, run in first.tests.items()}
    if any({name: run.outcome for name, run in other.tests.items()} != said for other in others):
        return None
    return dict(first.tests)


def _told(variant: Variant) -> dict[str, Any]:
    return {
        "texts": dict(variant.texts),
        "files": list(variant.files),
        "tests": None if variant.tests is None else list(variant.tests),
        "test_s": variant.test_s,
        "limit_s": variant.limit_s,
    }


def _tried(line: bytes) -> Tried:
    try:
        said = json.loads(line)
        if set(said) & {"hung", "died"}:
            return Tried(is_sound=False)
        tests = {str(name): _test(run) for name, run in said["tests"].items()}
        calls = {(str(path), int(line)): tuple(map(str, known)) for path, line, known in said["calls"]}
        return Tried(is_sound=True, tests=tests, imported=_places(said["imported"]), calls=calls)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Tried(is_sound=False)


def _test(said: Any) -> TestRun:
    return TestRun(
        outcome=str(said["outcome"]),
        seconds=float(said["seconds"]),
        kind=str(said.get("type", "")),
        message=str(said.get("message", "")),
        explained=tuple(map(str, said.get("explained", ()))),
        frames=_places(said.get("frames", ())),
        phase=str(said.get("phase", "call")),
        ran={
            (str(path), int(line)): Reached(depth=int(depth), outer=(str(outer_path), int(outer_line)))
            for path, line, depth, outer_path, outer_line in said.get("ran", ())
        },
    )


def _places(said: Any) -> tuple[Place, ...]:
    return tuple((str(path), int(line)) for path, line in said)
