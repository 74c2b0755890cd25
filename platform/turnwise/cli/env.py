"""`turnwise env list | validate | play | serve | init`: find, check, try and serve environments, and begin a new one.

The command line adds `app` under the name `env`; whatever is the user's mistake leaves here as a `UserError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import typer
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnwise.cli.listing import known_environments, listed
from turnwise.cli.new_env import write_package
from turnwise.env.base import TurnEnv
from turnwise.env.bearer import MIN_LENGTH, TOKEN, read_token
from turnwise.env.conformance import DEFAULT_LIMIT_S, validate
from turnwise.errors import UserError
from turnwise.records import Message
from turnwise.serve.sessions import Limits
from turnwise.tasks import find_spec, make_env, world_of

app = typer.Typer(no_args_is_help=True, help="List, check, play and make environments.", rich_markup_mode=None)

EnvId = Annotated[str, typer.Argument(metavar="ID", help="a Gymnasium id, for instance turnwise/Search-v0")]
Options = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="arguments of its constructor")]


@app.command("list")
def list_environments() -> None:
    """Show the environments of Turnwise and of installed plug-ins."""
    table = Table("id", "tools", "turns", "tasks", "observation", "licence", "needs")
    for row in map(listed, known_environments()):
        table.add_row(row.id, row.tools, row.turns, row.tasks, row.observation, row.licence, row.needs)
    _console().print(table)
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
def play(
    env_id: EnvId,
    options: Options = None,
    seed: Annotated[int, typer.Option(help="decides the task")] = 0,
) -> None:
    """Act in an environment yourself, a line an action, until it is over or the input ends."""
    env, console = make_env(env_id, read_options(options)), _console()
    try:
        _play(env, seed, console)
    except KeyboardInterrupt:
        console.print("\n(stopped)")
    finally:
        env.close()


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


def _play(env: gymnasium.Env[Any, Any], seed: int, console: Console) -> None:
    messages, _ = env.reset(seed=seed)
    _show_tools(world_of(env), console)
    _show_messages(messages, console)
    for action in _lines(console):
        messages, _, terminated, truncated, info = env.step(action)
        _show_messages(messages, console)
        _show_events(info, console)
        if terminated or truncated:
            console.print("(over)" if terminated else "(out of turns)")
            return
    console.print("\n(end of input)")


def _lines(console: Console) -> Iterator[str]:
    """Yield the lines of the standard input after a prompt each."""
    while True:
        console.print("> ", end="")
        line = sys.stdin.readline()
        if not line:
            return
        yield line.rstrip("\n")


def _show_tools(world: TurnEnv, console: Console) -> None:
    if world.instructions:
        console.print(world.instructions, style="dim", markup=False, soft_wrap=True)
    for schema in world.tools:
        function = schema["function"]
        names = " | ".join(function["parameters"]["properties"])
        console.print(
            f"  {function['name']} {names}    {function['description']}", style="cyan", markup=False, soft_wrap=True
        )


def _show_messages(messages: Sequence[Message], console: Console) -> None:
    for message in messages:
        console.print(f"{message['role']}: {message['content']}", markup=False, soft_wrap=True)


def _show_events(info: Mapping[str, Any], console: Console) -> None:
    for event in info["events"]:
        console.print(f"  {event.channel} {event.value:+g}", style="green" if event.value > 0 else "red", markup=False)


def _console() -> Console:
    return Console(highlight=False)
