"""A failing test run on a repository and on many edits of it, in a real sandbox."""

import io
import tarfile
from pathlib import Path

import pytest

from turnwise.errors import EnvError
from turnwise.sandbox import Tier
from turnwise.sandbox.blocking import BlockingSandbox
from turnwise.sandbox.policy import SandboxPolicy
from turnwise.sandbox.tiers import missing
from turnwise_envs.swe.bench import Run, can_run
from turnwise_envs.swe.compact import Function, render
from turnwise_envs.swe.memory import Memory
from turnwise_envs.swe.repairs import Repairs, look_in, repairs

FILES = {
    "hills/__init__.py": "from hills.climb import climb, peak\n",
    "hills/climb.py": '''"""Heights of a walk."""


def climb(steps):
    total = 0
    for step in steps:
        if step < 0:
            total += step
    return total


def peak(steps, start=0):
    best = height = start
    for step in steps:
        height = height + step
        best = max(best, height)
    return best


def unused(x):
    while True:
        x -= 1
''',
    "test_issue.py": """from hills import climb


def test_climb():
    assert climb([1, -2, 3]) == 4
""",
}


@pytest.fixture
def box():
    if why := missing(Tier.BUBBLEWRAP):
        pytest.skip(f"bubblewrap: {why}")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in FILES.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with BlockingSandbox(SandboxPolicy(minimum="bubblewrap", output_kb=4096)) as opened:
        opened.restore(packed.getvalue())
        yield opened


def found(box, memory=None, test="test_issue.py", **changed):
    files = {**FILES, **changed}
    for path, text in changed.items():
        box.write(path, text.encode())
    site = str(Path(pytest.__file__).parents[1])
    look = look_in(lambda: box, ".", ".", site, test)
    return repairs("hills-1", files, test, memory or Memory(None), look)


def test_one_edit_makes_the_test_pass_and_the_others_do_not(box):
    known = found(box)
    assert known.first.error == "AssertionError"
    passing = [known.edited(at) for at, run in enumerate(known.runs) if run.passed]
    assert ("hills/climb.py", FILES["hills/climb.py"].replace("step < 0", "step > 0")) in passing
    assert len(known.runs) == len(known.shown.choices) > len(passing) + 5


def test_what_the_test_does_not_run_is_not_shown(box):
    known = found(box)
    assert [function.path for function in known.functions] == ["hills/climb.py"]
    assert (known.functions[0].first_line, known.functions[0].last_line) == (4, 9)
    assert known.told(()).startswith("fails AssertionError ; ")


def test_an_error_within_the_shown_lines_is_told_with_its_line(box):
    known = found(box)
    answers = {known.told([attempt]) for attempt in known.attempts}
    assert any(told.startswith("fails") and " at L" in told for told in answers)


def test_a_line_is_named_by_its_label_in_the_edited_file_and_what_ran_last_is_listed_first():
    source = "def f(a, b):\n    c = a + b\n    return c\n"
    functions = tuple(
        Function(path=path, source=source, first_line=1, last_line=3, ran=frozenset({1, 2, 3})) for path in ("a", "b")
    )
    shown = render(functions)
    runs = [Run(error="TypeError", line=3)] * len(shown.choices)
    order = tuple(reversed(range(len(shown.labelled))))
    known = Repairs(shown=shown, functions=functions, order=order, first=Run(error="KeyError"), runs=runs)
    assert shown.labelled == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert [line for _, line in known.attempts] == sorted((line for _, line in known.attempts), reverse=True)
    assert known.told([("-", "L1")]).startswith("fails TypeError at L2 ; ")
    assert known.told([("-", "L3")]).startswith("fails TypeError at L4 ; ")
    assert known.told(()) == f"fails KeyError ; {known.left(())}"
    assert " - L1 " in known.left(())
    assert " - L1 " not in known.left([("-", "L1")])


