"""What happens to containers around their inside: a daemon that dies, a disk that is full, starts that are given up."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import private_docker
from turnwise.errors import UserError
from turnwise.sandbox import SandboxLost, Tier
from turnwise.sandbox.attached import first_process
from turnwise.sandbox.daemon import Daemon, daemon, host
from turnwise.sandbox.docker import _tree as tree
from turnwise.sandbox.images import BUILD, build_base, find_base
from turnwise.sandbox.labels import LEASE, OWNER
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.reaper import containers as all_containers
from turnwise.sandbox.reaper import reap
from turnwise.sandbox.tiers import missing, open_tier

SMALL = {"memory_mb": 96, "disk_mb": 16, "processes": 32, "output_kb": 4, "wall_s": 60.0}


@pytest.fixture(scope="module")
def other():
    """A daemon of these tests alone, whose gVisor ignores control groups, and which may be killed."""
    if why := private_docker.missing():
        pytest.skip(why)
    with private_docker.private_docker(ignore_cgroups=True) as docker:
        build_base(Daemon(docker.host))
        yield docker


@pytest.fixture(params=[Tier.GVISOR, Tier.DOCKER], ids=lambda tier: tier.value)
def tier(request, other, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", other.host)
    if why := missing(request.param):
        pytest.skip(f"{request.param.value}: {why}")
    return request.param


def processes_of(box) -> set[int]:
    """Return the processes of a container, as this machine sees them."""
    link = box._link
    labels = daemon().api.inspect_container(link.container)["Config"]["Labels"]
    return set(tree(first_process(daemon(), link.container, labels[LEASE])))


def are_gone(processes: set[int], within_s: float = 10.0) -> bool:
    until = time.monotonic() + within_s
    while any(Path(f"/proc/{each}").exists() for each in processes) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(Path(f"/proc/{each}").exists() for each in processes)


def test_memory_has_a_limit_where_gvisor_ignores_control_groups(tier):
    async def fill() -> None:
        box = await open_tier(tier, SandboxPolicy(**{**SMALL, "memory_mb": 64}))
        inside = processes_of(box)
        hold = "python3 -c 'import time; a = bytearray(40 * 2**20); time.sleep(5); print(1)'"
        try:
            ran = await box.exec(" & ".join([hold] * 14) + " & wait")
        except SandboxLost:
            assert tier is Tier.GVISOR
            assert are_gone(inside)
        else:
            assert ran.stdout.count(b"1") < 14
        await box.close()

    asyncio.run(fill())


def test_starts_that_are_given_up_leave_nothing(tier):
    async def give_up() -> None:
        for pause_s in (0.0, 0.05, 0.2, 0.5):
            tasks = [asyncio.create_task(open_tier(tier, SandboxPolicy(**SMALL))) for _ in range(2)]
            await asyncio.sleep(pause_s)
            for task in tasks:
                task.cancel()
            for box in await asyncio.gather(*tasks, return_exceptions=True):
                if not isinstance(box, BaseException):
                    await box.close()

    asyncio.run(give_up())
    assert all_containers(daemon()) == []


def test_a_missing_image_is_refused_or_lost_within_a_time(tier):
    began = time.monotonic()
    with pytest.raises((UserError, SandboxLost), match=r"turnwise-test/no-such-image:1"):
        asyncio.run(open_tier(tier, SandboxPolicy(image="turnwise-test/no-such-image:1", **SMALL)))
    assert time.monotonic() - began < 60.0


def test_an_image_without_python_serves_too(tier, tmp_path):
    if (busybox := shutil.which("busybox")) is None:
        pytest.skip("no busybox to make an image of")
    for folder in ("bin", "etc", "tmp", "data"):
        (tmp_path / folder).mkdir()
    shutil.copy(busybox, tmp_path / "bin" / "busybox")
    for name in ("sh", "cat", "true", "id"):
        (tmp_path / "bin" / name).symlink_to("busybox")
    packed = subprocess.run(["tar", "-C", tmp_path, "-c", "."], capture_output=True, check=True).stdout
    changes = ["ENV WORD=given", "VOLUME /data", 'HEALTHCHECK CMD ["/bin/sh"]']
    daemon().api.import_image_from_data(packed, "turnwise-test/small", "1", changes)

    async def use() -> bytes:
        box = await open_tier(tier, SandboxPolicy(image="turnwise-test/small:1", **SMALL))
        await box.write("f", b"written ")
        ran = await box.exec(
            "cat f; echo $WORD; head -c 99999999 /dev/zero > /data/f || busybox head -c 99999999 /dev/zero > /data/f"
        )
        await box.close()
        assert ran.code != 0, "a volume of the image has a size"
        return ran.stdout

    try:
        assert asyncio.run(use()) == b"written given\n"
    finally:
        daemon().api.remove_image("turnwise-test/small:1", force=True)


def test_only_our_own_orphans_are_reaped(other, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", other.host)
    api = daemon().api
    base = find_base(daemon())
    sleeper = subprocess.Popen(["sleep", "100"])
    labels = {
        "ours": {OWNER: "another boot of this machine, gone"},
        "orphan": {OWNER: owner_of(sleeper.pid)},
        "mine": {OWNER: owner_of(os.getpid())},
        "foreign": {"other.owner": "x"},
    }
    made = {name: api.create_container(base, ["true"], labels=given)["Id"] for name, given in labels.items()}
    assert not [each for each in all_containers(daemon()) if each.container == made["orphan"] and each.is_orphan]
    sleeper.kill()
    sleeper.wait()
    try:
        assert [each.container for each in reap(daemon())] == [made["orphan"]]
        there = {each["Id"] for each in api.containers(all=True)}
        assert there >= {made["ours"], made["mine"], made["foreign"]}
    finally:
        for container in {*made.values()} - {made["orphan"]}:
            api.remove_container(container)


def owner_of(process: int) -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    return f"{boot} {namespace} {process} {Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[19]}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_daemon_that_ends_in_the_middle_is_a_lost_sandbox_and_leaves_no_process(tier, other, number):
    async def lose_it() -> set[int]:
        box = await open_tier(tier, SandboxPolicy(**SMALL))
        inside = processes_of(box)
        running = asyncio.create_task(box.exec("sleep 100 & sleep 100"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await asyncio.to_thread(other.end, number)
        with pytest.raises(SandboxLost, match="the sandbox is gone: "):
            await running
        with pytest.raises(SandboxLost):
            await box.write("x", b"")
        await box.close()
        with pytest.raises(SandboxLost, match=r"which images|does not answer"):
            await open_tier(tier, SandboxPolicy(**SMALL))
        assert time.monotonic() - began < 45.0
        return inside

    try:
        assert are_gone(asyncio.run(lose_it()))
    finally:
        other.start()
    assert all_containers(daemon()) == [], "the daemon that came back takes them away"


@pytest.fixture
def small_disk():
    """A daemon whose disk has 250 MiB."""
    if why := private_docker.missing():
        pytest.skip(why)
    above = Path(tempfile.mkdtemp(prefix="turnwise-"))  # a socket's path has 107 bytes
    disk, folder = above / "disk", above / "run"
    disk.mkdir()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=250m", "tmpfs", disk], check=True)
    docker = None
    try:
        docker = private_docker.PrivateDocker(folder, data=disk)
        yield docker, disk
    finally:
        if docker is not None:
            docker.end()
            docker.clear()
        subprocess.run(["umount", "--lazy", disk], check=True)
        shutil.rmtree(above)


def test_a_full_disk_is_an_error_of_the_machines_and_leaves_nothing(small_disk, monkeypatch):
    docker, disk = small_disk
    monkeypatch.setenv("DOCKER_HOST", docker.host)
    (disk / "full").write_bytes(bytes(200 * 2**20))
    with pytest.raises(SandboxLost, match="no space left"):
        build_base(daemon())
    assert missing(Tier.DOCKER, "any") is None
    assert BUILD in (missing(Tier.DOCKER) or "")
    (disk / "full").unlink()
    build_base(daemon())
    with (disk / "full").open("wb") as file:
        try:
            while True:
                file.write(bytes(65536))
                file.flush()
        except OSError:
            pass
    began = time.monotonic()
    with pytest.raises(SandboxLost, match="no space left"):
        asyncio.run(open_tier(Tier.DOCKER, SandboxPolicy(**SMALL)))
    assert time.monotonic() - began < 60.0
    assert all_containers(daemon()) == []
    assert host() == docker.host
