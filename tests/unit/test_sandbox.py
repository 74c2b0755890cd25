"""Sandboxes: the interface on every tier that is here, policies that are refused, and an inside that lies."""

import asyncio
import contextlib
import dataclasses
import json
import pickle
import re
import struct
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from turnwise.config.keys import specs
from turnwise.errors import InfraError, UserError
from turnwise.sandbox import FileRefused, Reason, SandboxLost, Tier
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.cgroup import Cgroup, is_usable, make
from turnwise.sandbox.link import PipeLink
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.served import Served
from turnwise.sandbox.tiers import missing, strongest

HAS = {Tier.GVISOR: "containers", Tier.DOCKER: "containers", Tier.PODMAN: "podman"}
"""The fixtures that tiers need."""

POLICIES = {
    **{tier: SandboxPolicy(disk_mb=8) for tier in Tier},
    Tier.PROCESS: SandboxPolicy(minimum="process", unsafe_process=True, disk_mb=8),
}


@pytest.fixture(params=list(Tier), ids=lambda tier: tier.value)
def box(request, monkeypatch):
    if request.param in HAS:
        request.getfixturevalue(HAS[request.param])
    if why := missing(request.param):
        pytest.skip(f"{request.param.value}: {why}")
    only(request.param, monkeypatch)
    with BlockingSandbox(POLICIES[request.param]) as opened:
        assert opened.tier is request.param
        yield opened


def only(tier: Tier, monkeypatch):
    """Let no other tier be there."""
    monkeypatch.setattr("turnwise.sandbox.tiers.missing", lambda each, _="": None if each is tier else "hidden")


def test_a_command_has_its_folder_variables_and_input(box):
    box.write("below/in.txt", b"x")
    ran = box.exec('pwd; ls; echo "$WORD"; cat', cwd="below", env={"WORD": "a b"}, stdin=b"given\n" * 50_000)
    assert ran.code == 0
    assert ran.stdout.splitlines()[0].endswith(b"/below")
    assert ran.stdout.splitlines()[1:4] == [b"in.txt", b"a b", b"given"]
    assert ran.num_stdout > 300_000 > len(ran.stdout) - 1
    assert len(ran.stdout) == 64 * 1024


def test_a_command_of_words_is_no_shell(box):
    assert box.exec(["echo", "$HOME;", "*"]).stdout == b"$HOME; *\n"


def test_input_that_nobody_reads_holds_nothing_up(box):
    assert box.exec("echo done", stdin=bytes(3_000_000)).stdout == b"done\n"


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -9 $$", -9), ("nosuchcommand", 127)])
def test_a_command_ends_with_its_status(box, command, code):
    assert box.exec(command).code == code


def test_a_command_that_is_not_there_says_so(box):
    ran = box.exec(["nosuchcommand"])
    assert ran.code == 127
    assert b"nosuchcommand" in ran.stderr or b"No such file" in ran.stderr


def test_a_deadline_keeps_what_was_written_and_the_sandbox(box):
    ran = box.exec("echo before; sleep 60; echo after", deadline_s=0.3)
    assert ran.timed_out
    assert ran.stdout == b"before\n"
    assert box.exec("echo next").stdout == b"next\n"


def test_limits_asked_for_are_never_above_the_policys(box):
    assert len(box.exec("head -c 100000 /dev/zero", output_bytes=10**9).stdout) == 64 * 1024
    assert len(box.exec("head -c 100000 /dev/zero", output_bytes=10).stdout) == 10


def test_files_go_in_and_out_as_they_are(box):
    data = bytes(range(256)) * 1000
    box.write("deep/er/file.bin", data)
    assert box.read("deep/er/file.bin") == data
    box.write("deep/er/file.bin", b"short")
    assert box.read("deep/er/file.bin") == b"short"
    with pytest.raises(FileRefused, match=r"deep/er/file\.bin: too large") as refused:
        box.read("deep/er/file.bin", max_bytes=4)
    assert refused.value.reason is Reason.TOO_LARGE
    with pytest.raises(FileRefused, match="nothing: missing"):
        box.read("nothing")
    with pytest.raises(FileRefused, match="deep: not a file"):
        box.read("deep")


