"""An episode that a program plays: its process, what it is told, and how it ends.

The program finds the policy and the environment through the gateway. A process that fails is a failure of the
infrastructure and no reward; one that ends before the environment does has had enough, and the episode is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from turnwise.agent import Program, Programmed
from turnwise.config.schema import TimeoutConfig
from turnwise.engine import Completion
from turnwise.errors import InfraError
from turnwise.gateway.play import Play
from turnwise.gateway.server import Server
from turnwise.gateway.session import Limits, Session
from turnwise.records import End, IntArray
from turnwise.rollout.episode import Client, Live, Stage, request_of, sampled
from turnwise.rollout.world import Opening, World

POLL_S = 0.02
"""Seconds between two looks at a process."""

GRACE_S = 2.0
"""Seconds that a process may go on after the end of its episode."""

TAIL = 300
"""Characters of a failed program's last words that its failure quotes."""

INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "TURNWISE_CLUSTER")
"""Variables of the worker's that a program has; the last marks all processes of a cluster, so that none outlives it."""


async def play_program(
    live: Live,
    opening: Opening,
    world: World,
    agent: Programmed,
    client: Client,
    timeouts: TimeoutConfig,
    server: Server,
) -> tuple[End, str]:
    """Let the program play to the end; return how and why it ended. InfraError, and what befell world or engine."""
    live.stage, spec, program = Stage.PROGRAM, live.spec, agent.program

    async def sample(context_ids: IntArray, max_tokens: int, temperature: float, number: int) -> Completion:
        return await sampled(client, request_of(spec, context_ids, max_tokens, number), timeouts.generate_s)

    play = Play(opening, lambda action: world.step(action, timeouts.step_s))
    limits = Limits(max_requests=program.max_requests, idle_s=program.idle_s)
    session = Session(agent, sample, limits, temperature=spec.temperature, play=play)
    secret = await server.open(session)
    try:
        with tempfile.TemporaryDirectory(prefix="turnwise-program-", ignore_cleanup_errors=True) as folder:
            process = _start(program, server.url, secret, play.prompt, Path(folder))
            try:
                await _watch(process, session, play)
            finally:
                _kill(process)
            said = _tail(Path(folder) / "stderr")
    finally:
        server.sessions.close(secret)
        live.turns = list(session.turns())
    return _end(session, play, Ended(code=process.returncode, said=said))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a process ended."""

    code: int | None  # negative: the signal that ended it
    said: str  # its last words on its error output


def _start(program: Program, url: str, secret: str, prompt: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the program in a session and a folder of its own, which is its home, too; InfraError."""
    places = {"{prompt}": prompt, "{base_url}": f"{url}/v1", "{mcp_url}": f"{url}/mcp", "{key}": secret}
    (folder / "stdin").write_text(prompt, encoding="utf-8")
    (home := folder / "home").mkdir()
    own = {
        "HOME": str(home),
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": secret,
        "TURNWISE_MCP_URL": f"{url}/mcp",
    }
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with (folder / "stdin").open("rb") as stdin, (folder / "stderr").open("wb") as stderr:
        try:
            return subprocess.Popen(
                [places.get(word, word) for word in program.command],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=home,
                env={**inherited, **program.variables, **own},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise InfraError(f"the program cannot be started ({error})") from error


async def _watch(process: subprocess.Popen[bytes], session: Session, play: Play) -> None:
    """Return when the process has ended, or is to be ended; InfraError for one that does nothing."""
    while process.poll() is None:
        await asyncio.sleep(POLL_S)
        if play.is_over:
            await _wait(process, GRACE_S)
            return
        if session.idle_s > session.limits.idle_s:
            raise InfraError(f"the program did nothing for {session.limits.idle_s:g} s")


async def _wait(process: subprocess.Popen[bytes], limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while process.poll() is None:
                await asyncio.sleep(POLL_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its session that is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(file: Path) -> str:
    with file.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4 * TAIL))
        return " ".join(stream.read().decode(errors="replace").split())[-TAIL:]


def _end(session: Session, play: Play, ended: Ended) -> tuple[End, str]:
    """Return how the episode ended, and why; raises what failed."""
    if (error := play.error or session.error) is not None:
        raise error
    if not session.exchanges:
        raise InfraError(f"the program ended with code {ended.code} and had asked for nothing: {ended.said}")
    if play.is_terminated:
        return End.TERMINATED, ""
    if play.is_truncated:
        return End.TRUNCATED, "max_turns"
    if session.was_full:
        return End.TRUNCATED, "context"
    if session.is_spent:
        return End.TRUNCATED, "requests"
    if ended.code:
        raise InfraError(f"the program ended with code {ended.code}: {ended.said}")
    return End.TRUNCATED, "program"
