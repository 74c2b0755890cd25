"""Small edits of source: which there are, that they compile, and that each can be undone."""

import ast

import pytest

from turnwise_envs.swe.operators import edits

CLAMP = '''def clamp(value, low, high=10):
    """Return value within bounds."""
    if value < low and not high:
        return low
    total = value[1:high] - low
    for i in range(high):
        total += min(value, i)
    return total
'''


def applied(source, line, change, place=0):
    found = [edit for edit in edits(source, 1, source.count("\n")) if (edit.line, edit.change) == (line, change)]
    return found[place].apply(source).splitlines()[line - 1].strip()


@pytest.mark.parametrize(
    ("line", "change", "becomes"),
    [
        (1, "11", "def clamp(value, low, high=11):"),
        (3, "<=", "if value <= low and not high:"),
        (3, "or", "if value < low or not high:"),
        (3, "not", "if value < low and high:"),
        (3, "plus1", "if value < low + 1 and not high:"),
        (4, "drop", "low"),
        (4, "value", "return value"),
        (5, "2", "total = value[2:high] - low"),
        (5, "minus1", "total = value[1:high - 1] - low"),
        (5, "+", "total = value[1:high] + low"),
        (5, "swap", "total = low - value[1:high]"),
        (6, "plus1", "for i in range(high + 1):"),
        (7, "-", "total -= min(value, i)"),
        (7, "max", "total += max(value, i)"),
        (7, "swap", "total += min(i, value)"),
    ],
)
def test_an_edit_does_what_its_name_says(line, change, becomes):
    assert applied(CLAMP, line, change) == becomes


def test_every_edit_compiles_and_is_undone_by_another_one_on_its_line():
    original = ast.dump(ast.parse(CLAMP))
    found = edits(CLAMP, 1, 8)
    assert len(found) > 60
    for edit in found:
        edited = edit.apply(CLAMP)
        assert ast.dump(ast.parse(edited)) != original, edit
        back = [again.apply(edited) for again in edits(edited, 1, 8) if again.line == edit.line]
        assert any(ast.dump(ast.parse(text)) == original for text in back), edit


def test_only_the_lines_that_were_asked_for_are_edited():
    assert {edit.line for edit in edits(CLAMP, 3, 4)} == {3, 4}


def test_texts_beyond_ascii_are_edited_at_the_right_place():
    source = 'def f(a, b):\n    return "é" + a[1:] + b\n'
    assert '"é" + a[0:] + b' in {
        edit.apply(source).splitlines()[1].removeprefix("    return ") for edit in edits(source, 1, 2)
    }


def test_places_of_one_change_are_counted_from_the_left():
    source = "def f(a):\n    return a[1] + a[1]\n"
    assert applied(source, 2, "2", 0) == "return a[2] + a[1]"
    assert applied(source, 2, "2", 1) == "return a[1] + a[2]"