def test_a_snapshot_brings_the_workspace_back(box):
    box.exec("mkdir d; echo one > d/f; chmod 750 d/f; ln -s d/f link; mkfifo pipe")
    held = box.snapshot()
    box.exec("rm -r d link; echo other > new; ln -s / root")
    box.restore(held)
    assert box.exec("find . | sort; cat link; stat -c %a d/f").stdout == b".\n./d\n./d/f\n./link\none\n750\n"


def test_a_snapshot_keeps_modes_and_comes_back_over_folders_that_forbid_everything(box):
    box.exec("mkdir d; echo one > d/f; chmod 777 d/f; chmod 666 d/f; chmod 1777 d")
    held = box.snapshot()
    box.exec("mkdir -p shut/in; echo x > shut/in/f; chmod 000 shut/in shut")
    box.restore(held)
    assert box.exec("find . | sort").stdout == b".\n./d\n./d/f\n"
    if box.tier is not Tier.PROCESS:
        assert box.exec("stat -c %a d d/f").stdout == b"1777\n666\n"


def test_a_large_file_comes_out_and_a_large_snapshot_does_too():
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    with BlockingSandbox(SandboxPolicy()) as box:
        assert box.exec("head -c 200000000 /dev/zero > big").code == 0
        assert len(box.read("big")) == 200_000_000
        held = box.snapshot()
        assert len(held) > 200_000_000
        box.restore(held)
        assert box.exec("stat -c %s big").stdout == b"200000000\n"


def test_a_workspace_too_large_for_its_archive_is_refused(box):
    box.exec("for i in 1 2 3 4 5; do truncate -s 8000000 sparse$i; done")
    with pytest.raises(FileRefused, match="too large"):
        box.snapshot()
    assert box.exec("echo on").stdout == b"on\n"


def test_commands_that_leave_children_behind_as_they_run_are_reaped(box):
    ran = box.exec("for i in $(seq 200); do sh -c 'true &'; done; echo done")
    assert (ran.stdout, ran.stderr) == (b"done\n", b"")


def test_what_runs_ends_with_the_sandbox(box):
    async def given_up():
        task = asyncio.create_task(box._box.exec("exec sleep 4242"))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await box._box.close()

    asyncio.run_coroutine_threadsafe(given_up(), box._loop).result()
    until = time.monotonic() + 5.0
    while running(b"sleep\x004242") and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(b"sleep\x004242")


def running(command: bytes) -> bool:
    found = False
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found |= (entry / "cmdline").read_bytes().startswith(command)
    return found


def test_a_nul_is_the_callers_mistake(box):
    for wrong in (lambda: box.exec("a\0b"), lambda: box.read("a\0b"), lambda: box.exec("a", env={"A": "\0"})):
        with pytest.raises(ValueError, match="NUL"):
            wrong()
    assert box.exec("echo on").stdout == b"on\n"


def test_what_is_asked_at_once_is_done_one_after_the_other(box):
    async def both():
        return await asyncio.gather(*(box._box.exec(f"echo {i} >> f; sleep 0.05; cat f") for i in range(3)))

    found = asyncio.run_coroutine_threadsafe(both(), box._loop).result()
    assert sorted(len(ran.stdout.split()) for ran in found) == [1, 2, 3]


def test_a_closed_one_is_gone(box):
    box.close()
    box.close()
    with pytest.raises(SandboxLost, match="it was closed"):
        box.exec("true")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (SandboxPolicy(memory_mb=1), "sandbox.memory_mb=1: "),
        (SandboxPolicy(processes=10**6), "sandbox.processes=1000000: "),
        (SandboxPolicy(disk_mb=600), "sandbox.disk_mb=600: a snapshot of so much does not fit into memory_mb=512"),
        (SandboxPolicy(wall_s=0.0), "sandbox.wall_s=0.0: "),
        (SandboxPolicy(minimum="virtual machine"), "sandbox.minimum=virtual machine: "),
        (SandboxPolicy(minimum="process"), "sandbox.minimum=process: a plain process confines nothing"),
        (SandboxPolicy(read_only=["usr"]), "sandbox.read_only=usr: is not an absolute path"),
        (SandboxPolicy(read_only=["/nowhere/at/all"]), "sandbox.read_only=/nowhere/at/all: is not a folder here"),
        *[
            (SandboxPolicy(read_only=[place]), f"sandbox.read_only={place}: holds what a sandbox must not see")
            for place in (
                "/",
                "/etc",
                "/proc",
                "/proc/self",
                "/usr/../etc",
                "/var/../var",
                "/dev",
                "/run",
                "/sys/kernel",
                "/tmp",
            )
        ],
    ],
)
def test_a_policy_that_weakens_the_sandbox_is_refused_before_it_starts(policy, said):
    with pytest.raises(UserError) as error:
        BlockingSandbox(policy)
    assert str(error.value).startswith(said)


