"""What code in a sandbox may try: limits it runs into, places it cannot reach, and what is left of it afterwards.

Every tier that confines goes through all of it. Numbers as in the list of failures: C are limits, D is confinement.
"""

import asyncio
import contextlib
import io
import os
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
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_sandbox

HOME = Path.home()
CONFINING = [tier for tier in Tier if tier is not Tier.PROCESS]
SMALL = {"memory_mb": 96, "disk_mb": 16, "processes": 32, "output_kb": 4, "wall_s": 20.0}


@pytest.fixture(params=CONFINING, ids=lambda tier: tier.value)
def tier(request):
    if why := missing(request.param):
        pytest.skip(f"{request.param.value}: {why}")
    return request.param


@pytest.fixture
def inside(tier):
    """Run commands one after the other in one small sandbox; return the last one's end."""

    def run(*commands: str, **options) -> Ran:
        async def all_of_them() -> Ran:
            box = await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL))
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
    assert int(ran.stdout) < SMALL["processes"], "the bomb's processes ended with its command"
    counted = inside("for i in $(seq 100); do sleep 5 & done; ls /proc | grep -c ^[0-9]; wait", deadline_s=2.0)
    assert b"fork" in counted.stderr.lower()


def test_a_memory_bomb_is_killed_and_this_process_is_not(inside):
    ran = inside(python("a = bytearray(300 * 2**20); print(len(a))"))
    assert ran.code != 0
    assert not ran.stdout
    assert inside("echo still here").stdout == b"still here\n"


def test_memory_is_limited_in_all_where_there_is_a_control_group(inside):
    if not os.access("/sys/fs/cgroup", os.W_OK) and os.geteuid() != 0:
        pytest.skip("no control group can be made by this user")
    hold = python("import time; a = bytearray(60 * 2**20); time.sleep(3); print(1)")
    ran = inside(" & ".join([hold] * 6) + " & wait")  # together more than processes and files may have
    assert ran.stdout.count(b"1") < 6


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
def test_a_full_disk_is_full_inside_alone(inside, folder):
    free = os.statvfs("/").f_bavail
    ran = inside(f"for i in 1 2 3 4 5 6 7 8 9; do head -c 8000000 /dev/zero > {folder}/$i || exit 9; done; echo all")
    assert ran.code == 9
    assert b"No space left" in ran.stderr or b"Cannot allocate" in ran.stderr or b"Killed" in ran.stderr
    assert os.statvfs("/").f_bavail > free - 5_000


def test_a_flood_of_output_is_capped_and_counted(inside):
    ran = inside("yes | head -c 50000000; yes error | head -c 3000000 >&2")
    assert (ran.num_stdout, ran.num_stderr) == (50_000_000, 3_000_000)
    assert (len(ran.stdout), len(ran.stderr)) == (4096, 4096)
    assert ran.is_truncated


def test_what_ignores_signals_and_leaves_its_session_ends_with_the_command(inside):
    stay = 'trap "" TERM HUP INT; while :; do sleep 1; done'
    ran = inside(f"setsid sh -c '{stay}' & (setsid sh -c '{stay}' &) ; echo started", "ls /proc | grep -c ^[0-9]")
    assert int(ran.stdout) <= 4  # the first process, the shell, ls, grep


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
        box = await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL))
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
        box = await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL))
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
    ran = inside(
        f"cat {tmp_path}/token ~root/.ray/auth_token {HOME}/.ray/auth_token {HOME}/.ssh/*; cat /proc/*/environ; env;"
        " ls /var/run/docker.sock /run/docker.sock /run/user /home /etc/shadow /sys/kernel"
    )
    assert b"do-not-show" not in ran.stdout
    for place in ("docker.sock", "/home", "/etc/shadow", "/sys/kernel"):
        assert (
            f"cannot access '{place}'".encode() in ran.stderr
            or b"cannot access '/var/run/" + place.encode() in ran.stderr
        )


def test_nothing_but_the_workspace_can_be_written_to(inside):
    places = "/x /usr/x /etc/x /etc/passwd /dev/x /run/x /run/turnwise/inside.py /proc/sys/kernel/hostname"
    ran = inside(
        f"for p in {places}; do (echo x > $p) 2>/dev/null && echo $p; done; echo x > /workspace/x && cat /workspace/x"
    )
    assert ran.stdout == b"x\n"


