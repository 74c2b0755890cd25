"""`turnwise doctor`: the findings about this machine as a table or as JSON; exit code 1 if one is fatal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwise.cli.machine import Finding, Status, all_findings, start_ray

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.MISSING: "dim", Status.FAILED: "bold red"}


def report(*, as_json: bool, deep: bool) -> int:
    """Print what was found and return the exit code; `deep` also starts Ray."""
    findings = all_findings() + (start_ray() if deep else [])
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        Console().print(table_of(findings))
    return int(any(finding.status is Status.FAILED for finding in findings))


def table_of(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table."""
    table = Table("what", "status", "found", "remedy", box=SIMPLE)
    for finding in findings:
        status = Text(finding.status.value, _STYLES[finding.status])
        table.add_row(finding.name, status, Text(finding.detail), Text(finding.remedy))
    return table