def test_a_link_to_a_hidden_folder_is_refused_too(tmp_path):
    (tmp_path / "harmless").symlink_to("/etc")
    with pytest.raises(UserError, match="must not see"):
        SandboxPolicy(read_only=[str(tmp_path / "harmless")]).check("env.kwargs.sandbox")
    (tmp_path / ".ssh").mkdir()
    with pytest.raises(UserError, match="must not see"):
        SandboxPolicy(read_only=[str(tmp_path / ".ssh")]).check("env.kwargs.sandbox")
    with pytest.raises(UserError, match="must not see"):
        SandboxPolicy(read_only=[str(Path.home())]).check("env.kwargs.sandbox")


@pytest.mark.parametrize("tier", list(POLICIES)[:-1], ids=lambda tier: tier.value)
def test_a_folder_that_is_shown_is_there_and_read_only(request, tier, monkeypatch):
    if tier in HAS:
        request.getfixturevalue(HAS[tier])
    if why := missing(tier):
        pytest.skip(f"{tier.value}: {why}")
    only(tier, monkeypatch)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        shown = Path(folder) / ".venv" / "data"
        shown.mkdir(parents=True)
        (shown / "given").write_text("seen")
        Path(folder).chmod(0o755)
        (Path(folder) / "beside").write_text("hidden")
        with BlockingSandbox(SandboxPolicy(read_only=[str(shown)])) as box:
            ran = box.exec(f"cat {shown}/given; echo x > {shown}/given; cat {folder}/beside")
        assert ran.stdout == b"seen"
        assert (shown / "given").read_text() == "seen"


def test_a_bwrap_that_does_not_start_leaves_nothing(monkeypatch):
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    only(Tier.BUBBLEWRAP, monkeypatch)
    removed = []
    monkeypatch.setattr(Cgroup, "remove", lambda group: removed.append(group))
    monkeypatch.setattr("turnwise.sandbox.bubblewrap.make", lambda *_: Cgroup(()))
    monkeypatch.setattr("shutil.which", lambda _: "/nowhere/bwrap")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(SandboxLost, match="did not start"):
        BlockingSandbox()
    monkeypatch.setattr("shutil.which", lambda _: "/bin/false")
    with pytest.raises(SandboxLost, match="did not start: it said nothing"):
        BlockingSandbox()
    assert len(removed) == 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_weaker_than_asked_is_an_error_that_says_why(monkeypatch):
    monkeypatch.setattr("turnwise.sandbox.tiers.missing", lambda *_: "no bwrap on PATH; install bubblewrap")
    with pytest.raises(UserError, match=r"no such sandbox here \(.*bubblewrap: no bwrap on PATH; install bubblewrap\)"):
        strongest(SandboxPolicy(), "env.kwargs.sandbox")


def test_a_plain_process_is_only_taken_where_nothing_better_is(monkeypatch):
    policy = SandboxPolicy(minimum="process", unsafe_process=True)
    monkeypatch.setattr("turnwise.sandbox.tiers.missing", lambda *_: None)
    assert strongest(policy) is Tier.GVISOR


def test_a_control_group_that_cannot_be_joined_is_not_used(tmp_path, monkeypatch):
    for controller in ("memory", "pids"):
        (tmp_path / controller).mkdir()
    monkeypatch.setattr("turnwise.sandbox.cgroup.ROOT", tmp_path)
    monkeypatch.setattr("turnwise.sandbox.cgroup.is_usable", is_usable.__wrapped__)
    assert is_usable.__wrapped__(), "ordinary folders take any file"
    monkeypatch.setattr(Cgroup, "add", refuse)
    assert make(SandboxPolicy()) is None


