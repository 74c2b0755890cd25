"""Issues in words: what someone would report who met the bug through a test, and knows nothing of the code's inside.

The words are chosen by seed among a few of each kind; what happened is quoted from the failing test. Neither the line
of the bug nor anything of the gold patch is in them.
"""

from __future__ import annotations

import random
import re
import textwrap
from dataclasses import dataclass

from turnwise_envs.swe.trial import TestRun

MAX_QUOTE = 400
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")

WRONG = (
    "`{name}` gives a wrong result",
    "Wrong result from `{name}`",
    "`{name}` does not do what it should",
    "Unexpected value where `{name}` is used",
)
RAISES = (
    "`{name}` raises {kind}",
    "{kind} from `{name}`",
    "`{name}` fails with {kind} for valid input",
    "Unexpected {kind} where `{name}` is used",
)
OPENINGS = (
    "With the present version of {package}, this does not work any more:",
    "I came across this in {package}. The following should hold:",
    "Something is wrong in {package} {version}. To see it:",
    "The following used to work with {package}:",
)
HAPPENED = ("What happens instead:", "What I get:", "It ends with:", "Result:")
ENDINGS = (
    "`{command}` runs it.",
    "A small test of it is in `{path}` (`{command}`).",
    "To reproduce: `{command}`",
)
OTHERS = (
    "{num} further tests of ours fail for the same reason.",
    "We have {num} more tests that fail with it.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the one who reports a bug knows."""

    package: str
    version: str
    name: str  # of what they called, as they would import it
    statement: str  # that failed
    run: TestRun  # how it failed
    path: str  # of the reproduction
    command: str  # that runs it
    num_failing: int


def write(report: Report, rng: random.Random) -> str:
    """Return the text of an issue."""
    is_wrong = report.run.kind in ("AssertionError", "Failed")
    facts = {
        "name": report.name,
        "kind": report.run.kind,
        "package": report.package,
        "version": report.version if report.version != "local" else "as it is",
        "path": report.path,
        "command": report.command,
        "num": report.num_failing - 1,
    }
    title = rng.choice(WRONG if is_wrong else RAISES)
    parts = [title, rng.choice(OPENINGS), _indented(report.statement)]
    parts += [rng.choice(HAPPENED), _indented(what_happened(report.run)), rng.choice(ENDINGS)]
    if report.num_failing > 1:
        parts.append(rng.choice(OTHERS))
    shown = [part if part.startswith("    ") else part.format(**facts) for part in parts]
    if report.num_failing == 2:
        shown[-1] = "Another test of ours fails for the same reason."
    return "\n\n".join(shown) + "\n"


def what_happened(run: TestRun) -> str:
    """Return how a test failed, in a few lines without addresses."""
    lines = [line for line in run.explained if line.strip()] or [f"{run.kind}: {run.message}"]
    if run.kind not in ("AssertionError", "Failed") and not lines[0].startswith(run.kind):
        lines = [f"{run.kind}: {run.message}".strip(": ")]
    text = ADDRESS.sub("0x...", "\n".join(lines[:5]))
    return text if len(text) <= MAX_QUOTE else text[:MAX_QUOTE] + " ..."


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ", lambda _: True)
