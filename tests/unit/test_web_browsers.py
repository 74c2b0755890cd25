"""One browser for all environments of a process: shared, recycled, replaced when it dies, gone with its owner."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from web_pieces import Site, SiteEnv, needs_browser, one_browser, site, until

from turnwise.errors import InfraError
from turnwise.sandbox import Tier

pytestmark = needs_browser


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[None]:
    with one_browser():
        yield


@pytest.fixture
def page() -> Iterator[Site]:
    with site(index="<button>b</button>") as found:
        yield found


def processes(*words: str, but: str = "\n", of: int | None = None) -> list[psutil.Process]:
    """Return the processes below one whose command line has all the words and not the one."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if not line or process.status() == psutil.STATUS_ZOMBIE or but in line:
                continue
            if all(word in line for word in words):
                found.append(process)
    return found


def chromium() -> list[psutil.Process]:
    """Return the main processes of browsers."""
    return processes("/chromium/chromium", "--remote-debugging-pipe", but="inside.py")


def test_environments_share_one_browser_until_it_is_worn(page: Site) -> None:
    first, second, third = (SiteEnv(page, recycle=2) for _ in range(3))
    first.reset(seed=0)
    second.reset(seed=0)
    assert len(chromium()) == 1
    third.reset(seed=0)
    assert len(chromium()) == 2
    assert '[1] button "b"' in first.step("noop")[0][0]["content"]
    first.close()
    second.close()
    assert until(lambda: len(chromium()) == 1)
    third.close()


@pytest.mark.parametrize("victim", [("--remote-debugging-pipe", "/chromium/chromium"), ("driver/node",)])
def test_a_browser_that_dies_costs_its_episodes_and_no_others(page: Site, victim: tuple[str, ...]) -> None:
    env = SiteEnv(page)
    env.reset(seed=0)
    for process in processes(*victim):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with pytest.raises(InfraError, match="the browser is gone"):
        env.step("click 1")
    with pytest.raises(InfraError, match="there is no session"):
        env.step("click 1")
    assert '[1] button "b"' in env.reset(seed=0)[0][0]["content"]
    env.close()


def test_a_page_that_crashes_costs_its_episode(page: Site) -> None:
    one, other = SiteEnv(page), SiteEnv(page)
    one.reset(seed=0)
    before = {process.pid for process in processes("--type=renderer")}
    other.reset(seed=0)
    for process in processes("--type=renderer"):
        if process.pid not in before:
            process.kill()
    with pytest.raises(Exception, match=r"crash|closed"):
        other.step("click 1")
    assert '[1] button "b"' in one.step("click 1")[0][0]["content"]
    assert '[1] button "b"' in other.reset(seed=0)[0][0]["content"]
    one.close()
    other.close()


def test_the_browser_is_confined(page: Site) -> None:
    env = SiteEnv(page)
    env.reset(seed=0)
    assert env.sandbox_tier == Tier.BUBBLEWRAP
    for process in [*chromium(), *processes("--type=renderer")]:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        assert (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
        assert os.geteuid() != 0 or process.uids().real >= 1_000_000_000
        interfaces = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    env.close()


def test_nothing_is_left_when_the_last_environment_closes(page: Site) -> None:
    from turnwise_envs.web.browsers import browsers

    env = SiteEnv(page)
    env.reset(seed=0)
    assert chromium()
    browsers().leave(waits=True)  # the fixture's place
    env.close()
    browsers().join()
    assert until(lambda: not processes("chromium") and not processes("driver/node"))


PROGRAM = """
import sys, time
sys.path.insert(0, {tests!r})
from web_pieces import SiteEnv, site
from turnwise_envs.web.browse import BrowseEnv
with site(index="<button>b</button>") as page:
    env = SiteEnv(page, unsafe_process={unsafe})
    env.reset(seed=0)
    print("ready", flush=True)
    sys.stdin.read(1)
"""


@pytest.mark.parametrize(("end", "unsafe"), [("exit", False), ("kill", False), ("kill", True)])
def test_nothing_is_left_of_an_owner_that_ends_without_closing_or_is_killed(end: str, unsafe: bool) -> None:
    program = textwrap.dedent(PROGRAM.format(tests=str(Path(__file__).parents[1]), unsafe=unsafe))
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdin is not None
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    started = processes(of=owner.pid)
    assert len(started) > 5
    if end == "kill":
        owner.send_signal(signal.SIGKILL)
    else:
        owner.stdin.close()
    owner.wait(60)
    gone = until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in started), 30)
    left = [one for one in started if one.is_running()]
    for one in left:
        one.kill()
    assert gone, left
