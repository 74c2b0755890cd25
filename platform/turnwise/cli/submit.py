"""`turnwise submit`: the same training as a job on a Ray cluster, through the dashboard's job API.

What travels: the resolved configuration, and the packages that register plug-ins as wheels (`wheel.py`) in
`py_modules`. No environment variable travels, so `${oc.env:NAME}` is read where the job runs. Ctrl-C stops the job;
`--no-wait` leaves it alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from turnwise.cli.wheel import pack_wheel, plugin_distributions
from turnwise.cluster import protect_token, token_path
from turnwise.config import Loaded, masked_yaml
from turnwise.config.keys import MASK
from turnwise.errors import TurnwiseError, UserError

CONNECT_S = 5.0
"""Seconds that the dashboard has to answer."""

END_S = 15.0
"""Seconds that a stopped job has to end, and a finished one to show its exit code."""

POLL_S = 1.0

TRAIN = 'config="$PWD/config.yaml"; cd && exec python -m turnwise train "$config"'
"""What the cluster runs: the folder it starts in is deleted with the job, so paths count from the home folder."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_RETRIES = 5

Say = Callable[..., object]


class SubmitError(TurnwiseError):
    """The cluster did not take the job, or lost sight of it."""


def submit_training(loaded: Loaded, address: str, *, wait: bool, say: Say) -> int:
    """Submit `turnwise train` with this configuration and return its exit code (0 at once without `wait`)."""
    config = shippable_yaml(loaded)
    with job_client(address) as client:
        return submit(client, config, TRAIN, wait=wait, say=say)


def submit(client: Any, config: str, entrypoint: str, *, wait: bool, say: Say) -> int:
    """Submit a shell command beside a `config.yaml`, follow it, and return its exit code."""
    with tempfile.TemporaryDirectory(prefix="turnwise-submit-") as folder:
        job = _send(client, config, entrypoint, Path(folder))
    say(f"submitted {job}")
    if not wait:
        return 0
    try:
        asyncio.run(_follow(client, job, say))
        return _exit_code(client, job, say)
    except KeyboardInterrupt:
        say(f"stopping {job}")
        client.stop_job(job)
        _wait_for_end(client, job)
        raise


def shippable_yaml(loaded: Loaded) -> str:
    """Return the configuration's text; UserError if a secret stands in it in clear."""
    text = masked_yaml(loaded)
    if MASK in text:
        problem = "a secret stands in it in clear, and would be stored on the cluster"
        raise UserError(
            "config", loaded.path or "key=value", problem, "write the secret as ${oc.env:NAME} and set NAME there"
        )
    return text


@contextmanager
def job_client(address: str) -> Iterator[Any]:
    """Yield a client of the job API at `address`; UserError if nobody answers there or the token is refused."""
    _check_answers(address)
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    protect_token()
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # otherwise RAY_ADDRESS would win over what the user typed
    try:
        yield _client(address)
    finally:
        os.environ.pop("RAY_API_SERVER_ADDRESS")
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _client(address: str) -> Any:
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
    except (RuntimeError, OSError, ValueError, RayError) as error:
        if _is_about_token(error):
            remedy = f"put the cluster's token into {token_path()}, or set RAY_AUTH_TOKEN"
            raise UserError("--address", address, "the cluster refuses our token", remedy) from None
        problem = f"is no dashboard of Ray ({' '.join(str(error).split())[:200]})"
        raise UserError("--address", address, problem, "give the dashboard's http://host:8265") from None
    return client


def _check_answers(address: str) -> None:
    """Ask the dashboard without a token: Ray's own client has no time-out. Refuses one that lets anyone in."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("--address", address, "is no web address", "give the dashboard's http://host:8265")
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/api/jobs/", timeout=CONNECT_S).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = "start the cluster (ray start --head), or give its dashboard's http://host:8265"
        raise UserError("--address", address, f"cannot be reached ({reason})", remedy) from None
    if not _is_loopback(parts.hostname):
        raise UserError(
            "--address", address, "lets anyone in without a token", "start that cluster with RAY_AUTH_MODE=token"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _is_about_token(error: Exception) -> bool:
    text = str(error)
    return any(
        word in text for word in ("401", "403", "Unauthorized", "Forbidden", "RAY_AUTH_TOKEN", "Unauthenticated")
    )


def _send(client: Any, config: str, entrypoint: str, folder: Path) -> str:
    """Upload configuration and wheels, and return the job's id."""
    work = folder / "work"
    work.mkdir()
    (work / "config.yaml").write_text(config, encoding="utf-8")
    wheels = [str(pack_wheel(distribution, folder)) for distribution in plugin_distributions()]
    runtime_env = {"working_dir": str(work), "py_modules": wheels}
    try:
        return str(client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env))
    except (RuntimeError, OSError, ValueError) as error:
        raise SubmitError(f"the cluster did not take the job: {error}") from error


async def _follow(client: Any, job: str, say: Say) -> None:
    """Print the job's log as it grows, until the job ends; a lost connection is taken up where it broke."""
    printed, failures = 0, 0
    while True:
        try:
            printed, failures = await _tail(client, job, printed, say), 0
        except (RuntimeError, OSError) as error:
            failures += 1
            if failures > _RETRIES:
                raise SubmitError(f"lost sight of {job}, which may go on: {error}") from error
        if _status(client, job) in _ENDED:
            await _tail(client, job, printed, say)
            return
        await asyncio.sleep(POLL_S)


async def _tail(client: Any, job: str, printed: int, say: Say) -> int:
    """Print the log from character `printed` on until the stream ends; return how much has been printed."""
    seen = 0
    async for text in client.tail_job_logs(job):
        fresh = text[max(0, printed - seen) :]
        seen += len(text)
        if fresh:
            say(fresh, nl=False)
        printed = max(printed, seen)
    return printed


def _exit_code(client: Any, job: str, say: Say) -> int:
    info = client.get_job_info(job)
    if info.status == "SUCCEEDED":
        return 0
    if info.driver_exit_code is None:
        say(f"{job} {str(info.status).lower()}: {' '.join(str(info.message).split())}")
    return int(info.driver_exit_code or 1)


def _wait_for_end(client: Any, job: str) -> None:
    deadline = time.monotonic() + END_S
    while _status(client, job) not in _ENDED and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _status(client: Any, job: str) -> str:
    return str(client.get_job_status(job).value)
