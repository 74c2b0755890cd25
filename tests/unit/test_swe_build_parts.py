"""The parts of `turnwise swe build` that need no sandbox: sources, bugs, reproductions, issues; and its bad input."""

import dataclasses
import io
import json
import random
import subprocess
import sys
import tarfile
import textwrap
from collections import Counter

import pytest

from turnwise.cli import run_command
from turnwise.errors import UserError
from turnwise_envs.swe import package, reproduction, screen, statement, trial, trial_inside
from turnwise_envs.swe.baseline import Baseline
from turnwise_envs.swe.mutants import COMBINATION, EXTRA, Bugs, is_inverted, targets
from turnwise_envs.swe.trial import Reached, TestRun, Trials, Tried, packed, unanimous

SOURCE = textwrap.dedent('''
    """A module."""


    class Jar:
        """A jar."""

        @property
        def weight(self):
            return self.full - self.empty

        def put(self, thing, times=None, *, label=""):
            """Put things in.

            return is a word here, and 3 < 4.
            """
            if times is None:
                times = 1
            elif times < 0:
                raise ValueError("negative")
            else:
                times = times + 0
            for _ in range(times):
                # a remark
                self.things.append(thing)
            return len(self.things)


    def lone(first, second):
        if first > second:
            return first - second
        return second
''').lstrip("\n")


def functions():
    return {target.name: target for target in targets("jar.py", SOURCE)}


def bugs(name, seed=0):
    return Bugs(functions()[name], SOURCE, random.Random(seed))


def archive(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as packed_files:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                packed_files.addfile(member)
            else:
                member.size = len(data)
                packed_files.addfile(member, io.BytesIO(data))
    return path


def write(folder, *names, text=b""):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    return folder


# --- packages


def test_modules_and_tests_of_a_folder_are_told_apart(tmp_path):
    names = ("setup.py", "src/jars/__init__.py", "src/jars/lid.py", "src/jars/tests/test_lid.py", "tests/conftest.py")
    write(tmp_path, *names, "tests/test_jar.py", "docs/conf.py", ".git/config", "src/jars/__pycache__/x.pyc")
    found = package.read_package("./jars", "jars", "local", tmp_path)
    assert found.root == "src"
    assert found.sources == ("src/jars/__init__.py", "src/jars/lid.py")
    assert found.tests == ("src/jars/tests/test_lid.py", "tests/test_jar.py")
    assert found.conftest == ("tests/conftest.py",)
    assert sorted(found.files) == sorted((*names, "tests/test_jar.py"))
    assert found.module("src/jars/lid.py") == "jars.lid"
    assert found.module("src/jars/__init__.py") == "jars"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("jars/__init__.py", "jars/lid.py"), "its source has no tests"),
        (("jars/__init__.py", "jars/fast.pyx", "tests/test_jar.py"), "is not pure Python (jars/fast.pyx)"),
        (("README.py.txt", "tests/test_jar.py"), "no module or package in its source"),
    ],
)
def test_a_source_that_will_not_do_is_refused(names, problem, tmp_path):
    with pytest.raises(UserError) as refused:
        package.read_package("./jars", "jars", "local", write(tmp_path, *names))
    assert problem in refused.value.problem


@pytest.mark.parametrize("member", [("../evil.py", b"x"), ("jars/link", "../../etc/passwd"), ("jars/l", "/etc")])
def test_an_archive_that_leads_out_is_refused_and_leaves_nothing(member, tmp_path):
    made = archive(tmp_path / "jars.tar.gz", member)
    (tmp_path / "at").mkdir()
    with pytest.raises(UserError, match="cannot be unpacked"):
        package.unpack("jars==1", made, tmp_path / "at")
    assert not (tmp_path / "evil.py").exists()


def test_an_archive_beyond_its_size_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    made = archive(tmp_path / "jars.tar.gz", ("jars/a.py", b"x" * 1000))
    monkeypatch.setattr(package, "MAX_ARCHIVE_BYTES", 999)
    with pytest.raises(UserError, match="too large"):
        package.unpack("jars==1", made, tmp_path)
    assert not (tmp_path / "jars").exists()


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "jars.tar.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        package.unpack("jars==1", tmp_path / "jars.tar.gz", tmp_path)


def test_a_package_in_the_cache_is_not_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "jars-1.0").mkdir()
    archive(tmp_path / "jars-1.0" / "jars-1.0.tar.gz", ("jars-1.0/jars.py", b""), ("jars-1.0/test_jars.py", b""))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it went to the network"))
    found = package.open_package("Jars==1.0", tmp_path)
    assert (found.name, found.version, found.root, found.sources) == ("Jars", "1.0", ".", ("jars.py",))


