"""Talking to a command in a sandbox while it runs: both ways, bounded, and over when either side is."""

import asyncio

import pytest

from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_tier

MB = 10**6


HAS = {Tier.GVISOR: "containers", Tier.DOCKER: "containers", Tier.PODMAN: "podman"}
"""The fixtures that tiers need."""

QUICK = pytest.mark.parametrize("tier", [Tier.BUBBLEWRAP, Tier.PROCESS], ids=lambda tier: tier.value, indirect=True)
"""The tiers that start at once; the program inside is the same in all."""


@pytest.fixture(params=list(Tier), ids=lambda tier: tier.value)
def tier(request):
    if request.param in HAS:
        request.getfixturevalue(HAS[request.param])
    if why := missing(request.param):
        pytest.skip(f"{request.param.value}: {why}")
    return request.param


def talked(tier, command, talk, *, talk_bytes=20 * MB, **policy):
    """Run a command that is talked to, and one after it; return what became of the first."""

    async def run():
        box = await open_tier(tier, SandboxPolicy(**policy))
        try:
            ran = await asyncio.wait_for(box.converse(command, talk, talk_bytes=talk_bytes), 60)
            assert (await box.exec("echo next")).stdout == b"next\n"
            return ran
        finally:
            await box.close()

    return asyncio.run(run())


async def answer_to(data, stdin, stdout):
    writing = asyncio.create_task(stdin.write(data))
    found = b""
    while len(found) < len(data):
        found += await stdout.read(MB)
    await writing
    return found


def test_what_is_written_comes_back_and_the_end_of_the_talk_ends_the_input(tier):
    found, sent = [], (b"hello\n", bytes(range(256)) * 12_000, b"bye\n")

    async def talk(stdin, stdout):
        found.extend([await answer_to(data, stdin, stdout) == data for data in sent])

    ran = talked(tier, ["sh", "-c", "cat; echo done >&2; exit 3"], talk)
    assert found == [True, True, True]
    assert (ran.code, ran.stderr, ran.stdout) == (3, b"done\n", b"")


@QUICK
def test_a_command_that_ends_ends_the_talk(tier):
    ended = []

    async def talk(stdin, stdout):
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    assert talked(tier, ["sh", "-c", "sleep 0.3; exit 4"], talk).code == 4
    assert ended == [True]
    assert talked(tier, ["no-such-program"], talk).code == 127


@QUICK
def test_a_command_that_floods_is_cut_off(tier):
    found = []

    async def talk(stdin, stdout):
        while part := await stdout.read(MB):
            found.append(len(part))

    talked(tier, ["yes"], talk, talk_bytes=2 * MB)
    assert MB < sum(found) < 3 * MB


@QUICK
def test_what_nobody_reads_fills_no_memory(tier):
    async def talk(stdin, stdout):
        await asyncio.sleep(0.5)

    ran = talked(tier, ["sh", "-c", "head -c 10000000 /dev/zero; true"], talk)
    assert ran.code in (0, -13)


@QUICK
def test_a_deadline_ends_command_and_talk(tier):
    async def talk(stdin, stdout):
        await stdout.read(1)

    assert talked(tier, ["sleep", "60"], talk, wall_s=0.5).timed_out


def test_the_network_is_there_beside_the_talk():
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    asks = """if True:
        import sys, urllib.request
        try: urllib.request.urlopen('http://elsewhere.test/')
        except OSError as error: print(error.code, flush=True)
        sys.stdin.read()"""
    found = []

    async def talk(stdin, stdout):
        found.append(await stdout.read(100))

    ran = talked(Tier.BUBBLEWRAP, ["python3", "-c", asks], talk, network=["listed.test"])
    assert (found, ran.num_refused) == ([b"403\n"], 1)


def test_a_sandbox_that_is_closed_ends_the_talk():
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")

    async def talk(stdin, stdout):
        await stdout.read(1)

    async def run():
        box = await open_tier(Tier.BUBBLEWRAP, SandboxPolicy())
        talking = asyncio.create_task(box.converse(["sleep", "60"], talk, talk_bytes=MB))
        await asyncio.sleep(0.2)
        await box.close()
        with pytest.raises(SandboxLost):
            await talking

    asyncio.run(run())
