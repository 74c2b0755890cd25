"""`turnwise env list | validate | play | demonstrate | serve | init`: find, check, try, show and serve environments.

The command line adds `app` under the name `env`; whatever is the user's mistake leaves here as a `UserError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from turnwise.cli.listing import Listed, known_environments, listed
from turnwise.cli.new_env import write_package
from turnwise.env.bearer import MIN_LENGTH, TOKEN, read_token
from turnwise.env.conformance import DEFAULT_LIMIT_S, validate
from turnwise.errors import UserError
from turnwise.records import Task
from turnwise.serve.sessions import Limits
from turnwise.tasks import check_split, find_spec

app = typer.Typer(no_args_is_help=True, help="List, check, play and make environments.", rich_markup_mode=None)

EnvId = Annotated[str, typer.Argument(metavar="ID", help="a Gymnasium id, for instance turnwise/Search-v0")]
Options = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="arguments of its constructor")]
Seed = Annotated[int, typer.Option(help="decides the tasks", min=0)]
LIST_WIDTH = 120
"""Columns that the table of environments needs."""

Split = Annotated[str, typer.Option(help="train, or eval for held-out tasks")]


@app.command("list")
def list_environments() -> None:
    """Show the environments of Turnwise and of installed plug-ins."""
    whole = ("id", "turns", "tasks", "observation")
    names = [field.name for field in fields(Listed)]
    table = Table(*(Column(name, no_wrap=name in whole) for name in names))
    for row in map(listed, known_environments()):
        table.add_row(*(str(getattr(row, name)) for name in names))
    console = _console()
    Console(width=max(console.width, LIST_WIDTH), highlight=False, emoji=False).print(table)
    typer.echo("observation: characters of the first one, and the median of later ones")


@app.command("validate")
def validate_environment(
    env_id: EnvId,
    options: Options = None,
    limit_s: Annotated[float, typer.Option(help="seconds that one reset or step may take")] = DEFAULT_LIMIT_S,
) -> None:
    """Try what every environment must keep to; exit code 1 if it does not."""
    find_spec(env_id)
    checks = validate(env_id, read_options(options), limit_s=limit_s)
    table = Table("check", "result", "seconds", "detail", title=env_id)
    for check in checks:
        result = Text("passed", "green") if check.passed else Text("FAILED", "red")
        table.add_row(check.name, result, f"{check.seconds:.3f}", Text(check.detail))
    _console().print(table)
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


@app.command("play")
def play_environment(
    env_id: EnvId,
    options: Options = None,
    seed: Seed = 0,
    split: Split = "train",
    record: Annotated[Path | None, typer.Option(help="append the episode to this file, if it ended well")] = None,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="append it however it went, and ended or not")] = False,
    screenshots: Annotated[Path | None, typer.Option(help="a folder for a picture of each turn, of web tasks")] = None,
) -> None:
    """Act in an environment yourself, a line an action, until it is over or the input ends; `:help` shows more."""
    from turnwise.cli.play import play

    given, task = read_options(options), Task(env_id=env_id, task_id=str(seed), seed=seed, split=check_split(split))
    play(env_id, given, task, _console(), file=record, keeps_all=keep_all, screenshots=screenshots)


@app.command("demonstrate")
def demonstrate_environment(
    env_id: EnvId,
    output: Annotated[Path, typer.Option(help="a new file, of a JSON line an episode")],
    options: Options = None,
    episodes: Annotated[int, typer.Option(help="episodes to play", min=1)] = 100,
    split: Split = "train",
    min_outcome: Annotated[float, typer.Option(help="episodes with less are left out")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Let an environment's own demonstrator play, and keep what it did well; exit code 1 if that is nothing."""
    from turnwise.cli.demonstrate import demonstrate

    given, split = read_options(options), check_split(split)
    if not demonstrate(
        env_id, given, _console(), file=output, episodes=episodes, split=split, min_outcome=min_outcome, seed=seed
    ):
        raise typer.Exit(1)


@app.command("serve")
def serve_environment(
    env_id: EnvId,
    options: Options = None,
    host: Annotated[str, typer.Option(help="the address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free", min=0, max=65535)] = 8420,
    token_env: Annotated[str, typer.Option(help="the variable that holds the token which callers must have")] = TOKEN,
    token_file: Annotated[Path | None, typer.Option(help="a file that holds it, instead")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="an argument that callers may set, besides")] = None,
    rewards: Annotated[bool, typer.Option(help="tell agents (MCP) their rewards")] = False,
    max_sessions: Annotated[int, typer.Option(help="episodes at once", min=1)] = Limits.max_sessions,
    idle_s: Annotated[float, typer.Option(help="seconds of silence that end a session", min=0.1)] = Limits.idle_s,
    call_s: Annotated[float, typer.Option(help="seconds for one reset or step", min=0.1)] = Limits.call_s,
    max_body: Annotated[int, typer.Option(help="bytes of a request", min=1024)] = Limits.max_body,
) -> None:
    """Serve an environment to rollout workers elsewhere (turnwise/Remote-v0) and to agents that speak MCP."""
    from turnwise.cli.serve import serve

    serve(
        env_id,
        read_options(options),
        host=host,
        port=port,
        token=read_token(token_env, token_file, ("--token-env", "--token-file"), at_least=MIN_LENGTH),
        allowed=allow or (),
        tells_rewards=rewards,
        limits=Limits(max_sessions=max_sessions, idle_s=idle_s, call_s=call_s, max_body=max_body),
        say=typer.echo,
    )


@app.command("init")
def init(
    name: Annotated[str, typer.Argument(help="the new package's name")],
    folder: Annotated[Path, typer.Option(help="where its folder is made")] = Path(),
) -> None:
    """Write the package of a new environment: code, tests and a training configuration."""
    written = write_package(name, folder)
    console = _console()
    steps = (
        f"wrote {written}; next:",
        f"  pip install -e {written}",
        f"  turnwise env validate {name}/Guess-v0",
        f"  turnwise train {written / 'train.yaml'}",
    )
    console.print("\n".join(steps), markup=False, soft_wrap=True)


def read_options(options: Sequence[str] | None) -> dict[str, Any]:
    """Return `key=value` arguments as a dictionary, dots nesting; UserError for anything else."""
    for option in options or ():
        if "=" not in option or option.startswith("="):
            raise UserError("argument", option, "not key=value", "write it as key=value")
    try:
        read = OmegaConf.to_container(OmegaConf.from_dotlist(list(options or ())), resolve=False)
    except OmegaConfBaseException as error:
        raise UserError("argument", " ".join(options or ()), str(error), "write key=value") from error
    return {str(key): value for key, value in read.items()} if isinstance(read, dict) else {}


def _console() -> Console:
    return Console(highlight=False, emoji=False)
