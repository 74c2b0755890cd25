import random
import subprocess

import pytest

from turnwise_envs.swe import diffs

BEFORE = {"a.py": b"one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n", "b.py": b"no newline"}
GIT = """diff --git a/a.py b/a.py
index 1111111..2222222 100644
--- a/a.py
+++ b/a.py
@@ -1,3 +1,4 @@ def around
 one
+one and a half
 two
 three
@@ -9,2 +10,1 @@
-nine
 ten
diff --git a/b.py b/b.py
--- a/b.py
+++ b/b.py
@@ -1 +1,2 @@
-no newline
\\ No newline at end of file
+a newline
+and none
\\ No newline at end of file
diff --git a/new/c.py b/new/c.py
new file mode 100644
--- /dev/null
+++ b/new/c.py
@@ -0,0 +1 @@
+c
diff --git a/empty.py b/empty.py
new file mode 100644
index 0000000..e69de29
"""
AFTER = {
    "a.py": b"one\none and a half\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nten\n",
    "b.py": b"a newline\nand none",
    "new/c.py": b"c\n",
    "empty.py": b"",
}


def test_a_diff_of_gits_applies_and_turns_around():
    assert diffs.apply(BEFORE, GIT) == AFTER
    assert diffs.apply(AFTER, diffs.reverse(GIT)) == BEFORE


def test_files_that_go_or_move_are_understood():
    text = (
        "diff --git a/a.py b/x/y.py\nsimilarity index 100%\nrename from a.py\nrename to x/y.py\n"
        "diff --git a/b.py b/b.py\ndeleted file mode 100644\n--- a/b.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-no newline\n"
        "\\ No newline at end of file\n"
    )
    after = diffs.apply(BEFORE, text)
    assert after == {"x/y.py": BEFORE["a.py"]}
    assert diffs.apply(after, diffs.reverse(text)) == BEFORE


def test_a_hunk_some_lines_off_applies_where_its_lines_are():
    moved = {**BEFORE, "a.py": b"zero\n" * 5 + BEFORE["a.py"]}
    assert diffs.apply(moved, GIT)["a.py"] == b"zero\n" * 5 + AFTER["a.py"]


@pytest.mark.parametrize("seed", range(40))
def test_what_is_made_applies_turns_around_and_agrees_with_git(seed, tmp_path):
    rng = random.Random(seed)
    old = [b"line %d" % rng.randrange(5) for _ in range(rng.randrange(25))]
    new = list(old)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(new) + 1)
        new[place : place + rng.randrange(2)] = [b"new %d" % rng.randrange(9)] * rng.randrange(2)
    before, after = ({"f.txt": b"\n".join(lines) + b"\n" * rng.randrange(2)} for lines in (old, new))
    text = diffs.make(before, after)
    assert diffs.apply(before, text) == after
    assert diffs.apply(after, diffs.reverse(text)) == before
    if text:
        (tmp_path / "f.txt").write_bytes(before["f.txt"])
        done = subprocess.run(
            ["git", "apply", "-"], input=text.encode(), cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode, (tmp_path / "f.txt").read_bytes()) == (0, after["f.txt"]), done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing at all", "no diff"),
        ("--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-a\n+b\n", "leads out"),
        ("--- a/x\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", "leads out"),
        ("--- a/.git/config\n+++ b/.git/config\n@@ -1 +1 @@\n-a\n+b\n", "leads out"),
        ("--- a/x\n+++ b/x\n@@ -1,5 +1 @@\n-a\n+b\n", "not as many"),
        ("--- a/x\n+++ b/x\n@@ what @@\n-a\n+b\n", "no head"),
        ("diff --git a/x b/x\nGIT binary patch\nliteral 3\n", "binary"),
        ("diff --git a/x b/x\nindex 1..2\nBinary files a/x and b/x differ\n", "binary"),
        ("@@ -1 +1 @@\n-a\n+b\n", "without the name"),
    ],
)
def test_what_is_no_diff_is_refused(text, problem):
    with pytest.raises(diffs.DiffError, match=problem):
        diffs.parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GIT.replace("-nine", "-neun"), "a.py: does not apply at line 9"),
        ("--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n", "none.py: the file is not there"),
        ("--- /dev/null\n+++ b/a.py\n@@ -0,0 +1 @@\n+b\n", "a.py: the file is there already"),
    ],
)
def test_what_does_not_apply_names_its_file(text, problem):
    with pytest.raises(diffs.DiffError, match=problem):
        diffs.apply(BEFORE, text)


def test_bytes_that_are_no_utf_8_survive():
    before = {"l.txt": b"caf\xe9\nplain\n"}
    after = {"l.txt": b"caf\xe9\nplainer\n"}
    assert diffs.apply(before, diffs.make(before, after)) == after
