"""The command line: `turnwise train | sft | eval | submit | doctor | env | rewards | rescore | sandbox`, and plug-ins'.

A user's mistake is one line on standard error and exit code 2; another error of ours one line and 1; Ctrl-C 130;
anything unexpected a traceback and 1. Commands import what they need when they run, so that help and bad input answer
at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from turnwise.cli.env import app as env_app
from turnwise.cli.plugged import WithPlugins
from turnwise.cli.rewards import app as rewards_app
from turnwise.cli.sandbox import app as sandbox_app
from turnwise.errors import TurnwiseError, UserError

__all__ = ["app", "main", "run_command"]

INTERRUPTED = 130

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [key=value ...]", help="A file, then keys to set; ~key forgets one."),
]

app = typer.Typer(
    cls=WithPlugins,
    help="Train language-model agents by reinforcement learning on multi-turn tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(env_app, name="env")
app.add_typer(rewards_app, name="rewards")
app.add_typer(sandbox_app, name="sandbox")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; unexpected exceptions pass through."""
    try:
        result = app(
            args=list(arguments) if arguments is not None else None, prog_name="turnwise", standalone_mode=False
        )
    except KeyboardInterrupt:
        return _report("interrupted", INTERRUPTED)
    except Exception as error:
        code = _code_of(error)
        if code is None:
            raise
        return code
    if result == INTERRUPTED:  # typer's answer to an interrupt within a command
        return _report("interrupted", INTERRUPTED)
    return result if isinstance(result, int) else 0


@app.command("train")
def train_command(words: Words = None) -> int:
    """Train as configured; the run folder is runs_dir/name. A run that was stopped early exits with 130."""
    from turnwise.cli.run import load_words, show_summary

    loaded = load_words(words or [])
    from turnwise.train import train as run_training

    summary = run_training(loaded)
    show_summary(summary, Path(loaded.config.runs_dir) / loaded.config.name)
    return 0 if summary["status"] == "finished" else INTERRUPTED


@app.command("sft")
def sft_command(words: Words = None) -> None:
    """Do the supervised warm start alone; its model is in warmstart/ of the run folder."""
    from turnwise.cli.run import check_sft, load_words

    loaded = load_words(words or [])
    check_sft(loaded)
    from turnwise.train import warm_start

    typer.echo(f"warm-started model: {warm_start(loaded)}")


@app.command("eval")
def eval_command(
    model: Annotated[str, typer.Argument(help="A model's folder, a run's folder, or a run's name.")],
    words: Words = None,
    show: Annotated[int, typer.Option(help="Episodes to print in full.", min=0)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the result there.")] = None,
) -> None:
    """Play held-out tasks and print the success, sampled and greedy."""
    from turnwise.cli.evaluate import evaluate_model

    evaluate_model(model, words or [], show, json_file)


@app.command("rescore")
def rescore_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name in runs/.")],
    rewards: Annotated[
        list[str] | None,
        typer.Option(
            "--reward", help="name,key=value,... or a CONFIG.yaml; the run's own scorers where none is given."
        ),
    ] = None,
    updates: Annotated[str, typer.Option("--update", metavar="A:B", help="Which updates, both ends included.")] = "",
    out: Annotated[Path | None, typer.Option(help="A new folder for changes.json and the scores as Parquet.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Where scorers that learn were saved.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for one scorer on one group.", min=0.001)] = 120.0,
) -> int:
    """Score the stored trajectories of a run again and show what changes; exit code 1 if nothing could be scored."""
    from turnwise.cli.rescore import rescore_run

    return 0 if rescore_run(run, rewards or [], updates, out, checkpoint, timeout_s) else 1


@app.command("submit")
def submit_command(
    words: Words = None,
    address: Annotated[str, typer.Option(help="The cluster's dashboard.")] = "http://127.0.0.1:8265",
    wait: Annotated[
        bool, typer.Option(help="Follow the log and return the job's exit code; Ctrl-C stops the job.")
    ] = True,
) -> int:
    """Train as configured, as a job on a Ray cluster; relative paths count from the home folder there."""
    from turnwise.cli.run import load_words
    from turnwise.cli.submit import submit_training

    return submit_training(load_words(words or []), address, wait=wait, say=typer.echo)


@app.command("doctor")
def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    deep: Annotated[bool, typer.Option(help="Also start Ray and end it again.")] = False,
) -> int:
    """Say what this machine can do, and why not more."""
    from turnwise.cli.doctor import report

    return report(as_json=as_json, deep=deep)


def _code_of(error: Exception) -> int | None:
    """Print an error that was raised on purpose, here or in an actor, and return its exit code; None for any other."""
    cause = getattr(error, "cause", None)
    known = cause if isinstance(cause, TurnwiseError) else error
    if isinstance(known, UserError):
        return _report(str(known), 2)
    if isinstance(known, TurnwiseError):
        return _report(" ".join(f"{type(known).__name__}: {known}".split()), 1)
    if isinstance(error, typer.Abort):
        return _report("interrupted", INTERRUPTED)
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        return None
    message = getattr(error, "format_message", lambda: "")()
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return code
    return _report(f"{message}; see `turnwise --help`", code) if message else code


def _report(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
