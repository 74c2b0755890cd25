"""What containers are allowed, whatever the policy says; whose they are; and an inside that nobody speaks to."""

import errno
import json
import os
import re
import subprocess
import sys
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import UserError
from turnwise.sandbox import Tier
from turnwise.sandbox.cgroup import Kernel, is_usable, make
from turnwise.sandbox.container import configuration
from turnwise.sandbox.images import base_image
from turnwise.sandbox.labels import is_gone, is_of_another_boot, new_labels, owner
from turnwise.sandbox.podman import Podman, _words
from turnwise.sandbox.policy import MIB, SandboxPolicy, interpreter
from turnwise.sandbox.recipe import write_base
from turnwise.sandbox.seccomp import DENIED, profile
from turnwise.sandbox.served import INSIDE
from turnwise.sandbox.served import settings as told
from turnwise.sandbox.tiers import missing, strongest

POLICIES = st.builds(
    SandboxPolicy,
    image=st.sampled_from(["", "registry.example:5000/a/b:c"]),
    cpus=st.floats(0.05, 1000.0),
    memory_mb=st.integers(16, 10**6),
    processes=st.integers(4, 4096),
    disk_mb=st.integers(1, 10**6),
    files=st.integers(16, 10**6),
    read_only=st.sampled_from([[], ["/usr"]]),
)


@given(POLICIES, st.sampled_from([Tier.GVISOR, Tier.DOCKER]), st.sampled_from([(), ("/data", "/var/lib/x")]))
@settings(max_examples=100, deadline=None)
def test_no_policy_weakens_a_container(policy, tier, volumes):
    body = configuration(
        policy, tier, image="x", command=["python"], uid=1234, labels={}, shown={"/usr": "/usr"}, volumes=volumes
    )
    host = body["HostConfig"]
    assert body["User"] == "1234:1234"
    assert body["NetworkDisabled"]
    assert (host["NetworkMode"], host["IpcMode"], host["Privileged"]) == ("none", "private", False)
    assert (host["CapDrop"], host["CapAdd"], host["Devices"]) == (["ALL"], [], [])
    assert host["ReadonlyRootfs"]
    assert host["AutoRemove"]
    assert host["LogConfig"]["Type"] == "none"
    assert host["SecurityOpt"][0] == "no-new-privileges:true"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp="))["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not {"PidMode", "UTSMode", "UsernsMode", "Binds", "VolumesFrom", "PortBindings", "CgroupParent"} & {*host}
    assert host["Memory"] == host["MemorySwap"] >= policy.memory_mb * MIB
    assert 0 < host["NanoCpus"] <= (os.cpu_count() or 1) * 10**9
    assert policy.processes < host["PidsLimit"] < 10**5
    assert {each["Name"]: each["Hard"] for each in host["Ulimits"]}["core"] == 0
    assert all(each["ReadOnly"] and "docker.sock" not in each["Source"] for each in host["Mounts"])
    assert all("size=" in options and "nosuid" in options for options in host["Tmpfs"].values())
    assert {"/workspace", "/tmp", "/sys", *volumes} == {*host["Tmpfs"]}


@given(POLICIES, st.booleans())
@settings(max_examples=50, deadline=None)
def test_no_policy_weakens_a_container_of_podmans(policy, has_limits):
    podman = Podman(("podman",), {}, has_limits)
    words = _words(podman, policy, "x", {"a": "b"}, base_image("sha256:0"), in_all=has_limits)
    told = json.loads(words[-1])
    line = " ".join(words[: words.index("sha256:0")])
    for wanted in (
        "--network none",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--read-only ",
        "--ipc private",
    ):
        assert wanted in line
    assert not re.search(r"--(privileged|device|cap-add|volume|pid|userns|publish)[ =]", line)
    assert int(words[words.index("--user") + 1].split(":")[0]) >= 1000
    assert told["denied"]
    if has_limits:
        assert f"--memory-swap {words[words.index('--memory') + 1]}" in line
        assert f"--pids-limit {policy.processes + 2}" in line
    else:
        assert told["limits"]["RLIMIT_AS"] == policy.memory_mb * MIB
        assert told["limits"]["RLIMIT_NPROC"] == policy.processes
    assert all(",ro=true" in word for word in words if word.startswith("type=bind"))


