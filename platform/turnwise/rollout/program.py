"""Episodes that programs play: their processes, what they are told, and how they end.

A program finds the policy and the environment through the gateway. A process that fails is a failure of the
infrastructure and no reward; one that ends before the environment does has had enough, and the episode is cut off.
Nothing of a program outlives its episode, and nothing of any outlives the worker, killed or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from turnwise.agent import Program, Programmed
from turnwise.config.schema import TimeoutConfig
from turnwise.engine import Completion
from turnwise.errors import InfraError, PolicyError
from turnwise.gateway.play import Play
from turnwise.gateway.refusal import FULL, SPENT
from turnwise.gateway.server import Server
from turnwise.gateway.session import Limits, Session
from turnwise.processes import end_processes, start_reaper
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

MARK = "TURNWISE_PROGRAMS"
"""A variable of all that one worker's programs start, by which it is found when the worker was killed."""

CUT_OFF = {FULL: "context", SPENT: "requests"}
"""Causes of episodes that ended because the gateway refused what was asked last."""


class Programs:
    """One worker's programs, and the address at which they find the policy."""

    def __init__(self, agent: Programmed, client: Client, timeouts: TimeoutConfig) -> None:
        """Have the programs and their folders cleared away when this process is gone; serve from the first one on."""
        self._agent, self._client, self._timeouts = agent, client, timeouts
        self._server, self._mark = Server(), secrets.token_hex(8)
        self._folder = tempfile.mkdtemp(prefix="turnwise-programs-")
        self._reaper = start_reaper(f"{MARK}={self._mark}", 0.0, self._folder)

    async def play(self, live: Live, opening: Opening, world: World) -> tuple[End, str]:
        """Let the program play to the end; return how and why it ended. Raises what failed."""
        live.stage, spec, timeouts, program = Stage.PROGRAM, live.spec, self._timeouts, self._agent.program

        async def sample(context_ids: IntArray, max_tokens: int, number: int) -> Completion:
            return await sampled(self._client, request_of(spec, context_ids, max_tokens, number), timeouts.generate_s)

        play = Play(opening, lambda action: world.step(action, timeouts.step_s))
        limits = Limits(max_requests=program.max_requests, idle_s=program.idle_s)
        session = Session(self._agent, sample, limits, play=play)
        secret = await self._server.open(session)
        try:
            ended = await self._ran(secret, session, play)
            await play.close()
        finally:
            self._server.sessions.close(secret)
            live.turns = list(session.turns())
        return _end(session, play, ended)

    async def close(self) -> None:
        """Stop serving, and end what is left."""
        await self._server.close()
        await asyncio.to_thread(self._reaper.communicate)

    async def _ran(self, secret: str, session: Session, play: Play) -> Ended:
        """Run a process until it ends, or is to be ended."""
        url, key = self._server.url, "OPENAI_API_KEY"
        own = {"OPENAI_BASE_URL": f"{url}/v1", key: secret, "TURNWISE_MCP_URL": f"{url}/mcp", MARK: self._mark}
        with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
            process = _start(self._agent.program, own, play.prompt, Path(folder))
            try:
                await _watch(process, session, play)
            finally:
                _kill(process)
                await asyncio.to_thread(end_processes, f"{key}={secret}", 0.0)  # what left its session
            return Ended(code=process.returncode, said=_tail(Path(folder) / "stderr"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a process ended."""

    code: int | None  # negative: the signal that ended it
    said: str  # its last words on its error output


def _start(program: Program, own: dict[str, str], prompt: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the program in a session and a folder of its own, which is its home, too; InfraError."""
    places = {
        "{prompt}": prompt,
        "{base_url}": own["OPENAI_BASE_URL"],
        "{mcp_url}": own["TURNWISE_MCP_URL"],
        "{key}": own["OPENAI_API_KEY"],
    }
    (folder / "stdin").write_text(prompt, encoding="utf-8")
    (home := folder / "home").mkdir()
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with (folder / "stdin").open("rb") as stdin, (folder / "stderr").open("wb") as stderr:
        try:
            return subprocess.Popen(
                [places.get(word, word) for word in program.command],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=home,
                env={**inherited, **program.variables, "HOME": str(home), **own},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise InfraError(f"the program cannot be started ({error})") from error


async def _watch(process: subprocess.Popen[bytes], session: Session, play: Play) -> None:
    """Return when the process has ended, or is to be ended; InfraError for one that does nothing."""
    while process.poll() is None:
        await asyncio.sleep(POLL_S)
        if play.is_over or session.is_spent:
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
    refused = session.refused
    if not session.exchanges:
        if refused is not None and refused.code == FULL:
            raise PolicyError(str(refused))
        asked = f"was refused what it asked ({refused})" if refused is not None else "had asked for nothing"
        raise InfraError(f"the program ended with code {ended.code} and {asked}: {ended.said}")
    if play.is_terminated:
        return End.TERMINATED, ""
    if play.is_truncated:
        return End.TRUNCATED, "max_turns"
    if refused is not None and refused.code in CUT_OFF:
        return End.TRUNCATED, CUT_OFF[refused.code]
    if ended.code:
        raise InfraError(f"the program ended with code {ended.code}: {ended.said}")
    return End.TRUNCATED, "program"