def test_an_edit_that_never_ends_is_cut_off(box):
    endless = FILES["hills/climb.py"].replace(
        "    total = 0\n    for step in steps:\n        if step < 0:\n            total += step\n",
        "    total = 0\n    left = 3\n    while left > 0:\n        left = left - 1\n        total += 2\n",
    )
    known = found(box, **{"hills/climb.py": endless})
    assert "Timeout" in {run.error for run in known.runs}


def test_what_is_known_of_equal_contents_is_not_run_again(box, tmp_path):
    first = found(box, Memory(tmp_path))
    files = {**FILES}
    again = repairs("hills-1", files, "test_issue.py", Memory(tmp_path), lambda _: pytest.fail("it ran again"))
    assert again.runs == first.runs


def test_a_test_that_passes_at_once_is_the_tasks_mistake(box):
    mended = FILES["hills/climb.py"].replace("step < 0", "step > 0")
    with pytest.raises(EnvError, match="passes before anything was changed"):
        found(box, **{"hills/climb.py": mended})


def test_a_repository_that_ends_the_process_is_an_answer_too(box):
    ending = "import os\nfrom hills import climb\n\n\ndef test_climb():\n    climb([1])\n    os._exit(0)\n"
    with pytest.raises(EnvError, match=r"fails \(Exit\) before it runs a line that could be edited"):
        found(box, **{"test_issue.py": ending})


def test_a_test_in_a_package_of_its_own_is_imported_as_pytest_does(box):
    issue = (
        FILES["test_issue.py"]
        .replace("from hills", "from .cases import STEPS\nfrom hills")
        .replace("[1, -2, 3]", "STEPS")
    )
    files = {"tests/__init__.py": "", "tests/cases.py": "STEPS = [1, -2, 3]\n", "tests/test_issue.py": issue}
    assert found(box, test="tests/test_issue.py", **files).first.error == "AssertionError"


def test_what_ran_last_is_shown_first_and_only_what_ran_can_be_edited(box):
    issue = "from hills import climb, peak\n\n\ndef test_both():\n    assert climb([]) == 0\n    assert peak([]) == 1\n"
    known = found(box, **{"test_issue.py": issue})
    assert [function.first_line for function in known.functions] == [12, 4]
    lines = {edit.line for _, edit in known.shown.choices}
    assert {13, 17, 5, 9} <= lines <= {12, 13, 14, 17, 4, 5, 6, 9}, "no step was made"


SIGN, DEFAULT = ("- by", "+ by"), ("by=1", "by=-1")


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("def of(x, by=1):\n    return x * 2 - by\n", [SIGN, DEFAULT]),  # the default runs with the module
        ("class Two:\n    def of(self, x, by=1):\n        return x * 2 - by\n\n\nof = Two().of\n", [SIGN, DEFAULT]),
        ("def made():\n    def of(x, by=1):\n        return x * 2 - by\n\n    return of\n\n\nof = made()\n", [SIGN]),
    ],
    ids=["function", "class", "nested"],
)
def test_edits_take_effect_wherever_they_stand(box, source, right):
    issue = "from hills.scale import of\n\n\ndef test_of():\n    assert of(3) == 7\n"
    known = found(box, **{"hills/scale.py": source, "test_issue.py": issue})
    edited = [known.edited(at)[1].replace(" ", "") for at in range(len(known.runs))]
    passing = {text for text, run in zip(edited, known.runs, strict=True) if run.passed}
    assert {source.replace(old, new).replace(" ", "") for old, new in right} <= passing


@pytest.mark.parametrize(
    ("test", "can"),
    [
        ("def test_a(): pass", True),
        ("def test_a(x=1): pass", True),
        ("def test_a(tmp_path): pass", False),
        ("def test_a(*, tmp_path): pass", False),
        ("class TestA:\n    def test_a(self): pass", True),
        ("class TestA:\n    def test_a(self, capsys): pass", False),
        ("def check(): pass", False),
        ("def test_a(:", False),
    ],
)
def test_tests_that_ask_for_fixtures_are_not_for_the_bench(test, can):
    assert can_run(test) is can
