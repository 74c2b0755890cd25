import json
import sys

import numpy as np
import pytest

from turnwise.errors import UserError
from turnwise.monitor import MetricsLog
from turnwise.monitor.metrics import read_metrics
from turnwise.monitor.sinks import TensorBoardSink, WandbSink


class Recorder:
    def __init__(self):
        self.seen, self.is_closed = [], False

    def write(self, update, metrics):
        self.seen.append((update, dict(metrics)))

    def close(self):
        self.is_closed = True


class Broken(Recorder):
    def write(self, update, metrics):
        super().write(update, metrics)
        raise ConnectionError("no route")


def test_a_line_is_in_the_file_as_soon_as_it_is_logged(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.log(3, {"reward/mean": np.float32(0.5), "num": np.int64(2), "note": "x"})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").startswith("20")
    assert entry == {"update": 3, "reward/mean": 0.5, "num": 2, "note": "x"}
    log.close()


def test_what_is_no_number_is_null_in_the_file_and_absent_elsewhere(tmp_path):
    sink = Recorder()
    with MetricsLog(tmp_path / "m.jsonl", [sink]) as log:
        log.log(1, {"a": float("nan"), "b": np.float32("inf"), "c": None, "d": "text", "e": 1})
    (entry,) = read_metrics(tmp_path / "m.jsonl")
    assert (entry["a"], entry["b"], entry["c"], entry["e"]) == (None, None, None, 1)
    assert sink.seen == [(1, {"e": 1.0})]
    assert sink.is_closed


def test_a_sink_that_raises_is_dropped_and_the_run_goes_on(tmp_path):
    broken, sound = Broken(), Recorder()
    with MetricsLog(tmp_path / "m.jsonl", [broken, sound]) as log:
        with pytest.warns(RuntimeWarning, match="Broken is off for the rest of the run: ConnectionError: no route"):
            log.log(1, {"a": 1.0})
        log.log(2, {"a": 2.0})
    assert len(broken.seen) == 1
    assert len(sound.seen) == len(read_metrics(tmp_path / "m.jsonl")) == 2


def test_resuming_appends_and_a_line_being_written_is_not_read(tmp_path):
    for update in (1, 2):
        with MetricsLog(tmp_path / "m.jsonl") as log:
            log.log(update, {})
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write('{"update": 3, ')
    assert [entry["update"] for entry in read_metrics(tmp_path / "m.jsonl")] == [1, 2]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_tensorboard_reads_what_was_written_and_a_resumed_run_voids_the_rest(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, updates, value in ((0, (1, 2, 3), 0.25), (2, (2, 3), 0.75)):
        sink = TensorBoardSink(tmp_path / "tensorboard", first_update=first)
        for update in updates:
            sink.write(update, {"reward/mean": value})
        sink.close()
    files = sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    merged = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in merged.Scalars("reward/mean")] == [(1, 0.25), (2, 0.75), (3, 0.75)]


def test_tensorboard_needs_no_torch(tmp_path):
    import subprocess

    code = "import sys; from pathlib import Path; from turnwise.monitor.sinks import TensorBoardSink as S; "
    code += f"s = S(Path({str(tmp_path)!r})); s.write(1, {{'a': 1.0}}); s.close(); "
    code += "print([name for name in ('torch', 'tensorflow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_asking_for_wandb_without_the_package_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError) as refusal:
        WandbSink(tmp_path, "turnwise", "run", {})
    assert str(refusal.value) == (
        'log.wandb=True: the package wandb is not installed; pip install "turnwise[wandb]" or set log.wandb=false'
    )
    assert list(tmp_path.iterdir()) == []


def test_wandb_works_offline_and_resumes_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for update in (1, 2):
        sink = WandbSink(tmp_path, "turnwise", "run", {"seed": 1})
        sink.write(update, {"reward/mean": 0.5})
        sink.close()
    run_id = (tmp_path / "wandb_id").read_text().strip()
    names = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert names
    assert all(run_id in name for name in names)
