"""What code in a sandbox may try: limits it runs into, places it cannot reach, and what is left of it afterwards.

Every tier that confines goes through all of it. Numbers as in the list of failures: C are limits, D is confinement.
"""

import asyncio
import contextlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from turnwise.sandbox import FileRefused, Ran, Reason, SandboxLost, Tier
from turnwise.sandbox.daemon import daemon, state, unreachable
from turnwise.sandbox.labels import OWNER
from turnwise.sandbox.podman import called
from turnwise.sandbox.podman import found as found_podman
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_tier

HOME = Path.home()
SMALL = {"memory_mb": 96, "disk_mb": 16, "processes": 32, "output_kb": 4, "wall_s": 20.0}


@pytest.fixture
def inside(tier):
    """Run commands one after the other in one small sandbox; return the last one's end."""

    def run(*commands: str, **options) -> Ran:
        async def all_of_them() -> Ran:
            box = await open_tier(tier, SandboxPolicy(**SMALL))
            try:
                for command in commands:
                    ran = await box.exec(command, **options)
                return ran
            finally:
                await box.close()

        return asyncio.run(all_of_them())

    return run


def python(program: str) -> str:
    return f"python3 -c {shlex.quote(program)}"


# C: limits


def test_an_endless_loop_ends_at_its_deadline(inside):
    began = time.monotonic()
    ran = inside("while :; do :; done", deadline_s=1.0)
    assert ran.timed_out
    assert 1.0 <= ran.seconds < 2.0
    assert time.monotonic() - began < 10.0


def test_a_fork_bomb_meets_the_limit_and_the_sandbox_goes_on(inside):
    bomb = python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass")
    ran = inside(bomb + " & sleep 1", "ls /proc | grep -c ^[0-9]")
    assert 0 < int(ran.stdout) < SMALL["processes"], "the bomb's processes ended with its command"
    counted = inside("for i in $(seq 100); do sleep 5 & done; ls /proc | grep -c ^[0-9]; wait", deadline_s=2.0)
    assert b"fork" in counted.stderr.lower()


def test_a_memory_bomb_is_killed_and_this_process_is_not(inside):
    ran = inside(python("a = bytearray(300 * 2**20); print(len(a))"))
    assert ran.code != 0
    assert not ran.stdout
    assert inside("echo still here").stdout == b"still here\n"


def test_memory_is_limited_in_all_where_there_is_a_control_group(inside, tier):
    if not os.access("/sys/fs/cgroup", os.W_OK) and os.geteuid() != 0:
        pytest.skip("no control group can be made by this user")
    hold = python("import time; a = bytearray(60 * 2**20); time.sleep(3); print(1)")
    try:
        ran = inside(" & ".join([hold] * 8) + " & wait")  # together more than processes and files may have
    except SandboxLost:
        assert tier is Tier.GVISOR, "there the kernel inside ends, and all with it"
    else:
        assert ran.stdout.count(b"1") < 8


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_a_full_disk_is_full_inside_alone(inside, folder):
    ran = inside(
        f"for i in 1 2 3 4 5 6 7 8 9; do head -c 8000000 /dev/zero > {folder}/$i || break; done; cat {folder}/? | wc -c"
    )
    assert b"No space left" in ran.stderr or b"Cannot allocate" in ran.stderr or b"Killed" in ran.stderr
    assert int(ran.stdout) <= 64 * 2**20, "of 72 MB that were wanted"


def test_a_flood_of_output_is_capped_and_counted(inside):
    ran = inside("yes | head -c 50000000; yes error | head -c 3000000 >&2")
    assert (ran.num_stdout, ran.num_stderr) == (50_000_000, 3_000_000)
    assert (len(ran.stdout), len(ran.stderr)) == (4096, 4096)
    assert ran.is_truncated


