"""Functions in few words, and the edits that their words name."""

from itertools import pairwise

from turnwise_envs.swe.compact import Function, render, vocabulary

SOURCE = '''import math


def area(shape, scale=1):
    """Return the area."""
    # round shapes first
    if shape.kind is not None and shape.kind == "circle":
        return math.pi * shape.radius ** 2

    total = 0
    for left, right in zip(shape.edges, shape.edges[1:]):
        total += left - right
    return total * scale
'''


def shown(ran=(), source=SOURCE, first_line=4, last_line=13, **options):
    function = Function(path="a.py", source=source, first_line=first_line, last_line=last_line, ran=frozenset(ran))
    return render([function], **options)


def test_names_become_numbers_and_texts_a_word():
    lines = shown(ran={7, 10}).text.replace(" skip ", " run ").split(" run ")
    assert lines[0] == "i0 def g0 ( v0 , v1 = 1 ) :"
    assert lines[1] == "1 i1 if v0 . g1 is_not None and v0 . g1 == str :"
    assert "2 i2 return g2 . g3 * v0 . g4 ** 2" in lines
    assert "5 i2 v2 += v3 - v4" in lines


def test_what_ran_is_marked():
    words = shown(ran={7, 10}).text.split()
    marked = {int(number): state for state, number in pairwise(words) if state in ("run", "skip")}
    assert [number for number, state in marked.items() if state == "run"] == [2, 4]


def test_comments_docstrings_and_blank_lines_are_left_out():
    assert [line for _, line in shown().places] == [4, 7, 8, 10, 11, 12, 13]


def test_a_choice_names_an_edit_of_the_file():
    found = shown()
    (_, edit), *others = found.choices[6, "+"]
    assert others == []
    assert "left + right" in edit.apply(SOURCE)
    (_, edit), *_ = found.choices[7, "v0"]
    assert "return shape * scale" in edit.apply(SOURCE)
    assert (2, "is") in found.choices


def test_every_word_is_in_the_vocabulary():
    known = set(vocabulary())
    found = shown()
    assert set(found.text.split()) <= known
    assert {change for _, change in found.choices} <= known


def test_functions_are_shown_whole_until_there_is_no_room():
    one = Function(path="a.py", source=SOURCE, first_line=4, last_line=13)
    found = render([one, one, one], max_lines=15)
    assert len(found.places) == 14
    assert {which for which, _ in found.places} == {0, 1}
    assert {number for number, _ in found.choices} <= set(range(1, 15))


def test_a_method_is_shown_from_its_own_indentation():
    source = "class A:\n    def f(self, x):\n        if x:\n            return 1\n        return self.y\n"
    found = shown(source=source, first_line=2, last_line=5)
    assert found.text.startswith("i0 def f0 (".replace("f0", "g0"))
    assert "i2 return 1" in found.text


def test_lines_that_cannot_be_read_as_python_alone_are_shown_as_far_as_they_go():
    source = "def f(x):\n    return (x +\n            1)\n"
    found = shown(source=source, first_line=1, last_line=3)
    assert [line for _, line in found.places] == [1, 2, 3]
