"""Tasks whose repository lies in an image, with its own Python, pytest, settings, and a history that holds the fix."""

import asyncio
import io
import json
import sysconfig
import tarfile
from dataclasses import replace
from importlib.metadata import files
from pathlib import Path

import pytest
import swe_repository as purse

from turnwise.errors import UserError
from turnwise.sandbox import Tier, source
from turnwise.sandbox.daemon import Daemon
from turnwise.sandbox.images import build_base, interpreter
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing, open_sandbox, open_tier
from turnwise_envs.swe import diffs
from turnwise_envs.swe.env import SweEnv
from turnwise_envs.swe.grade import grade
from turnwise_envs.swe.prove import prove
from turnwise_envs.swe.repository import TaskError, case_of
from turnwise_envs.swe.task import load_tasks

IMAGE = "turnwise-test/purse:1"
HOME = "/opt/miniconda3/envs/testbed"
SECRET = "what the fix was"
LOST = 'self.assertEqual(sum(debt.cents for debt in owed(1000, ["ann", "bo", "cy"])), 1000)'
FORGING = """

import unittest

unittest.TextTestResult.addFailure = lambda result, test, _: result.addSuccess(test)
"""
PROGRAM = """
import sys
import unittest

sys.path.insert(0, "tests")
unittest.main(module=None, argv=["runtests", "-v", *sys.argv[6:]])
"""
BEFORE = {
    **purse.CLEAN,
    "purse/share.py": purse.CLEAN["purse/share.py"].replace(purse.GOOD, purse.BAD),
    "tests/test_share.py": "from purse import shares\n\n\ndef test_even():\n    assert shares(900, 3) == [300] * 3\n",
    "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef friends():\n    return 3\n",
    "tests/runtests.py": PROGRAM,
    "setup.cfg": "[tool:pytest]\nmarkers = money\naddopts = --strict-markers\n",
}
TESTS = """
import pytest

from purse import shares


@pytest.mark.money
def test_shares_with_a_rest(friends, coins):
    assert shares(1000, friends) == coins


@pytest.mark.parametrize("what", ["a rest", "an even sum"], ids=["with a rest", "of an even sum"])
def test_all_is_shared(what):
    assert sum(shares(1000 if what == "a rest" else 700, 7)) in (700, 1000)
"""
PLUGIN = "import pytest\n\n\n@pytest.fixture\ndef coins():\n    return [334, 333, 333]\n"
OWED = "tests/test_owed.py"
DJANGO = {
    "repo": "django/django",
    "test_patch": diffs.make(
        {OWED: BEFORE[OWED].encode()},
        {OWED: f"{BEFORE[OWED]}\n    def test_nothing_is_lost(self):\n        {LOST}\n".encode()},
    ),
    "FAIL_TO_PASS": ["test_nothing_is_lost (test_owed.TestOwed.test_nothing_is_lost)"],
    "PASS_TO_PASS": ["test_everybody_pays (test_owed.TestOwed.test_everybody_pays)"],
}
SHARED = "tests/test_share.py::test_all_is_shared"
LINE = {
    "instance_id": "turnwise__purse-1",
    "repo": "turnwise/purse",
    "base_commit": "abc",
    "patch": diffs.make(
        purse.as_bytes(BEFORE), purse.as_bytes({**BEFORE, "purse/share.py": purse.CLEAN["purse/share.py"]})
    ),
    "test_patch": diffs.make(purse.as_bytes(BEFORE), purse.as_bytes({**BEFORE, "tests/test_share.py": TESTS})),
    "problem_statement": purse.STATEMENT,
    "FAIL_TO_PASS": json.dumps(["tests/test_share.py::test_shares_with_a_rest", f"{SHARED}[with"]),
    "PASS_TO_PASS": json.dumps([*purse.PASS_TO_PASS[2:], f"{SHARED}[of"]),
    "image": IMAGE,
}


def layer() -> bytes:
    """Return what is put on the base image: the repository, and an environment with pytest and a plug-in of its own."""
    site = f"{HOME}/lib/python{sysconfig.get_python_version()}/site-packages"
    held = {f"testbed/{path}": text.encode() for path, text in BEFORE.items()}
    held["testbed/coins.bin"] = bytes(2 * 2**20)
    held["testbed/.git/packed-refs"] = SECRET.encode()
    held[f"{HOME}/pyvenv.cfg"] = f"home = {interpreter() / 'bin'}\n".encode()
    held[f"{site}/purse.pth"] = b"/testbed\n"
    held[f"{site}/coin_plugin.py"] = PLUGIN.encode()
    held[f"{site}/coins-1.dist-info/entry_points.txt"] = b"[pytest11]\ncoins = coin_plugin\n"
    held[f"{site}/coins-1.dist-info/METADATA"] = b"Name: coins\nVersion: 1\n"
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for file in files(name) or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                held[f"{site}/{file}"] = Path(str(file.locate())).read_bytes()
    return archive(held, {f"{HOME}/bin/python": str(interpreter() / "bin" / "python3")})


