"""The logs of Django's and SymPy's programs for tests, and the names that they give tests."""

import ast
from pathlib import Path

import pytest

import turnwise_envs.swe
from turnwise_envs.swe.logged import PROGRAMS, outcomes
from turnwise_envs.swe.runner import Outcome

DJANGO = """Testing against Django installed in '/testbed/django'
Found 4 test(s).
test_slugify (utils_tests.test_text.TestUtilsText.test_slugify) ... ok
test_words (utils_tests.test_text.TestUtilsText.test_words)
A sentence ends with a mark. ... FAIL
test_lazy (utils_tests.test_text.TestUtilsText) ... skipped 'no database'
test_old (utils_tests.test_text.TestUtilsText) ... expected failure
test_new (utils_tests.test_text.TestUtilsText) ... unexpected success
test_bad (utils_tests.test_text.TestUtilsText) ... ERROR
test_bad (utils_tests.test_text.TestUtilsText) ... ok
what a test prints ... is not its end

======================================================================
FAIL: test_words (utils_tests.test_text.TestUtilsText.test_words)
"""
SYMPY = """sympy/ntheory/tests/test_digits.py[4]
test_num_digits ok
test_digits f
test_count_digits E
test_is_palindromic F                                                     [FAIL]
"""


def test_the_log_of_django_says_what_became_of_each_test_and_the_worst_of_two_lines_counts():
    found = outcomes(DJANGO, PROGRAMS["django/django"])
    within = "(utils_tests.test_text.TestUtilsText)"
    assert found == {
        "test_slugify (utils_tests.test_text.TestUtilsText.test_slugify)": Outcome.PASSED,
        "A sentence ends with a mark.": Outcome.FAILED,
        f"test_lazy {within}": Outcome.SKIPPED,
        f"test_old {within}": Outcome.XFAILED,
        f"test_new {within}": Outcome.FAILED,
        f"test_bad {within}": Outcome.ERROR,
    }


def test_the_log_of_sympy_says_what_became_of_each_test():
    assert outcomes(SYMPY, PROGRAMS["sympy/sympy"]) == {
        "test_num_digits": Outcome.PASSED,
        "test_digits": Outcome.XFAILED,
        "test_count_digits": Outcome.ERROR,
        "test_is_palindromic": Outcome.FAILED,
    }


@pytest.mark.parametrize(
    ("repo", "name", "place"),
    [
        ("django/django", "test_a (app.tests.Case)", "tests/app/tests.py::Case::test_a"),
        ("django/django", "test_a (app.tests.Case.test_a)", "tests/app/tests.py::Case::test_a"),
        ("django/django", "A sentence of a docstring", None),
        ("django/django", "test_a (other.tests.Case)", None),
        ("sympy/sympy", "test_a", "tests/app/tests.py::test_a"),
    ],
)
def test_a_name_and_a_place_lead_to_each_other(repo, name, place):
    program = PROGRAMS[repo]
    assert program.place(name, ["tests/app/tests.py"]) == place
    assert place is None or name in program.name(place)


def test_what_runs_in_the_python_of_an_image_is_readable_for_old_ones():
    for name in ("tests.py", "calls.py"):
        source = (Path(turnwise_envs.swe.__file__).parent / "inside" / name).read_text()
        ast.parse(source, feature_version=(3, 6) if name == "tests.py" else (3, 7))
    assert "annotations" not in (Path(turnwise_envs.swe.__file__).parent / "inside" / "tests.py").read_text()
