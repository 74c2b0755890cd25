import json
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from turnwise.errors import UserError
from turnwise.run_folder import RunFolder, new_folder, write_json_atomically


@pytest.fixture
def folder(tmp_path):
    with RunFolder.create(tmp_path, "run") as made:
        yield made


def save(folder, update, content="w"):
    with folder.new_checkpoint(update) as temporary:
        (temporary / "model.safetensors").write_text(f"{content}{update}")


def test_a_new_run_gets_its_folder_and_the_contracts_names(tmp_path):
    with RunFolder.create(tmp_path / "deep" / "runs", "run") as folder:
        assert folder.path == tmp_path / "deep" / "runs" / "run"
        names = [folder.config, folder.summary, folder.metrics, folder.curve, folder.tensorboard, folder.warmstart]
        shown = [path.name for path in names]
        assert shown == ["config.yaml", "summary.json", "metrics.jsonl", "curve.png", "tensorboard", "warmstart"]
        assert folder.checkpoint(40) == folder.path / "checkpoints" / "update-000040"


def test_an_existing_run_is_never_overwritten(tmp_path):
    with RunFolder.create(tmp_path, "run") as folder:
        folder.config.write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"name=run: .*holds a run already; set resume=true or choose another name"):
        RunFolder.create(tmp_path, "run")
    assert folder.config.read_text() == "seed: 1\n"


def test_a_folder_of_something_else_is_left_exactly_as_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"^name=run"):
        RunFolder.create(tmp_path, "run")
    assert os.listdir(tmp_path / "run") == ["thesis.tex"]


def test_a_run_that_died_before_it_wrote_anything_can_start_again(tmp_path):
    RunFolder.create(tmp_path, "run").close()
    RunFolder.create(tmp_path, "run").close()


def test_resuming_needs_a_run(tmp_path):
    with pytest.raises(UserError, match=r"^resume=True: there is no run"):
        RunFolder.create(tmp_path, "run", resume=True)
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^resume=True: there is no run"):
        RunFolder.create(tmp_path, "empty", resume=True)


def test_resuming_goes_on_in_the_same_folder(tmp_path):
    with RunFolder.create(tmp_path, "run") as folder:
        save(folder, 10)
        (folder.checkpoints / ".tmp-update-000020").mkdir()
    with RunFolder.create(tmp_path, "run", resume=True) as folder:
        assert folder.latest() == 10
        assert sorted(os.listdir(folder.checkpoints)) == ["latest", "update-000010"]


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\\b", "a\nb", "x" * 300, " run"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"^name="):
        RunFolder.create(tmp_path, name)
    assert os.listdir(tmp_path) == []


def test_an_unwritable_place_is_found_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^runs_dir=.*cannot be written to"):
        RunFolder.create(tmp_path / "file" / "runs", "run")
    with pytest.raises(UserError, match=r"^runs_dir=/proc"):
        RunFolder.create("/proc/nowhere", "run")


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="is no folder"):
        RunFolder.create(tmp_path, "run")