def test_a_gigabyte_of_output_takes_no_memory_here(tier):
    def own_memory() -> int:
        return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    async def flood() -> tuple[Ran, list[int]]:
        box = await open_tier(tier, SandboxPolicy(**{**SMALL, "wall_s": 120.0}))
        before, seen = own_memory(), []
        task = asyncio.create_task(box.exec(f"yes | head -c {size}"))
        while not (await asyncio.wait([task], timeout=0.1))[0]:
            seen.append(own_memory() - before)
        await box.close()
        return task.result(), seen

    size = 10**8 if tier is Tier.GVISOR else 10**9  # there it takes longer
    ran, seen = asyncio.run(flood())
    assert (ran.num_stdout, len(ran.stdout)) == (size, 4096)
    assert max(seen) < 20_000_000


def test_what_ignores_signals_and_leaves_its_session_ends_with_the_command(inside):
    stay = 'trap "" TERM HUP INT; while :; do sleep 1; done'
    ran = inside(f"setsid sh -c '{stay}' & (setsid sh -c '{stay}' &) ; echo started", "ls /proc | grep -c ^[0-9]")
    assert 0 < int(ran.stdout) <= 4  # the first process, the shell, ls, grep


def test_output_that_a_left_process_holds_open_does_not_hold_up_the_answer(inside):
    began = time.monotonic()
    assert inside("setsid sleep 60 & echo done").stdout == b"done\n"
    assert time.monotonic() - began < 10.0


def test_binary_output_and_names_that_are_no_text_come_through(inside):
    assert inside("printf '\\377\\000\\200'").stdout == b"\xff\x00\x80"


