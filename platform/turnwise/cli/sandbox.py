"""`turnwise sandbox build | list | reap`: the base image of the tiers with containers, and the containers there are.

The command line adds `app` under the name `sandbox`; whatever is the user's mistake leaves here as a `UserError`.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.daemon import Daemon, daemon, host, unreachable
from turnwise.sandbox.images import build_base
from turnwise.sandbox.podman import build_base_for_podman
from turnwise.sandbox.policy import IMAGE
from turnwise.sandbox.reaper import Found, containers, reap

app = typer.Typer(
    no_args_is_help=True, help="Make the base image of sandboxes; find what is left of them.", rich_markup_mode=None
)


IMAGES = (Tier.GVISOR, Tier.DOCKER, Tier.PODMAN)


@app.command("build")
def build(
    tag: Annotated[str | None, typer.Option(help="another name for the image: [registry/]name[:tag]")] = None,
    tier: Annotated[Tier, typer.Option(help="for whom: docker (and gvisor), or podman")] = Tier.DOCKER,
) -> None:
    """Make the base image from this machine: its shell, Python and git. One that is there already is kept."""
    if tag is not None and (not IMAGE.fullmatch(tag) or "@" in tag):
        raise UserError("--tag", tag, "is not an image's name", "write [registry/]name[:tag]")
    if tier not in IMAGES or (tier is Tier.PODMAN and tag is not None):
        raise UserError("--tier", tier, "has no images to build or name", "take docker, or podman without --tag")
    began = time.monotonic()
    name, is_new = build_base_for_podman() if tier is Tier.PODMAN else build_base(_daemon(), tag)
    done = "made" if is_new else "there already"
    Console().print(f"{name}: {done}, {time.monotonic() - began:.1f} s", highlight=False)


@app.command("list")
def list_containers() -> None:
    """Show the containers that are sandboxes, and which of them are orphans."""
    _show(containers(_daemon()))


@app.command("reap")
def reap_containers() -> None:
    """Remove sandboxes whose owner has ended."""
    _show(reap(_daemon()))


def _daemon() -> Daemon:
    if why := unreachable():
        problem, _, remedy = why.partition("; ")
        raise UserError("DOCKER_HOST", host(), problem, remedy)
    return daemon()


def _show(found: list[Found]) -> None:
    table = Table("container", "tier", "status", "run", "owner", title=f"{len(found)} sandboxes")
    for each in found:
        process = each.owner.split(" ")[2:3]
        owner = f"process {''.join(process)}" + (", ended" if each.is_orphan else "")
        table.add_row(each.name, each.tier, each.status, each.run, owner)
    Console().print(table)