HOLD = """
import sys
from turnwise.run_folder import RunFolder
folder = RunFolder.create(sys.argv[1], "run")
folder.config.write_text("seed: 1\\n")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def driver(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_driver_is_told_who_the_first_one_is(tmp_path, driver, resume):
    with pytest.raises(UserError) as refusal:
        RunFolder.create(tmp_path, "run", resume=resume)
    assert refusal.value.field == "name"
    assert f"process {driver.pid} on host {socket.gethostname()} since 20" in str(refusal.value)
    assert json.loads((tmp_path / "run" / "lock").read_text())["pid"] == driver.pid


def test_a_killed_drivers_lock_vanishes_with_it(tmp_path, driver):
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=10)
    with RunFolder.create(tmp_path, "run", resume=True) as folder:
        assert json.loads((folder.path / "lock").read_text())["pid"] == os.getpid()


def test_a_refused_start_gives_the_lock_back(tmp_path):
    with RunFolder.create(tmp_path, "run") as folder:
        folder.config.write_text("x")
    with pytest.raises(UserError, match="holds a run"):
        RunFolder.create(tmp_path, "run")
    RunFolder.create(tmp_path, "run", resume=True).close()


def test_a_start_that_fails_half_way_gives_the_lock_back(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("no folder")
    for _ in range(2):
        with pytest.raises(FileExistsError):
            RunFolder.create(tmp_path, "run", resume=True)


def test_a_checkpoint_appears_whole_and_becomes_the_latest(folder):
    with folder.new_checkpoint(10) as temporary:
        (temporary / "config.json").write_text("{}")
        assert folder.saved_updates() == ()
    assert folder.latest() == 10
    assert (folder.checkpoint(10) / "config.json").read_text() == "{}"
    assert (folder.checkpoints / "latest").read_text() == "update-000010\n"


def test_an_error_while_saving_keeps_the_former_checkpoints(folder):
    save(folder, 10)
    with pytest.raises(FileNotFoundError), folder.new_checkpoint(20) as temporary:
        (temporary / "half" / "saved").write_text("x")
    assert folder.saved_updates() == (10,)
    assert sorted(os.listdir(folder.checkpoints)) == ["latest", "update-000010"]


def test_saving_an_update_again_replaces_it(folder):
    save(folder, 10, "old")
    save(folder, 10, "new")
    assert (folder.checkpoint(10) / "model.safetensors").read_text() == "new10"
    assert sorted(os.listdir(folder.checkpoints)) == ["latest", "update-000010"]


def test_pruning_keeps_the_newest_and_never_none(folder):
    for update in (5, 10, 15, 100):
        save(folder, update)
    assert folder.prune(2) == (5, 10)
    assert folder.saved_updates() == (15, 100)
    assert folder.prune(0) == (15,)
    assert folder.saved_updates() == (100,)


def test_a_saver_killed_at_any_step_leaves_a_complete_checkpoint(tmp_path):
    for step in range(1, 40):
        with RunFolder.create(tmp_path, str(step)) as folder:
            save(folder, 10)
        child = os.fork()
        if child == 0:
            _save_and_die(folder, step)
        survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with RunFolder.create(tmp_path, str(step), resume=True) as again:
            assert again.latest() == 10
            assert (again.checkpoint(10) / "model.safetensors").read_text() in ("w10", "again10")
            assert sorted(os.listdir(again.checkpoints)) == ["latest", "update-000010"]
        if survived:
            break
    assert survived
    assert step > 8


def _save_and_die(folder, step):
    count = 0

    def die(event, arguments):
        nonlocal count
        watched = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if event in watched and (event == "os.remove" or str(folder.path) in str(arguments[0])):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    try:
        save(folder, 10, "again")
    finally:
        os._exit(0)


def test_metrics_are_cut_back_to_the_checkpoint_exactly(folder):
    lines = [json.dumps({"update": update, "reward/mean": 0.1}) for update in (0, 1, 2, 2, 3)]
    folder.metrics.write_text("\n".join(lines) + '\n{"update": 2, "rew')
    assert folder.truncate_metrics(2) == 2
    assert folder.metrics.read_text() == "\n".join(lines[:4]) + "\n"
    assert folder.truncate_metrics(2) == 0


def test_metrics_that_are_not_there_need_no_cutting(folder):
    assert folder.truncate_metrics(5) == 0
    assert not folder.metrics.exists()


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "summary.json"
    write_json_atomically(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path):
    path = tmp_path / "summary.json"
    write_json_atomically(path, {"a": 1})
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"summary\.json"):
            write_json_atomically(path, {"a": "x" * 5000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_new_folder_takes_its_name_only_at_the_end(tmp_path):
    with new_folder(tmp_path / "warmstart") as temporary:
        (temporary / "x").write_text("1")
        assert not (tmp_path / "warmstart").exists()
    assert os.listdir(tmp_path) == ["warmstart"]


def test_the_run_folder_imports_nothing_heavy():
    code = "import turnwise.run_folder, turnwise.store, turnwise.monitor, turnwise.monitor.sinks, "
    code += "turnwise.monitor.curve, turnwise.monitor.summary, sys; "
    code += "print([name for name in ('torch', 'matplotlib', 'ray', 'duckdb', 'tensorboard') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