def test_there_are_no_privileges(inside):
    status = inside("cat /proc/self/status; id -u").stdout.decode()
    held = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {held[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert held["NoNewPrivs"] == "1"
    assert held["Seccomp"] == "2"
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
        "cat /proc/1/environ",
        python('open("/proc/1/mem", "rb")'),
    ],
)
def test_what_only_an_escape_needs_is_refused(inside, call):
    assert inside(call).code not in (0, None)


def test_the_first_process_cannot_be_ended_from_inside(inside):
    every = "for s in $(seq 64); do kill -$s 1; done; echo alive"
    assert inside(every, every, "echo again").stdout == b"again\n"


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
        first, second = [await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL)) for _ in range(2)]
        await first.exec("for d in /workspace /tmp /dev/shm; do echo secret > $d/left; done; nohup sleep 50 &")
        seen = await second.exec("ls -A /workspace /tmp /dev/shm; ls /proc | grep -c ^[0-9]; id -u")
        mine = await first.exec("id -u")
        await first.close()
        await second.close()
        assert seen.stdout.split()[-1] != mine.stdout.strip() or os.geteuid() != 0
        return seen.stdout

    assert b"left" not in asyncio.run(both())


# What is left


def traces() -> dict[str, int]:
    """Count what a sandbox could leave: processes, control groups, mounts, temporary files, descriptors."""
    served = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            served += b"inside.py" in (entry / "cmdline").read_bytes()
        except OSError:
            continue
    groups = sum(1 for _ in Path("/sys/fs/cgroup").glob(f"**/turnwise-{os.getpid()}-*"))
    mounts = len(Path("/proc/self/mounts").read_text().splitlines())
    left = sum(1 for _ in Path(os.environ.get("TMPDIR", "/tmp")).glob("turnwise-sandbox-*"))
    descriptors = len(os.listdir("/proc/self/fd"))
    return {"processes": served, "groups": groups, "mounts": mounts, "files": left, "descriptors": descriptors}


def test_fifty_episodes_leave_nothing(tier):
    async def episodes(count: int) -> None:
        for number in range(count):
            box = await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL))
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
    before = traces()
    asyncio.run(episodes(50))
    assert traces() == before


OPENS_AND_WAITS = """
import asyncio, sys
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import open_sandbox

async def main():
    boxes = [await open_sandbox(SandboxPolicy(minimum=sys.argv[1])) for _ in range(3)]
    print("open", flush=True)
    await asyncio.gather(*(box.exec("sleep 300 & sleep 300", deadline_s=60) for box in boxes[:2]))

asyncio.run(main())
"""


def test_a_killed_owner_leaves_no_process(tier):
    before = traces()["processes"]
    owner = subprocess.Popen(
        [sys.executable, "-c", OPENS_AND_WAITS, tier.value], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert owner.stdout.readline() == b"open\n"
    time.sleep(0.5)
    assert traces()["processes"] > before
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until = time.monotonic() + 10.0
    while traces()["processes"] > before and time.monotonic() < until:
        time.sleep(0.05)
    assert traces()["processes"] == before


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
            box = await asyncio.wait_for(open_sandbox(SandboxPolicy(read_only=[str(tmp_path)])), after_s)
            await box.close()

    for step in range(30):
        asyncio.run(give_up(0.001 + 0.002 * step))
    until = time.monotonic() + 10.0
    while showing(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert showing(tmp_path) == []


def test_a_sandbox_whose_inside_is_killed_says_that_it_is_gone(tier):
    async def kill_it() -> None:
        box = await open_sandbox(SandboxPolicy(minimum=tier.value, **SMALL))
        task = asyncio.create_task(box.exec("sleep 100"))
        await asyncio.sleep(0.2)
        box._link.end()
        with pytest.raises(SandboxLost, match="the sandbox is gone: its process ended"):
            await task
        with pytest.raises(SandboxLost):
            await box.read("x")
        await box.close()

    asyncio.run(kill_it())
