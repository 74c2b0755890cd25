"""Functions in few words, and the edits that their words name."""

from turnwise_envs.swe.compact import MAX_EDITS, Function, render, vocabulary

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
    lines = shown().text.split(" skip")
    assert lines[0] == "i0 def g0 ( v0 , v1 = 1 ) :"
    assert lines[1] == " i1 if v0 . g1 is_not None and v0 . g1 == str :"
    assert " i2 return g2 . g3 * v0 . g4 ** 2" in lines
    assert " i2 v2 += v3 - v4" in lines


def test_only_lines_that_ran_and_can_be_edited_have_a_label_behind_them():
    found = shown(ran={4, 7, 10})
    assert [line for _, line in found.places] == [4, 7, 8, 10, 11, 12, 13]
    assert found.labelled == [(0, 4), (0, 7), (0, 10)]
    assert {edit.line for _, edit in found.choices} == {4, 7, 10}
    assert " == str : L2 i2 return" in found.text
    assert " i1 v2 = 0 L3 i1 for " in found.text
    assert found.text.split().count("skip") == 4
    assert " run" not in found.text
    assert (
        shown(ran={8}, source=SOURCE.replace("return math.pi * shape.radius ** 2", "pass")).text.count(" pass run") == 1
    )


def test_every_edit_has_a_word_for_what_it_changes_something_into():
    found = shown(ran={7})
    words = {edit.kind: word for word, (_, edit) in zip(found.words, found.choices, strict=True)}
    assert (words["comparison"], words["operator"], words["variable"]) == ("!=", "or", "v2")


def test_there_are_no_more_edits_than_numbers():
    source = "def f(a, b, c, d):\n" + "    a = (a + b + c + d)[a:b]\n" * 12
    found = shown(source=source, first_line=1, last_line=13, ran=range(1, 14))
    assert len(found.choices) == MAX_EDITS


def test_comments_docstrings_and_blank_lines_are_left_out():
    assert [line for _, line in shown().places] == [4, 7, 8, 10, 11, 12, 13]


def test_a_number_is_an_edit_of_the_file():
    found = shown(ran=range(4, 14))
    texts = [edit.apply(SOURCE) for _, edit in found.choices]
    assert sum("left + right" in text for text in texts) == 1
    assert sum("return shape * scale" in text for text in texts) == 1
    assert len(set(texts)) == len(texts)


def test_every_word_is_in_the_vocabulary():
    assert set(shown(ran=range(4, 14)).text.split()) <= set(vocabulary())


def test_functions_are_shown_whole_until_there_is_no_room():
    one = Function(path="a.py", source=SOURCE, first_line=4, last_line=13)
    found = render([one, one, one], max_lines=15)
    assert len(found.places) == 14
    assert {which for which, _ in found.places} == {0, 1}


def test_a_method_is_shown_from_its_own_indentation():
    source = "class A:\n    def f(self, x):\n        if x:\n            return 1\n        return self.y\n"
    found = shown(source=source, first_line=2, last_line=5)
    assert found.text.startswith("i0 def f0 (".replace("f0", "g0"))
    assert "i2 return 1" in found.text


def test_lines_that_cannot_be_read_as_python_alone_are_shown_as_far_as_they_go():
    source = "def f(x):\n    return (x +\n            1)\n"
    found = shown(source=source, first_line=1, last_line=3)
    assert [line for _, line in found.places] == [1, 2, 3]
