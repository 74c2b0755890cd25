import pytest

from turnwise.monitor import StageClock
from turnwise.monitor.timing import STAGES


class Time:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


def test_stages_add_up_and_the_rest_is_waiting(time):
    clock = StageClock(time)
    with clock("rollout"):
        time.now = 6.0
    with clock("update"):
        time.now = 8.0
    time.now = 10.0
    lap = clock.lap()
    assert (lap["timing_s/rollout"], lap["timing_s/update"], lap["timing_s/total"]) == (6.0, 2.0, 10.0)
    assert lap["waiting/rollout"] == pytest.approx(0.4)
    assert lap["waiting/update"] == pytest.approx(0.8)
    assert {f"timing_s/{stage}" for stage in STAGES} < set(lap)


def test_a_stage_entered_by_many_tasks_at_once_counts_once(time):
    clock = StageClock(time)
    with clock("score"):
        time.now = 1.0
        with clock("score"):
            time.now = 2.0
        assert clock.running == ("score",)
        time.now = 3.0
    assert clock.totals()["score"] == 3.0
    assert clock.running == ()


def test_overlapping_stages_each_count_in_full(time):
    clock = StageClock(time)
    with clock("rollout"), clock("update"):
        time.now = 4.0
    lap = clock.lap()
    assert (lap["timing_s/rollout"], lap["timing_s/update"], lap["timing_s/total"]) == (4.0, 4.0, 4.0)
    assert (lap["waiting/rollout"], lap["waiting/update"]) == (0.0, 0.0)


def test_a_stage_that_spans_laps_is_shared_between_them(time):
    clock = StageClock(time)
    with clock("rollout"):
        time.now = 3.0
        assert clock.lap()["timing_s/rollout"] == 3.0
        time.now = 5.0
    assert clock.lap()["timing_s/rollout"] == 2.0
    assert clock.totals()["rollout"] == 5.0
    assert clock.elapsed_s == 5.0


def test_a_stage_that_fails_is_counted_too(time):
    clock = StageClock(time)
    time.now = 3.0

    def fail():
        time.now = 5.0
        raise KeyError

    with pytest.raises(KeyError), clock("store"):
        fail()
    assert clock.running == ()
    assert clock.totals()["store"] == 2.0


def test_a_lap_without_time_divides_by_nothing(time):
    assert StageClock(time).lap()["timing_s/total"] == 0.0