def test_offline_is_one_line_that_says_so(tmp_path, monkeypatch, capsys):
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    words = [
        "swe",
        "build",
        "--package",
        "toolz==1.0.0",
        "--output",
        str(tmp_path / "o"),
        "--cache",
        str(tmp_path / "c"),
    ]
    assert run_command(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --package=toolz==1.0.0: pip cannot fetch its source (")
    assert said.count("\n") == 1
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--package", "toolz"], "--package=toolz: is not pinned to a version"),
        (["--package", "toolz>=1"], "--package=toolz>=1: is not pinned to a version"),
        (["--package", "-e==1"], "is not pinned to a version"),
        (["--package", "./nowhere"], "--package=./nowhere: no such folder"),
        (["--package", "toolz==1.0.0", "--bugs", "0"], "Invalid value for '--bugs'"),
        (["--package", "toolz==1.0.0", "--seed", "-1"], "Invalid value for '--seed'"),
        ([], "--package"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, problem, tmp_path, capsys):
    assert run_command(["swe", "build", *words, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_two_packages_of_one_name_and_an_output_that_is_a_file_are_refused(tmp_path, capsys):
    for place in ("a", "b"):
        write(tmp_path / place / "jars", "jars/__init__.py", "tests/test_jar.py")
    folders = [str(tmp_path / place / "jars") for place in ("a", "b")]
    words = ["swe", "build", "--package", folders[0], "--package", folders[1]]
    assert run_command([*words, "--output", str(tmp_path / "out")]) == 2
    assert "--package=jars: is there twice" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run_command([*words[:4], "--output", str(tmp_path / "file")]) == 2
    assert f"--output={tmp_path / 'file'}: cannot be written to" in capsys.readouterr().err


def test_show_and_check_name_what_is_wrong_with_a_file(tmp_path, capsys):
    assert run_command(["swe", "show", str(tmp_path / "none.jsonl")]) == 2
    task = {"instance_id": "a__a-1", "repo": "a", "problem_statement": "It fails.", "FAIL_TO_PASS": ["test_a.py::test"]}
    task["patch"] = "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-1\n+2\n"
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task))
    assert run_command(["swe", "show", str(tmp_path / "tasks.jsonl"), "--task", "a__a-2"]) == 2
    assert "--task=a__a-2: no such task; did you mean a__a-1?" in capsys.readouterr().err
    assert run_command(["swe", "check", str(tmp_path / "tasks.jsonl")]) == 2
    assert "has neither an archive" in capsys.readouterr().err
    assert run_command(["swe", "show", str(tmp_path / "tasks.jsonl"), "--task", "a__a-1"]) == 0
    assert "It fails." in capsys.readouterr().out


# --- bugs


def test_functions_are_found_with_their_places_and_sizes():
    found = functions()
    assert set(found) == {"Jar.weight", "Jar.put", "lone"}
    weight, put = found["Jar.weight"], found["Jar.put"]
    assert weight.place == ("jar.py", weight.first_line - 1)
    assert put.num_lines == 10
    assert SOURCE[put.start : put.end].startswith("    def put(")
    assert SOURCE[put.start : put.end].endswith("return len(self.things)\n")
    assert found["lone"].is_public
    assert not found["lone"].is_method


@pytest.mark.parametrize("name", ["Jar.weight", "Jar.put", "lone"])
def test_every_bug_compiles_and_changes_its_function_alone(name):
    target = functions()[name]
    found = [*bugs(name).singles(), *bugs(name).extras()]
    assert found
    for mutant in found:
        spoiled = mutant.apply(SOURCE)
        compile(spoiled, "jar.py", "exec")
        assert spoiled != SOURCE
        assert spoiled[: target.start] == SOURCE[: target.start]
        assert spoiled[target.end + len(spoiled) - len(SOURCE) :] == SOURCE[target.end :]
        assert '"""Put things in.' in spoiled


def test_single_edits_are_undone_by_single_edits_and_others_are_not_called_single():
    for name in functions():
        singles = list(bugs(name).singles())
        assert all(mutant.is_single and is_inverted(mutant, SOURCE) for mutant in singles)
        assert not any(mutant.is_single for mutant in bugs(name).extras())


def test_branches_statements_and_defaults_are_lost():
    texts = {mutant.operators[0]: [] for mutant in bugs("Jar.put").extras()}
    for mutant in bugs("Jar.put").extras():
        if len(mutant.operators) == 1:
            texts[mutant.operators[0]].append(mutant.apply(SOURCE))
    assert set(texts) >= set(EXTRA)
    assert any("elif times < 0" not in text and "else:" in text for text in texts["branch"])
    assert any("times + 0" not in text and "elif" in text for text in texts["branch"])
    assert any("pass\n" in text and ".append(thing)" not in text for text in texts["statement"])
    assert any("times=False" in text for text in texts["default"])
    assert any('label=" "' in text for text in texts["default"])
    assert COMBINATION not in texts
    guards = [mutant.apply(SOURCE) for mutant in bugs("lone").extras() if mutant.operators == ("branch",)]
    assert len(guards) == 1
    assert "return first - second" not in guards[0]


def test_a_seed_decides_the_order_of_bugs():
    assert list(bugs("Jar.put", 1).singles()) == list(bugs("Jar.put", 1).singles())
    assert list(bugs("Jar.put", 1).singles()) != list(bugs("Jar.put", 2).singles())


def test_kinds_of_bugs_take_turns():
    first = [mutant.operators[0] for mutant in bugs("lone").singles()][:4]
    assert len(set(first)) == 4


def test_a_file_with_ends_of_lines_that_python_reads_otherwise_is_left_alone():
    assert targets("jar.py", SOURCE.replace('"""A jar."""', '"""A\fjar."""')) == []


# --- screening


def bug(name, number, *failing, is_single=True):
    stream = bugs(name).singles() if is_single else bugs(name).extras()
    mutant = [*stream][number]
    run = TestRun(outcome="failed", seconds=0.0, kind="AssertionError")
    return screen.Bug(mutant=mutant, source=SOURCE, failing=dict.fromkeys(failing, run), passing=("other",))


def test_two_bugs_of_a_function_that_fail_the_same_tests_are_one_task():
    keeper = screen.Keeper(10)
    keeper.add(bug("lone", 0, "a"))
    keeper.add(bug("lone", 1, "a"))
    keeper.add(bug("lone", 2, "a", "b"))
    keeper.add(bug("Jar.put", 0, "a"))
    assert len(keeper.all()) == 3


def test_a_function_gets_few_tasks_until_there_are_no_others():
    keeper = screen.Keeper(5)
    for number in range(9):
        keeper.add(bug("Jar.put", number, f"test_{number}"))
    assert len(keeper.kept) == screen.PER_FUNCTION
    assert len(keeper.all()) == 5


def test_most_tasks_are_single_edits():
    keeper = screen.Keeper(10)
    for number in range(5):
        for name in functions():
            if len([*bugs(name).extras()]) > number:
                keeper.add(bug(name, number, f"{number}", is_single=False))
    assert len(keeper.all()) == 10 - round(10 * screen.SINGLE_SHARE)


def test_functions_that_no_two_tests_reach_and_long_ones_get_no_bug():
    made = package.Package(
        name="jar", version="1", files={"jar.py": SOURCE.encode()}, root=".", sources=("jar.py",), tests=()
    )
    runs = {name: TestRun(outcome="passed", seconds=1.4 if name == "slow" else 0.0) for name in ("a", "b", "slow")}
    how = Reached(depth=1, outer=("jar.py", 1))
    found = functions()

    def names(**reached):
        places = {found[name.replace("_", ".")].place: dict.fromkeys(tests, how) for name, tests in reached.items()}
        return [target.name for target in screen.eligible(made, Baseline(tests=runs, reached=places, num_ran=3))]

    assert names(lone=("a", "b"), Jar_put=("a",)) == ["lone"]
    assert names(lone=()) == []
    assert names(Jar_put=("a", "b")) == ["Jar.put"]
    assert names(Jar_put=("a", "b", "slow")) == []


@pytest.mark.parametrize(
    ("runs", "is_kept"),
    [
        ({"a": "AssertionError", "b": None}, True),
        ({"a": None, "b": None}, False),  # nothing fails
        ({"a": "NameError", "b": None}, False),  # what a linter finds
        ({"a": "NameError", "b": "KeyError"}, True),
        ({"a": "", "b": None}, False),  # failed for no reason that a test gives
        ({"a": "TimeoutError", "b": None}, False),
    ],
)
def test_a_bug_is_kept_if_tests_fail_for_reasons_of_theirs(runs, is_kept):
    made = package.Package(name="jar", version="1", files={"jar.py": SOURCE.encode()}, root=".", sources=(), tests=())
    told = {
        name: TestRun(outcome="passed", seconds=0.0)
        if kind is None
        else TestRun(
            outcome="failed", seconds=0.0, kind=kind, message=screen.OUT_OF_TIME if kind == "TimeoutError" else "x"
        )
        for name, kind in runs.items()
    }
    found = screen._bug(made, next(bugs("lone").singles()), told)
    assert (found is not None) == is_kept


# --- what comes out of a sandbox


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{}", b'{"hung": true}', b'{"tests": 3}', b'{"tests": {"a": {}}, "imported": [], "calls": []}'],
)
def test_an_answer_that_is_none_is_a_variant_that_did_not_end(line):
    assert not trial._tried(line).is_sound


def test_tests_that_end_differently_in_two_runs_are_not_unanimous():
    passed, failed = (TestRun(outcome=outcome, seconds=0.0) for outcome in ("passed", "failed"))
    runs = [Tried(is_sound=True, tests={"a": one, "b": other}) for one, other in ((passed, failed), (passed, failed))]
    assert unanimous(runs).keys() == {"a", "b"}
    assert unanimous([runs[0], Tried(is_sound=True, tests={"a": passed, "b": passed})]) is None
    assert unanimous([runs[0], Tried(is_sound=False)]) is None


def test_the_archive_of_a_repository_is_the_same_each_time():
    files = {"b.py": b"2", "a/a.py": b"1"}
    assert packed(files) == packed(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(packed(files))) as made:
        assert {(member.name, member.mode, member.mtime, member.uid) for member in made} == {
            ("a/a.py", 0o644, 0, 0),
            ("b.py", 0o644, 0, 0),
        }


def test_arguments_of_a_call_are_spelled_or_left_out():
    def spelled(function, *args, **kwargs):
        frames = []

        def note(frame, event, _):
            if event == "call" and frame.f_code is function.__code__:
                frames.append(trial_inside.arguments(frame.f_code, dict(frame.f_locals)))

        sys.setprofile(note)
        try:
            function(*args, **kwargs)
        finally:
            sys.setprofile(None)
        return frames[0]

    def plain(a, b=2, *, c=3): ...
    def many(a, *rest, **named): ...
    def odd(a, key=sys): ...

    assert spelled(plain, (1,), {"x": None}, c={2}) == [
        [{"$tuple": [1]}, {"$dict": [["x", None]]}],
        {"c": {"$set": [2]}},
    ]
    assert spelled(many, b"\x01", 1, 2.5, z="s") == [[{"$bytes": "01"}, 1, 2.5], {"z": "s"}]
    assert spelled(odd, [1]) == [[[1]], {}]
    with pytest.raises(ValueError, match="no plain value"):
        spelled(many, 1, z=object())
    with pytest.raises(ValueError, match="no plain value"):
        spelled(many, 1, object())


# --- reproductions and issues

TESTS = textwrap.dedent('''
    import math
    import os, sys

    from jar import lone, Jar

    LIMIT = 3

    def other():
        return 1

    def helper(value):
        return math.floor(value) + LIMIT

    class TestJar(Base):
        size = 2

        def setUp(self):
            self.jar = Jar()

        def test_other(self):
            assert lone(1, 2)

        def test_put(self):
            """Say what."""
            self.assertEqual(1, 1)
            found = self.jar.put("x")
            self.assertEqual(found, 1)
            self.assertEqual(helper(found), 5)
            assert sys.path

    def test_lone():
        assert lone(1, 2) == 2
        for number in range(3):
            assert lone(number, 1) == 1
        assert lone(9, 9) == 9
''').lstrip("\n")


def failed_at(text, **more):
    line = 1 + TESTS[: TESTS.index(text)].count("\n")
    frames = (("tests/test_jar.py", line), ("jar.py", 3))
    return TestRun(outcome="failed", seconds=0.0, frames=frames, **{"kind": "AssertionError", **more})


def test_a_reproduction_holds_the_failing_assertion_and_what_it_needs():
    run = failed_at("self.assertEqual(helper(found), 5)")
    reduced, whole = reproduction.cut(TESTS, "tests/test_jar.py::TestJar::test_put", run)
    assert "import math" in reduced
    assert "def helper" in reduced
    assert "LIMIT = 3" in reduced
    assert "def setUp" in reduced
    assert "size = 2" in reduced
    assert "self.assertEqual(helper(found), 5)" in reduced
    assert "found = self.jar.put" in reduced
    for gone in ("import os", "def other", "test_other", "test_lone", "self.assertEqual(found, 1)", "sys.path"):
        assert gone not in reduced
    assert "self.assertEqual(found, 1)" in whole
    assert "sys.path" in whole
    compile(reduced, "test_issue.py", "exec")


def test_a_loop_around_the_failing_assertion_is_kept():
    run = failed_at("    assert lone(number, 1)")
    reduced = next(reproduction.cut(TESTS, "tests/test_jar.py::test_lone", run))
    assert "for number in range(3)" in reduced
    assert "lone(9, 9)" not in reduced
    assert "lone(1, 2)" not in reduced
    assert reproduction.failing_source(TESTS, "tests/test_jar.py::test_lone", run) == "assert lone(number, 1) == 1"


def test_a_test_that_is_not_in_its_file_has_no_reproduction():
    assert list(reproduction.cut(TESTS, "tests/test_jar.py::TestJar::test_of_a_base", failed_at("size"))) == []


@pytest.mark.parametrize(
    ("source", "conftest", "path"),
    [
        ("import jar\n", (), "test_issue.py"),
        ("import jar\n", ("tests/conftest.py",), "tests/test_issue.py"),
        ("from .things import jar\n", (), "tests/test_issue.py"),
        ("import jar\n", ("conftest.py",), "test_issue.py"),
    ],
)
def test_a_reproduction_that_leans_on_its_folder_goes_there(source, conftest, path):
    assert reproduction.place("tests/test_jar.py::test_lone", conftest, source) == path


def report(run, num_failing=1):
    return statement.Report(
        package="jars",
        version="1.0",
        name="jars.lid.close",
        statement="    assert close(1) == {2}",
        run=run,
        path="test_issue.py",
        command="python3 -m pytest test_issue.py",
        num_failing=num_failing,
    )


def test_an_issue_says_what_happened_in_words_that_the_seed_chooses():
    wrong = TestRun(outcome="failed", seconds=0.0, kind="AssertionError", explained=("assert 3 == {2}",))
    texts = Counter(statement.write(report(wrong), random.Random(seed)) for seed in range(60))
    assert len(texts) > 20
    for text in texts:
        assert "`jars.lid.close`" in text.partition("\n")[0]
        assert "    assert close(1) == {2}\n" in text
        assert "    assert 3 == {2}\n" in text
        assert "python3 -m pytest test_issue.py" in text
        assert "more tests" not in text


def test_an_issue_of_an_exception_names_it_and_hides_addresses():
    run = TestRun(outcome="failed", seconds=0.0, kind="KeyError", message="<Jar at 0x7f3a12bc9d10>", explained=("x",))
    text = statement.write(report(run, num_failing=2), random.Random(0))
    assert "KeyError" in text.partition("\n")[0]
    assert "KeyError: <Jar at 0x...>" in text
    assert "Another test of ours fails" in text


# --- commands of plug-ins


def test_a_plug_in_brings_a_command(tmp_path):
    (tmp_path / "odd_plugin.py").write_text(
        "import typer\nfrom turnwise.errors import UserError\nfrom turnwise.registry import register_path\n"
        "app = typer.Typer(help='Odd things.')\n"
        "@app.command('a')\ndef a(word: str):\n    if word == 'bad':\n"
        "        raise UserError('word', word, 'is bad', 'say good')\n"
        "    print('a', word)\n"
        "@app.command('b')\ndef b():\n    pass\n"
        "def register_all():\n    register_path('command', 'odd', 'odd_plugin:app')\n"
        "    register_path('command', 'train', 'odd_plugin:app')\n"
        "    register_path('command', 'hollow', 'odd_plugin:register_all')\n"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import odd_plugin; odd_plugin.register_all(); "
        "from turnwise.cli import main; main()"
    )

    def ran(*words):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), *words], capture_output=True, text=True, timeout=60, check=False
        )

    assert ran("odd", "a", "good").stdout == "a good\n"
    bad = ran("odd", "a", "bad")
    assert (bad.returncode, bad.stderr) == (2, "error: word=bad: is bad; say good\n")
    assert "Odd things." in ran("odd", "--help").stdout
    hollow = ran("hollow")
    assert (hollow.returncode, hollow.stderr.startswith("error: command=hollow: a function is registered")) == (2, True)
    assert "Train as configured" in ran("train", "--help").stdout


def test_the_help_lists_commands_of_plug_ins(capsys):
    assert run_command(["--help"]) == 0
    assert "\n  swe " in capsys.readouterr().out
    assert run_command(["swe", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in ("build", "show", "check"))
    assert "completion" not in said


def test_a_record_of_the_builder_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        functions()["lone"].name = "x"


def test_sandboxes_are_not_opened_before_they_are_entered():
    made = package.Package(name="jar", version="1", files={}, root=".", sources=(), tests=())
    assert Trials(made)._boxes == []