def test_an_archive_that_leads_out_of_the_workspace_is_refused_and_nothing_is_lost(tier):
    def archive(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as file:
            member = tarfile.TarInfo(name)
            member.type = kind
            file.addfile(member)
        return packed.getvalue()

    async def try_them() -> list[Reason]:
        box = await open_tier(tier, SandboxPolicy(**SMALL))
        await box.write("kept", b"")
        found = []
        for bad in (
            archive("../../evil"),
            archive("a/../../evil"),
            archive("/tmp/evil"),
            archive("device", tarfile.CHRTYPE),
            b"no archive at all" * 99,
        ):
            with pytest.raises(FileRefused) as refused:
                await box.restore(bad)
            found.append(refused.value.reason)
        assert (await box.exec("ls /tmp /workspace")).stdout == b"/tmp:\n\n/workspace:\nkept\n"
        await box.close()
        return found

    assert asyncio.run(try_them()) == [Reason.DENIED] * 4 + [Reason.NOT_A_FILE]


def test_files_that_are_not_files_are_refused_and_do_not_hang(tier):
    async def try_them():
        box = await open_tier(tier, SandboxPolicy(**SMALL))
        await box.exec(
            "mkfifo pipe; mkdir folder; ln -s loop loop; ln -s /proc/1/mem mem; head -c 9999999 /dev/zero > b"
        )
        found = {}
        for name in ("pipe", "folder", "loop", "mem", "nothing", "pipe/below", "/dev/zero", "/sys/x"):
            try:
                found[name] = await box.read(name, max_bytes=1000)
            except FileRefused as error:
                found[name] = error.reason
        for name, data in (("pipe", b""), ("folder", b""), ("/usr/x", b""), ("big", bytes(20_000_000))):
            try:
                await box.write(name, data)
            except FileRefused as error:
                found[f"write {name}"] = error.reason
        await box.close()
        return found

    found = asyncio.run(try_them())
    assert found["pipe"] is found["folder"] is found["/dev/zero"] is Reason.NOT_A_FILE
    assert found["nothing"] is found["pipe/below"] is found["/sys/x"] is Reason.MISSING
    assert found["loop"] is found["mem"] is Reason.DENIED
    assert found["write pipe"] is found["write folder"] is Reason.NOT_A_FILE
    assert found["write /usr/x"] is Reason.DENIED
    assert found["write big"] is Reason.NO_SPACE


# D: confinement


def test_the_secrets_of_this_machine_are_not_there(inside, tmp_path, monkeypatch):
    monkeypatch.setenv("TURNWISE_TEST_SECRET", "do-not-show")
    (tmp_path / "token").write_text("do-not-show")
    places = "/usr /var/run/docker.sock /run/docker.sock /run/user /home /etc/shadow /sys/kernel"
    ran = inside(
        f"cat {tmp_path}/token ~root/.ray/auth_token {HOME}/.ray/auth_token {HOME}/.ssh/*; cat /proc/*/environ; env"
        f"; for p in {places}; do test -e $p && echo there: $p; done"
    )
    assert b"do-not-show" not in ran.stdout
    assert re.findall(rb"there: (\S+)", ran.stdout) == [b"/usr"]


def test_nothing_but_the_workspace_can_be_written_to(inside):
    places = "/x /usr/x /etc/x /etc/passwd /dev/x /run/x /run/turnwise/inside.py /proc/sys/kernel/hostname"
    ran = inside(
        f"for p in {places}; do (echo x > $p) 2>/dev/null && echo $p; done; echo x > /workspace/x && cat /workspace/x"
    )
    assert ran.stdout == b"x\n"


def test_there_are_no_privileges(inside):
    status = inside("cat /proc/self/status; id -u").stdout.decode()
    held = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {held[name].strip() for name in held if name.startswith("Cap")} == {"0" * 16}
    assert held["Seccomp"] == "2"
    assert inside(python("import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))")).stdout == b"1\n"
    assert int(status.splitlines()[-1]) != 0


@pytest.mark.parametrize(
    "call",
    [
        "unshare -U true",
        "unshare -m true",
        python("import ctypes, os; os._exit(1 if ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) else 0)"),
        "mknod /workspace/d b 1 1",
        python("import os; os.chroot('/')"),
        python("import ctypes, os; e = ctypes.CDLL(None).ptrace(16, 1, 0, 0); os._exit(1 if e else 0)"),
        python("import ctypes, os; os._exit(1 if ctypes.CDLL(None).syscall(250, 0, -3, 1) < 0 else 0)"),  # keyctl
        python("import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4))"),
        python("import resource; resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))"),
        python("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
        python("import socket; socket.socket(40, socket.SOCK_STREAM, 0)"),
        python("import os; os.setuid(0)"),
        python("import os, stat; os.mknod('/workspace/d', stat.S_IFCHR | 0o600, os.makedev(1, 5))"),
        python('open("/proc/1/mem", "rb")'),
    ],
)
def test_what_only_an_escape_needs_is_refused(inside, call):
    assert inside(call).code not in (0, None)


def test_the_first_process_cannot_be_ended_from_inside(inside):
    every = "for s in $(seq 64); do kill -$s 1; done; echo alive"
    others = python(
        "import ctypes, fcntl, os, signal\n"
        "call = ctypes.CDLL(None).syscall\n"
        "os.kill(-1, signal.SIGCONT)\n"
        "for number, *given in [(62, 2**32 + 1, 9), (200, 1, 9), (234, 1, 1, 9), (129, 1, 9, 0), (297, 1, 1, 9, 0)]:\n"
        "  call(number, *map(ctypes.c_long, given))\n"
        "read, write = os.pipe()\n"
        "for command, value in [(fcntl.F_SETSIG, 9), (fcntl.F_SETOWN, 1), (fcntl.F_SETFL, os.O_ASYNC)]:\n"
        "  try: fcntl.fcntl(read, command, value)\n"
        "  except OSError: pass\n"
        "os.write(write, b'x')\n"
    )
    assert inside(every, others, every, "echo again").stdout == b"again\n"


def test_the_first_process_holds_nothing_worth_reading(inside):
    held = inside("cat /proc/1/environ").stdout  # gVisor shows it
    assert {word.partition(b"=")[0] for word in held.split(b"\0")} <= {b"", b"HOSTNAME", b"PATH", b"HOME"}


def test_no_network_is_reached_not_even_this_machine(inside):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        targets = [("127.0.0.1", port), ("169.254.169.254", 80), ("8.8.8.8", 53), (socket.gethostname(), port)]
        program = (
            "import socket\n"
            f"for place in {targets!r}:\n"
            "  try: socket.create_connection(place, timeout=2); print(place)\n"
            "  except OSError: pass\n"
        )
        ran = inside(python(program))
        assert (ran.code, ran.stdout) == (0, b""), ran.stderr
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_full_folders_do_not_end_the_sandbox(inside):
    fill = "; ".join(f"cat /dev/zero > {folder}/full" for folder in ("/tmp", "/dev/shm", "/workspace"))
    assert inside(fill, "echo on").stdout == b"on\n"


def test_two_sandboxes_share_nothing(tier):
    async def both() -> bytes:
        first, second = [await open_tier(tier, SandboxPolicy(**SMALL)) for _ in range(2)]
        await first.exec("for d in /workspace /tmp /dev/shm; do echo secret > $d/left; done; nohup sleep 50 &")
        seen = await second.exec("ls -A /workspace /tmp /dev/shm; ls /proc | grep -c ^[0-9]; id -u")
        mine = await first.exec("id -u")
        await first.close()
        await second.close()
        assert seen.stdout.split()[-1] != mine.stdout.strip() or os.geteuid() != 0
        return seen.stdout

    assert b"left" not in asyncio.run(both())


# What is left


def below(process: int) -> set[int]:
    """Return the processes that come from one, by their ids."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    found, rest = set(), {process}
    while rest:
        rest = {child for child, parent in parents.items() if parent in rest}
        found |= rest
    return found


def held_containers(tier: Tier) -> dict[str, int]:
    """Return our containers, and the first process of each; on a daemon of the tests' own there are no others."""
    if tier is Tier.PODMAN:
        words = ["ps", "--all", "--filter", f"label={OWNER}", "--format", "{{.ID}} {{.Pid}}"]
        lines = called(found_podman(), words).splitlines()
        return {line.split()[0]: int(line.split()[1]) for line in lines}
    if unreachable():
        return {}
    api = daemon().api
    found = api.containers(all=True, filters={"label": OWNER})
    return {each["Id"]: (state(api, each["Id"]) or {}).get("Pid", 0) for each in found}


def traces(temporary: Path, tier: Tier) -> dict[str, int]:
    """Count what sandboxes of this process could leave: processes, containers, groups, mounts, files, descriptors."""
    mine = f"turnwise-{os.getpid()}-*"
    root = Path("/nowhere") if unreachable() else Path(daemon().api.info()["DockerRootDir"]).parent
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {root}/" in line]
    return {
        "processes": sum(served(process) for process in below(os.getpid())),
        "containers": len(held_containers(tier)),
        "groups": sum(1 for pattern in (mine, f"*/{mine}") for _ in Path("/sys/fs/cgroup").glob(pattern)),
        "mounts": len(mounts),
        "files": len(list(temporary.iterdir())),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def served(process: int) -> bool:
    """Whether a process serves a sandbox, or is on its way to."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes()
        return any(word in words for word in (b"inside.py", b'"is_alone": true', b"runsc"))
    return False


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """A folder of this test's for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_episodes_leave_nothing(tier, temporary):
    async def episodes(count: int) -> None:
        for number in range(count):
            box = await open_tier(tier, SandboxPolicy(**SMALL))
            for _ in range(5):
                assert (await box.exec("sleep 100 & echo $RANDOM > f; cat f")).code == 0
            if number % 5 == 4:  # one that is given up in the middle
                task = asyncio.create_task(box.exec("sleep 100"))
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                with pytest.raises(SandboxLost):
                    await box.exec("true")
            await box.close()
            await box.close()

    asyncio.run(episodes(1))
    before = traces(temporary, tier)
    asyncio.run(episodes(50 if tier is Tier.BUBBLEWRAP else 10))
    after = traces(temporary, tier)
    assert {name: after[name] for name in after if after[name] > before[name]} == {}, before


OPENS_AND_WAITS = """
import asyncio, sys
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox import Tier
from turnwise.sandbox.tiers import open_tier

async def main():
    boxes = [await open_tier(Tier(sys.argv[1]), SandboxPolicy()) for _ in range(3)]
    print("open", flush=True)
    await asyncio.gather(*(box.exec("sleep 300 & sleep 300", deadline_s=60) for box in boxes[:2]))

asyncio.run(main())
"""


def test_a_killed_owner_leaves_nothing_after_ten_seconds(tier):
    owner = subprocess.Popen(
        [sys.executable, "-c", OPENS_AND_WAITS, tier.value], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert owner.stdout.readline() == b"open\n"
    time.sleep(0.5)
    containers = held_containers(tier)
    firsts = {first for first in containers.values() if first}
    processes = below(owner.pid) | firsts | {each for first in firsts for each in below(first)}
    assert len(processes) >= 3 * 2
    assert len(containers) == (0 if tier is Tier.BUBBLEWRAP else 3)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until = time.monotonic() + 10.0
    while left(processes, tier) and time.monotonic() < until:
        time.sleep(0.05)
    assert left(processes, tier) is None


def left(processes: set[int], tier: Tier) -> tuple[set[int], dict[str, int]] | None:
    """Return which of these are still there, and the containers."""
    there = {process for process in processes if Path(f"/proc/{process}").exists()}, held_containers(tier)
    return there if any(there) else None


OPENS_WHEN_TOLD = """
import asyncio, sys
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import open_sandbox

async def main():
    policy = SandboxPolicy(minimum=sys.argv[1], read_only=[sys.argv[2]])
    await (await open_sandbox(SandboxPolicy(minimum=sys.argv[1]))).close()
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(open_sandbox(policy) for _ in range(2)))

asyncio.run(main())
"""


def showing(folder: Path) -> list[int]:
    """Return the processes of bwrap that were told to show this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            found += [int(entry.name)] if str(folder).encode() in words and b"bwrap" in words[0] else []
    return found


def children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def test_an_owner_killed_in_the_middle_of_starts_leaves_no_process(tmp_path):
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    for _ in range(8):
        owner = subprocess.Popen(
            [sys.executable, "-c", OPENS_WHEN_TOLD, "bubblewrap", str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert owner.stdout.readline() == "ready\n"
        owner.stdin.write("\n")
        owner.stdin.flush()
        until = time.monotonic() + 10.0
        while time.monotonic() < until and not any(map(children, children(owner.pid))):
            pass  # the moment at which the first bwrap has a child
        owner.kill()
        owner.communicate()
        until = time.monotonic() + 10.0
        while (left := showing(tmp_path)) and time.monotonic() < until:
            time.sleep(0.05)
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert left == []


def test_a_start_that_is_given_up_leaves_no_process(tmp_path):
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")

    async def give_up(after_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            box = await asyncio.wait_for(open_tier(Tier.BUBBLEWRAP, SandboxPolicy(read_only=[str(tmp_path)])), after_s)
            await box.close()

    for step in range(30):
        asyncio.run(give_up(0.001 + 0.002 * step))
    until = time.monotonic() + 10.0
    while showing(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert showing(tmp_path) == []


def test_a_sandbox_whose_inside_is_killed_says_that_it_is_gone(tier):
    async def kill_it() -> None:
        box = await open_tier(tier, SandboxPolicy(**SMALL))
        task = asyncio.create_task(box.exec("sleep 100"))
        await asyncio.sleep(0.2)
        box._link.end()
        with pytest.raises(SandboxLost, match="the sandbox is gone: its process ended"):
            await task
        with pytest.raises(SandboxLost):
            await box.read("x")
        await box.close()

    asyncio.run(kill_it())