def test_the_profile_of_docker_denies_what_bubblewraps_filter_denies_and_what_is_not_known():
    rules = json.loads(profile())
    assert (rules["defaultAction"], rules["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.EPERM)
    always = {name for rule in rules["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    only = {name for rule in rules["syscalls"] if rule.get("args") for name in rule["names"]}
    assert always & set(DENIED) == set()
    assert only == {"clone", "prlimit64", "socket"}
    assert {"read", "execve", "openat", "mmap", "futex"} <= always


def test_an_image_is_for_tiers_with_images():
    policy = SandboxPolicy(image="python:3.11", minimum="process", unsafe_process=True)
    assert missing(Tier.BUBBLEWRAP, policy.image) == missing(Tier.PROCESS, policy.image) == "it has no images"
    with pytest.raises(UserError, match=r"sandbox\.image=a b: is not an image's name"):
        SandboxPolicy(image="a b").check("sandbox")
    for name in ("python", "swebench/sweb.eval.x86_64.a_1776_b-1:latest", "localhost:5000/a@sha256:" + "0" * 64):
        SandboxPolicy(image=name).check("sandbox")


@pytest.mark.parametrize("workspace", ["testbed", "/", "/usr/src", "/tmp", "/a/../etc", "/a/", "/a b", "/a:b"])
def test_a_workspace_lies_where_no_program_of_the_image_does(workspace):
    with pytest.raises(UserError, match=r"sandbox\.workspace=.*: no workspace can lie there"):
        SandboxPolicy(image="python", workspace=workspace).check("sandbox")
    with pytest.raises(UserError, match=r"sandbox\.workspace=/testbed: has no effect without an image"):
        SandboxPolicy(workspace="/testbed").check("sandbox")
    policy = SandboxPolicy(image="python", workspace="/srv/code.git")
    policy.check("sandbox")
    body = configuration(policy, Tier.DOCKER, image="x", command=["python"], uid=1, labels={}, shown={})
    assert "size=" in body["HostConfig"]["Tmpfs"]["/srv/code.git"]
    assert "/workspace" not in body["HostConfig"]["Tmpfs"]


def test_an_image_that_no_tier_can_have_is_an_error_that_names_its_key(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    with pytest.raises(UserError, match=r"env\.kwargs\.sandbox\.image=python: no sandbox here has images"):
        strongest(SandboxPolicy(image="python", minimum="process", unsafe_process=True), "env.kwargs.sandbox")


def test_an_owner_is_a_process_of_this_boot_and_not_another_with_its_number():
    boot, namespace, process, began = owner().split(" ")
    assert not is_gone(owner())
    assert is_gone(f"{boot} {namespace} {process} {int(began) + 1}")
    assert not is_gone(f"{boot} pid:[1] {process} 1"), "another namespace of processes: nobody can tell"
    assert not is_gone(f"other {namespace} {process} 1")
    assert is_of_another_boot(f"other {namespace} {process} 1")
    assert not is_gone("nonsense")
    assert not is_of_another_boot("nonsense")
    first, second = new_labels("docker"), new_labels("docker")
    assert first["turnwise.owner"] == second["turnwise.owner"] == owner()
    assert first["turnwise.lease"] != second["turnwise.lease"]


def test_an_inside_that_is_told_nothing_ends(tmp_path):
    words = [sys.executable, "-I", "-S", str(INSIDE), told(str(tmp_path), {}, {}, is_alone=False, silence_s=1.0)]
    began = time.monotonic()
    inside = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(4):
        time.sleep(0.5)
        inside.stdin.write(bytes(4))  # somebody is there
        inside.stdin.flush()
        assert inside.poll() is None
    assert inside.wait(20.0) == 0
    assert time.monotonic() - began > 2.5
    inside.stdin.close()
    inside.stdout.close()


@pytest.mark.skipif(not is_usable(), reason="no control group can be made by this user")
def test_a_group_has_a_share_of_the_cpus_and_room_for_a_kernel_of_its_own():
    policy = SandboxPolicy(cpus=0.5)
    plain, with_kernel = make(policy), make(policy, kernel=Kernel(memory_mb=100, processes=100))
    try:
        files = {file.name: file for folder in plain.folders for file in folder.iterdir()}
        share = files["cpu.cfs_quota_us"] if "cpu.cfs_quota_us" in files else files["cpu.max"]
        assert share.read_text().split()[0] == "50000"
        more = {file.name: file for folder in with_kernel.folders for file in folder.iterdir()}
        assert int(more["pids.max"].read_text()) == int(files["pids.max"].read_text()) + 100
    finally:
        plain.remove()
        with_kernel.remove()


def test_the_base_image_holds_no_secret_of_the_machine_and_comes_out_the_same(tmp_path):
    with (tmp_path / "base.tar").open("wb") as file:
        write_base(file)
    with tarfile.open(tmp_path / "base.tar") as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {"workspace", "tmp", "etc/passwd"} <= names
    assert {name for name in names if name.startswith(("etc/", "home", "var", "run/", "tmp/"))} == {
        "etc/passwd",
        "etc/group",
        "etc/nsswitch.conf",
    }
    inner = {name.removeprefix(str(interpreter()).lstrip("/")) for name in names}
    inner = {name for name in inner if not str(interpreter()).startswith(f"/{name}")}
    assert not [name for name in inner if "site-packages/" in name or "/." in name or ".ssh" in name.lower()]
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
    assert not [member for member in members if member.mode & 0o6000], "nothing in it changes who runs it"
    assert sum(member.size for member in members) < 400 * MIB