def archive(held: dict[str, bytes], links: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for path, data in held.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
        for path, target in links.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.type, member.linkname = tarfile.SYMTYPE, target
            packed.addfile(member)
    return file.getvalue()


@pytest.fixture(scope="module")
def image(docker_host):
    """The image, and beside it one that has no repository: the base image under another name."""
    if docker_host is None:
        pytest.skip("no Docker to make an image with")
    api = Daemon(docker_host).api
    base, _ = build_base(Daemon(docker_host), tag="turnwise-test/bare:1")
    context = archive({"Dockerfile": f"FROM {base}\nADD layer.tar /\n".encode(), "layer.tar": layer()}, {})
    said = b"".join(api.build(fileobj=io.BytesIO(context), custom_context=True, tag=IMAGE, rm=True))
    assert b"Successfully" in said, said
    yield IMAGE
    for name in (IMAGE, "turnwise-test/bare:1"):
        api.remove_image(name, force=True)


@pytest.fixture(params=[Tier.GVISOR, Tier.DOCKER], ids=lambda tier: tier.value)
def tier(request, image, docker_host, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    if why := missing(request.param, IMAGE):
        pytest.skip(f"{request.param.value}: {why}")
    source.use(lambda policy, field: open_tier(request.param, policy, field))
    yield request.param
    source.use(open_sandbox)


def written(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({**LINE, **changes}) + "\n")
    return str(path)


def played(tier: Tier, tmp_path: Path, *commands: str) -> tuple[SweEnv, list[str]]:
    """Return an environment after commands, and what they said."""
    env = SweEnv(tasks=written(tmp_path), sandbox={"wall_s": 120.0})
    env.reset(seed=0)
    said = [env.bash(command) for command in commands]
    assert env.sandbox_tier in ("gvisor", "docker")
    return env, said


def test_the_agent_works_in_the_place_of_the_images_repository_and_sees_nothing_of_its_history(tier, tmp_path):
    env, said = played(
        tier,
        tmp_path,
        "pwd; git log --oneline | wc -l; grep -rlI 'what the fix was' / --include=packed-refs 2>/dev/null; ls -A",
        "python -c 'import purse, sys; print(purse.__file__, sys.prefix)'",
        "python -m pytest -q tests 2>&1 | tail -1",
        "sed -i 's/rest - 1/rest/' purse/share.py && cd tests && pwd",
    )
    assert said[0].split() == ["/testbed", "1", ".git", "README.md", "coins.bin", "purse", "setup.cfg", "tests"]
    assert said[1].split() == ["/testbed/purse/__init__.py", HOME]
    assert "3 passed" in said[2]
    assert "tests" in said[3]
    assert "/testbed/tests" in said[3]
    assert env.hand_in() == "submitted: 5 of 5 tests pass"
    assert env.verdict.outcome == 1.0
    assert env.verdict.num_canaries
    assert env.verdict.tampering == ()
    env.close()


def test_nothing_done_fails_what_the_bug_fails_and_a_conftest_is_tampering(tier, tmp_path):
    env, _ = played(tier, tmp_path)
    env.hand_in()
    assert env.verdict.outcome == 0.0
    assert [name for name, passed in env.verdict.tests.items() if not passed] == json.loads(LINE["FAIL_TO_PASS"])
    env, _ = played(tier, tmp_path, "printf 'import pytest\\n' > tests/conftest.py")
    with pytest.raises(Exception, match=r"tests/conftest\.py was written"):
        env.hand_in()
    env.close()


def test_tests_of_djangos_program_are_read_from_its_log(tier, tmp_path):
    path = written(tmp_path, **DJANGO)
    (proof,) = asyncio.run(prove(load_tasks(path), print))
    assert str(proof) == "turnwise__purse-1: gold 1, empty 0"
    assert proof.holds
    case = case_of(load_tasks(path)[0])
    forged = BEFORE["purse/share.py"] + FORGING
    verdict = asyncio.run(grade(case, {"purse/share.py": forged.encode()}, SandboxPolicy()))
    assert set(verdict.tests.values()) == {True}
    assert verdict.outcome is None
    assert "tests that must fail did not" in verdict.tampering[-1]


def test_an_image_without_a_repository_is_a_tasks_failure_and_none_at_all_the_users(tier, tmp_path):
    (task,) = load_tasks(written(tmp_path, image="turnwise-test/bare:1"))
    with pytest.raises(TaskError, match=r"turnwise__purse-1: image turnwise-test/bare:1: no folder /testbed"):
        case_of(task)
    with pytest.raises(UserError, match=r"has neither an archive .* nor an image"):
        SweEnv(tasks=written(tmp_path, image=""))
    (task,) = load_tasks(written(tmp_path))
    with pytest.raises(TaskError, match=r"larger than sandbox\.disk_mb=1|No space left|disk_mb is 1"):
        case_of(replace(task, instance_id="other"), SandboxPolicy(disk_mb=1))
