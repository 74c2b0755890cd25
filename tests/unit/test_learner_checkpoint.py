"""Checkpoints are complete or absent: killed writers, full disks, and never an overwritten folder."""

import json
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from turnwise.errors import UserError
from turnwise.learner.checkpoint import TEMPORARY, remove_leftovers, write_atomically, write_text_atomically

SIZES = (300_000, 10, 120_000)


def write_update(folder, update):
    for part, size in enumerate(SIZES):
        save_file({"x": np.full(size, update, dtype=np.float32)}, folder / f"part-{part}.safetensors")
    (folder / "learner.json").write_text(json.dumps({"version": update}))


def assert_complete(folder):
    update = int(folder.name.removeprefix("update-"))
    assert json.loads((folder / "learner.json").read_text()) == {"version": update}
    for part, size in enumerate(SIZES):
        array = load_file(folder / f"part-{part}.safetensors")["x"]
        assert array.shape == (size,)
        assert (array == update).all()


def in_child(work):
    """Return the process id of a child that does `work` and then exits with its result."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = work()
    finally:
        os._exit(code)


def save_for_ever(parent, first):
    update = first
    while True:
        write_atomically(parent / f"update-{update}", lambda folder: write_update(folder, update))  # noqa: B023
        write_text_atomically(parent / "latest", f"update-{update}")
        update += 1


def test_whenever_a_writer_is_killed_every_checkpoint_can_be_loaded(tmp_path):
    draw = random.Random(0)
    num_leftovers = 0
    for _ in range(20):
        first = len(list(tmp_path.glob("update-*")))
        child = in_child(lambda: save_for_ever(tmp_path, first))  # noqa: B023
        time.sleep(draw.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        num_leftovers += len(remove_leftovers(tmp_path))
        assert not list(tmp_path.glob(f"{TEMPORARY}*"))
        for folder in tmp_path.glob("update-*"):
            assert_complete(folder)
        if (tmp_path / "latest").exists():
            assert_complete(tmp_path / (tmp_path / "latest").read_text())
    assert len(list(tmp_path.glob("update-*"))) > 5
    assert num_leftovers > 0  # some were killed in the middle


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path):
    write_atomically(tmp_path / "update-1", lambda folder: write_update(folder, 1))

    def fill(folder):
        (folder / "model").symlink_to("/dev/full")
        (folder / "model").write_bytes(b"x" * 100_000)

    with pytest.raises(UserError, match=r"runs_dir=.*update-2: cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "update-2", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["update-1"]
    assert_complete(tmp_path / "update-1")


def test_a_failing_tensor_library_is_a_full_disk_too(tmp_path):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_atomically(tmp_path / "update-1", lambda folder: write_update(folder, 1))
        except UserError as error:
            return 7 if "update-1" in str(error) and "File too large" in str(error) else 8
        return 9

    _, status = os.waitpid(in_child(limited), 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert not list(tmp_path.iterdir())


def test_an_existing_checkpoint_is_never_overwritten(tmp_path):
    write_atomically(tmp_path / "update-1", lambda folder: write_update(folder, 1))
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "update-1", lambda folder: write_update(folder, 2))
    assert_complete(tmp_path / "update-1")


def test_a_writer_that_raises_leaves_nothing_and_its_error_is_its_own(tmp_path):
    def broken(folder):
        write_update(folder, 1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        write_atomically(tmp_path / "update-1", broken)
    assert not list(tmp_path.iterdir())


def test_leftovers_of_both_kinds_are_removed_and_nothing_else(tmp_path):
    (tmp_path / f"{TEMPORARY}update-3").mkdir()
    (tmp_path / f"{TEMPORARY}latest").write_text("update-3")
    (tmp_path / "latest").write_text("update-2")
    assert remove_leftovers(tmp_path) == [f"{TEMPORARY}latest", f"{TEMPORARY}update-3"]
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
    assert remove_leftovers(tmp_path / "absent") == []


def test_every_file_and_folder_is_forced_to_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda *names, **_: (calls.append("rename"), rename(*names))[1])
    write_atomically(tmp_path / "update-1", lambda folder: write_update(folder, 1))
    before, after = calls[: calls.index("rename")], calls[calls.index("rename") + 1 :]
    assert {os.path.basename(path) for path in before} == {
        f"{TEMPORARY}update-1",
        "learner.json",
        *(f"part-{part}.safetensors" for part in range(len(SIZES))),
    }
    assert after == [str(tmp_path)]