def test_without_control_groups_every_process_has_its_limits(monkeypatch):
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    only(Tier.BUBBLEWRAP, monkeypatch)
    monkeypatch.setattr("turnwise.sandbox.bubblewrap.make", lambda *_: None)
    with BlockingSandbox(SandboxPolicy(memory_mb=200, disk_mb=100, processes=20)) as box:
        ran = box.exec("ulimit -v; python3 -c 'bytearray(300 * 2**20)'")
        assert ran.stdout == b"204800\n"
        assert b"MemoryError" in ran.stderr
        assert b"fork" in box.exec("for i in $(seq 50); do sleep 5 & done; wait", deadline_s=2.0).stderr.lower()


def refuse(*_):
    raise PermissionError


def framed(header: dict, payload: bytes = b"") -> bytes:
    head = json.dumps(header).encode()
    return struct.pack(">I", len(head)) + head + payload


SOUND = {"code": 0, "num": [0, 0], "kept": [0, 0], "seconds": 0.1, "size": 0}
LIES = {
    "no header": struct.pack(">I", 10) + b"not json..",
    "a header without end": struct.pack(">I", 2**31),
    "no size": framed({"code": 0}),
    "a size below 0": framed({**SOUND, "size": -1}),
    "a size beyond the limit": framed({**SOUND, "size": 2**40}),
    "a size that is no number": framed({**SOUND, "size": "9"}),
    "a deep header": struct.pack(">I", 60_000) + b"[" * 60_000,
    "a list": framed([]),  # type: ignore[arg-type]
    "more kept than sent": framed({**SOUND, "kept": [5, 0]}),
    "kept below 0": framed({**SOUND, "kept": [-1, 1]}),
    "a code that is no number": framed({**SOUND, "code": "0"}),
    "too many seconds": framed({**SOUND, "seconds": 10**400}),
    "no seconds": framed({**SOUND, "seconds": []}),
    "nothing": b"",
}


async def served_by(*command: str) -> tuple[Served, asyncio.subprocess.Process]:
    """Return a sandbox with this program for its inside."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    return Served(Tier.PROCESS, SandboxPolicy(), PipeLink(process)), process


def saying(answer: bytes) -> tuple[str, ...]:
    """Return a program that reads a little and answers so."""
    program = f"import sys; sys.stdin.buffer.read(8); sys.stdout.buffer.write({answer!r}); sys.stdout.flush()"
    return sys.executable, "-c", program


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_an_inside_that_lies_is_ended_and_nothing_is_believed(lie):
    async def ask():
        box, process = await served_by(*saying(lie))
        for _ in range(2):
            with pytest.raises(SandboxLost, match="the sandbox is gone: "):
                await box.exec("true")
        await box.close()
        assert process.returncode is not None

    asyncio.run(ask())
    assert issubclass(SandboxLost, InfraError)


def test_a_refusal_comes_through_a_process_border_as_it_is():
    sent = FileRefused("a/b", Reason.TOO_LARGE)
    came = pickle.loads(pickle.dumps(sent))  # noqa: S301 - our own
    assert (came.path, came.reason, str(came)) == ("a/b", Reason.TOO_LARGE, "a/b: too large")


def test_a_refusal_in_other_words_is_a_denial():
    async def ask():
        box, _ = await served_by(*saying(framed({"refused": ["rm -rf"], "size": 0})))
        with pytest.raises(FileRefused, match="x: denied"):
            await box.read("x")
        await box.close()

    asyncio.run(ask())


def test_who_does_not_answer_is_ended(monkeypatch):
    monkeypatch.setattr("turnwise.sandbox.served.GRACE_S", 0.2)

    async def ask():
        box, process = await served_by("sleep", "60")
        with pytest.raises(SandboxLost, match=r"no answer within 0\.3 s"):
            await box.exec("true", deadline_s=0.1)
        assert process.returncode == -9

    asyncio.run(ask())


PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs():
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    block = re.search(r"(?:^    .*\n|^\n){3,}", PAGE.split("## Tiers", 1)[0], re.MULTILINE)
    assert "BlockingSandbox" in block[0]
    exec(compile(textwrap.dedent(block[0]), "sandbox.md", "exec"), {})


def test_the_page_has_every_key_of_the_policy():
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", PAGE, re.MULTILINE)
    ours = [
        (field.name, json.dumps(getattr(SandboxPolicy(), field.name)), specs(SandboxPolicy)[field.name].doc)
        for field in dataclasses.fields(SandboxPolicy)
    ]
    assert rows == ours
