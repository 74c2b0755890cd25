"""`turnwise swe build | show | check`: make tasks from real packages, look at a file of tasks, prove them.

The command line finds `app` through the registry, under the name `swe`. Whatever is the user's mistake leaves here as a
`UserError`; what takes long is imported when a command runs.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from turnwise.errors import UserError
from turnwise.registry import suggestion

if TYPE_CHECKING:
    from turnwise_envs.swe.build import Built
    from turnwise_envs.swe.prove import Proof
    from turnwise_envs.swe.task import SweTask

app = typer.Typer(
    no_args_is_help=True,
    help="Make tasks of software engineering from real packages, show and check them.",
    rich_markup_mode=None,
)

WIDTH = 100
"""Columns that the table of packages needs."""

Tasks = Annotated[Path, typer.Argument(metavar="FILE", help="A file of tasks: JSON lines, a JSON list or Parquet.")]


@app.command("build")
def build_command(
    packages: Annotated[
        list[str], typer.Option("--package", help="name==version, or a folder with source and tests; may be repeated.")
    ],
    output: Annotated[Path, typer.Option(help="The folder for the files of tasks and their repositories.")],
    bugs: Annotated[int, typer.Option(help="Tasks of each package, at most.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Decides which bugs there are.", min=0)] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Where fetched packages are kept.", show_default="~/.cache/turnwise/packages")
    ] = None,
) -> None:
    """Put bugs into packages and write those that their own tests find as tasks; each is proven by the grader."""
    from turnwise_envs.swe.build import build
    from turnwise_envs.swe.package import open_package

    folder = cache or default_cache()
    check_output(output)
    names = [open_package(package, folder).name for package in packages]
    twice = [name for name, num in Counter(names).items() if num > 1]
    if twice:
        raise UserError("--package", twice[0], "is there twice", "build its versions into folders of their own")
    built, failed = [], []
    for package in packages:
        try:
            work = build(package, output, num_bugs=bugs, seed=seed, cache=folder, say=typer.echo)
            built.append(asyncio.run(work))
        except UserError as error:
            failed.append(error)
            typer.echo(f"left out: {error}")
    if built:
        show_built(built)
    if failed:
        raise failed[0]


@app.command("show")
def show_command(
    file: Tasks,
    task: Annotated[str, typer.Option("--task", help="Print this one in full.")] = "",
    gold: Annotated[bool, typer.Option(help="Print its gold patch as well.")] = False,
) -> None:
    """List the tasks of a file, or print one."""
    from turnwise_envs.swe.task import load_tasks

    tasks = load_tasks(file, "FILE")
    if task:
        show_task(one_of(tasks, task), gold)
    else:
        show_tasks(tasks)


@app.command("check")
def check_command(file: Tasks) -> None:
    """Prove each task: the gold patch solves it, doing nothing does not. Exit code 1 if one does not hold."""
    from turnwise.sandbox.policy import SandboxPolicy
    from turnwise_envs.swe.prove import prove
    from turnwise_envs.swe.task import load_tasks
    from turnwise_envs.swe.world import LIMITS, check_runs

    tasks = load_tasks(file, "FILE")
    for task in tasks:
        check_runs(task, "FILE")
        if not task.patch:
            raise UserError("FILE", task.where, "has no gold patch", "check tasks that have one")

    def say(done: int) -> None:
        if done % 10 == 0:
            typer.echo(f"{done} of {len(tasks)} tasks tried")

    proofs = asyncio.run(prove(tasks, say, SandboxPolicy(**LIMITS)))
    show_proofs(proofs)
    if not all(proof.holds for proof in proofs):
        raise typer.Exit(1)


def default_cache() -> Path:
    """Return where fetched packages are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnwise" / "packages"


def check_output(output: Path) -> None:
    """UserError for an output that cannot be a folder."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / ".turnwise").touch()
        (output / ".turnwise").unlink()
    except OSError as error:
        raise UserError("--output", output, f"cannot be written to ({error.strerror})", "name a folder") from error


def one_of(tasks: Sequence[SweTask], name: str) -> SweTask:
    """Return a task by its name; UserError with the nearest one."""
    found = next((task for task in tasks if task.instance_id == name), None)
    if found is None:
        raise UserError("--task", name, "no such task", suggestion(name, [task.instance_id for task in tasks]))
    return found


def show_built(built: Sequence[Built]) -> None:
    """Print what became of packages, and of all of them."""
    columns = (
        Column("package", no_wrap=True),
        "functions",
        "bugs tried",
        "graded",
        "gold solves",
        "empty solves",
        "written",
        "single",
        "s",
    )
    table = Table(*columns)
    for one in built:
        solved = (f"{one.num_gold}/{one.num_proven}", f"{one.num_empty}/{one.num_proven}")
        counts = (str(one.num_functions), str(one.num_tried), str(one.num_proven), *solved)
        table.add_row(one.package, *counts, str(one.num_tasks), str(one.num_single), f"{one.seconds:.0f}")
    terminal = Console(highlight=False)
    console = Console(highlight=False, width=max(terminal.width, WIDTH))
    console.print(table)
    kinds = sum((one.operators for one in built), Counter[str]())
    words = ", ".join(f"{kind} {num}" for kind, num in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    num_tasks = sum(one.num_tasks for one in built)
    console.print(f"{num_tasks} tasks in {len(built)} files; {words}", markup=False, soft_wrap=True)


def show_tasks(tasks: Sequence[SweTask]) -> None:
    """Print a line a task."""
    table = Table(Column("task", no_wrap=True), "bug", "lines", "failing", "passing", "probes")
    for task in tasks:
        difficulty = task.recipe.difficulty if task.recipe is not None else {}
        kinds = " + ".join(map(str, difficulty.get("operators", ())))
        num_probes = len(task.recipe.probes) if task.recipe is not None else 0
        counts = (str(len(task.fail_to_pass)), str(len(task.pass_to_pass)), str(num_probes))
        table.add_row(Text(task.instance_id), kinds, str(difficulty.get("num_lines", "")), *counts)
    Console(highlight=False).print(table)


def show_task(task: SweTask, gold: bool) -> None:
    """Print a task."""
    parts = [task.instance_id, task.repo, task.problem_statement]
    for path, text in (task.recipe.added if task.recipe is not None else {}).items():
        parts += [f"--- {path}", text]
    parts += ["FAIL_TO_PASS", *(f"  {name}" for name in task.fail_to_pass)]
    parts += [task.patch] if gold else []
    typer.echo("\n".join(parts))


def show_proofs(proofs: Sequence[Proof]) -> None:
    """Print which tasks do not hold, and how many do."""
    for proof in proofs:
        if not proof.holds:
            typer.echo(str(proof))
    num_gold, num_empty = (sum(value == 1.0 for value in found) for found in _outcomes(proofs))
    typer.echo(f"gold solves {num_gold}/{len(proofs)}, empty solves {num_empty}/{len(proofs)}")


def _outcomes(proofs: Sequence[Proof]) -> tuple[list[float | None], list[float | None]]:
    return [proof.gold for proof in proofs], [proof.empty for proof in proofs]
