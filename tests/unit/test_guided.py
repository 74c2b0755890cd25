"""Guided attempts from the plan to the group: who is followed, what the policy reads, what failures cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from guided_pieces import ALL, RIDDLE, Riddle, guided, specs, worker
from rollout_pieces import Says, run_all
from test_dispatch import ScriptedPlayer, bad, good, play
from test_stream import CountingTasks, OutcomeScorer

from turnwise.config import load_config
from turnwise.config.schema import EvalConfig, GuidedConfig, RolloutConfig
from turnwise.curriculum import Curriculum
from turnwise.dispatch import Dispatcher
from turnwise.env.base import TurnEnv
from turnwise.errors import UserError
from turnwise.evaluate import eval_specs, is_success
from turnwise.records import Group, Score, Trajectory
from turnwise.rollout.episode import EpisodeSpec
from turnwise.rollout.guided import has_failed, share
from turnwise.rollout.preflight import check_guide_exists
from turnwise.store.pending import load_pending, save_pending
from turnwise.stream import GroupStream
from turnwise.tasks import TaskSet, make_env


@pytest.fixture(autouse=True)
def _open_gate() -> Iterator[None]:
    Riddle.gate.clear()
    yield
    Riddle.gate.set()


def played(client: Says, wanted: Sequence[EpisodeSpec], **options: Any) -> dict[str, Trajectory]:
    return asyncio.run(run_all(worker(client, **options), wanted))


# the plan


def test_who_may_be_followed_depends_on_seed_and_group_only() -> None:
    config = GuidedConfig(share=0.5, per_group=3)
    chosen = [[s.index for s in specs(8, number, config) if s.again] for number in range(400)]
    assert chosen == [[s.index for s in specs(8, number, config) if s.again] for number in range(400)]
    assert max(map(len, chosen)) == 3
    assert len({tuple(each) for each in chosen}) > 50
    wide = [
        len([s for s in specs(8, number, GuidedConfig(share=0.5, per_group=8)) if s.again]) for number in range(400)
    ]
    assert sum(wide) / 3200 == pytest.approx(0.5, abs=0.03)
    assert all(s.again is None for s in specs(8, config=GuidedConfig(share=0.0)))


def test_a_guided_attempt_is_an_episode_of_its_own_at_the_same_task() -> None:
    planned = specs(4)
    again = [spec.again for spec in planned if spec.again]
    assert [spec.trajectory_id for spec in again] == [f"00000003/{index}" for index in range(4, 8)]
    assert [spec.index for spec in again] == [4, 5, 6, 7]
    assert [spec.first_attempt for spec in again] == [spec.trajectory_id for spec in planned]
    assert all(spec.task == planned[0].task for spec in again)
    assert len({spec.seed for spec in [*planned, *again]}) == 8
    assert all(spec.again is None for spec in again), "nobody is guided twice"


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (GuidedConfig(share=0.8), [0.8, 0.8, 0.8]),
        (GuidedConfig(share=0.8, over=10), [0.8, 0.4, 0.0]),
        (GuidedConfig(share=0.2, over=10, final=0.6), [0.2, 0.4, 0.6]),
    ],
)
def test_guidance_is_annealed_over_updates(config: GuidedConfig, shares: list[float]) -> None:
    assert [share(config, update) for update in (0, 5, 10)] == pytest.approx(shares)
    assert share(config, 1000) == pytest.approx(shares[-1])


# the worker


def test_a_failed_episode_is_followed_by_one_that_reads_the_guidance() -> None:
    found = played(Says("wrong"), specs(1))
    first, second = found["00000003/0"], found["00000003/1"]
    assert (first.is_guided, first.is_followed, first.provenance["offered"]) == (False, True, "not wrong")
    assert (second.is_guided, second.is_followed) == (True, False)
    assert second.provenance["guidance"] == "not wrong"
    assert second.provenance["first_attempt"] == "00000003/0"
    assert first.turns[0].observation == "riddle 5"
    assert second.turns[0].observation == "riddle 5\n\nnot wrong"
    assert second.provenance["episode_seed"] != first.provenance["episode_seed"]


def test_the_guidance_is_read_and_never_written() -> None:
    client = Says("wrong")
    second = played(client, specs(1))["00000003/1"]
    words = client.tokenizer.decode(second.turns[0].observation_ids.tolist())
    assert "not wrong" in words
    assert client.requests[-1].context_ids.tolist() == second.turns[0].observation_ids.tolist()
    assert client.tokenizer.decode(second.turns[0].action_ids.tolist(), skip_special_tokens=True).strip() == "wrong"


@pytest.mark.parametrize(("hint", "words"), [("give", ("right",)), ("none", ("wrong",)), ("blank", ("wrong",))])
def test_successes_and_failures_without_guidance_are_not_followed(hint: str, words: tuple[str, ...]) -> None:
    found = played(Says(*words), specs(3, hint=hint))
    assert len(found) == 3
    assert not any(trajectory.is_followed for trajectory in found.values())


def test_failed_is_what_an_evaluation_does_not_count() -> None:
    config = EvalConfig()
    found = played(Says("half"), specs(1))
    assert not is_success(found["00000003/0"], config)
    assert len(found) == 2
    assert len(played(Says("half"), specs(1), success=("outcome", 0.25))) == 1
    failed = bad(specs(1)[0])
    assert not has_failed(failed, ("outcome", 0.5)), "what is not the policy's is no failure of its"


@pytest.mark.parametrize(("hint", "cause"), [("raise", "no hint today"), ("hang", "time-out"), ("number", "7")])
def test_an_environment_that_fails_at_its_guidance_costs_the_second_attempt_alone(hint: str, cause: str) -> None:
    async def run() -> tuple[dict[str, Trajectory], dict[str, Any]]:
        runner = worker(Says("wrong"), step_s=0.3, slots=1)
        found = await run_all(runner, specs(2, hint=hint))
        return found, runner.status()

    found, status = asyncio.run(run())
    assert [found[f"00000003/{index}"].failure for index in (0, 1)] == [None, None]
    failures = [found[f"00000003/{index}"].failure for index in (2, 3)]
    assert {(f.label, f.is_retryable) for f in failures if f} == {("env:guide", False)}
    assert all(cause in f.cause for f in failures if f)
    assert status["environments_made"] == 3, "it is made anew after each"


def test_a_guided_attempt_is_in_the_slot_of_its_first_and_no_session_closes_before_it_opens() -> None:
    client = Says("wrong")
    played(client, specs(3), slots=2)
    names = [(kind, name) for kind, sessions in client.calls for name in sessions]
    assert client.most_running == 3
    for index in range(3):
        close = names.index(("close", f"00000003/{index}#1"))
        assert names[close - 1] == ("open", f"00000003/{index + 3}#1")


# the dispatcher


class Guiding(ScriptedPlayer):
    """Lets a guided attempt follow every complete first one; dies after `lives` trajectories."""

    async def run_many(self, specs: Sequence[EpisodeSpec]) -> AsyncIterator[Trajectory]:
        for one in specs:
            async for trajectory in super().run_many([one]):
                if one.again is None or trajectory.failure is not None:
                    yield trajectory
                    continue
                yield replace(trajectory, provenance={**trajectory.provenance, "offered": f"hint {one.index}"})
                async for second in super().run_many([replace(one.again, guidance=f"hint {one.index}")]):
                    yield second


def test_the_dispatcher_waits_for_the_attempts_that_follow() -> None:
    player = Guiding("a", good)
    found, failures = play([player], specs(3))
    assert sorted(t.index for t in found) == list(range(6))
    assert not failures
    assert player.load == 0


def test_a_guided_attempt_whose_worker_dies_is_played_elsewhere_with_its_guidance() -> None:
    dying, other = Guiding("a", good, lives=3), Guiding("b", good)
    found, _ = play([dying, other], specs(2))
    assert sorted(t.index for t in found) == [0, 1, 2, 3]
    (moved,) = [spec for spec in other.seen if spec.guidance is not None]
    assert (moved.index, moved.guidance, moved.attempt) == (3, "hint 1", 2)
    assert (dying.load, other.load) == (0, 0)


def test_a_failed_guided_attempt_is_tried_again_and_then_left_out() -> None:
    def fails(spec: EpisodeSpec) -> Trajectory:
        return good(spec) if spec.guidance is None else bad(spec)

    player = Guiding("a", fails)
    found, failures = play([player], specs(1), attempts=2)
    assert [t.failure is None for t in found] == [True, False]
    assert len(failures) == 2
    assert [spec.guidance for spec in player.seen] == [None, "hint 0", "hint 0"]


# the stream


def stream(player: ScriptedPlayer, scorer: Any = None, tasks: Any = None, **config: Any) -> GroupStream:
    settings = RolloutConfig(**{"group_size": 2, "groups_per_update": 2, "guided": ALL, **config})
    return GroupStream(
        tasks or CountingTasks(),
        Dispatcher([player], settings.max_attempts, lambda failure: None),
        [scorer or OutcomeScorer()],
        settings,
        seed=7,
        stall_s=5.0,
        describe=str,
    )


def marked(spec: EpisodeSpec) -> Trajectory:
    return good(spec) if spec.guidance is None else guided(good(spec), spec.first_attempt)


def test_a_group_is_whole_when_its_guided_attempts_are_in() -> None:
    batch = asyncio.run(stream(Guiding("a", marked)).take(0))
    assert [[t.index for t in group.trajectories] for group in batch] == [[0, 1, 2, 3]] * 2
    assert [t.is_guided for t in batch[0].trajectories] == [False, False, True, True]


def test_guided_attempts_do_not_make_up_for_first_ones_that_are_missing() -> None:
    def first_fails(spec: EpisodeSpec) -> Trajectory:
        is_bad = spec.group_id == "00000001" and spec.index == 0
        return bad(spec, is_retryable=False) if is_bad else marked(spec)

    groups = stream(Guiding("a", first_fails))
    assert [int(group.group_id) for group in asyncio.run(groups.take(0))] == [0, 2]


def test_the_share_goes_by_the_update_that_a_group_is_in() -> None:
    async def run() -> list[list[int]]:
        player = Guiding("a", marked)
        config = GuidedConfig(share=1.0, over=2, per_group=2)
        groups = stream(player, guided=config)
        return [[sum(t.is_guided for t in group.trajectories) for group in await groups.take(0)] for _ in range(4)]

    counts = asyncio.run(run())
    assert counts[0] == [2, 2]
    assert counts[2:] == [[0, 0], [0, 0]]
    assert counts == asyncio.run(run())


def test_a_curriculum_goes_by_first_attempts() -> None:
    class GuidedSucceed(OutcomeScorer):
        async def score(self, group: Group) -> Sequence[Score]:
            return [
                Score(trajectory_id=t.trajectory_id, channel="outcome", value=float(t.is_guided))
                for t in group.trajectories
            ]

    state: dict[str, Any] = {}
    tasks = Curriculum(TaskSet(env_id="e", seed=7), 4, state, success=("outcome", 0.5))
    asyncio.run(stream(Guiding("a", marked), GuidedSucceed(), tasks).take(0))
    assert tasks.metrics() == {"curriculum/measured_tasks": 2.0, "curriculum/success": 0.0}


def test_a_checkpoint_keeps_who_was_guided(tmp_path: Any) -> None:
    batch = asyncio.run(stream(Guiding("a", marked)).take(0))
    save_pending(tmp_path / "pending.parquet", batch)
    kept = load_pending(tmp_path / "pending.parquet")
    assert [[t.is_guided for t in g.trajectories] for g in kept] == [[False, False, True, True]] * 2
    assert [t.is_followed for t in kept[0].trajectories] == [True, True, False, False]


# what it is not for, and mistakes


def test_an_evaluation_is_never_guided() -> None:
    planned = eval_specs(TaskSet(env_id=RIDDLE, split="eval"), "sampled", 8)
    assert all(spec.again is None and spec.guidance is None for spec in planned)
    found = played(Says("wrong"), planned)
    assert len(found) == 8
    assert not any(t.is_guided or t.is_followed for t in found.values())


def test_the_first_observation_shows_guidance_in_one_place() -> None:
    env = make_env(RIDDLE)
    plain, _ = env.reset(seed=5)
    shown, _ = env.reset(seed=5, options={"guidance": "look"})
    assert shown == [{**plain[0], "content": "riddle 5\n\nlook"}]
    assert env.reset(seed=5, options={"guidance": ""})[0] == plain
    again = make_env("turnwise/TryAgain-v0", {"id": RIDDLE})
    assert again.reset(seed=5, options={"guidance": "look"})[0] == shown


def test_guidance_that_is_wanted_must_be_offered_by_the_environment() -> None:
    check_guide_exists({}, RIDDLE, 0.5)
    with pytest.raises(UserError, match=r"rollout.guided.share=0.5: turnwise/Flaky-v0 offers no guidance; give"):
        check_guide_exists({}, "turnwise/Flaky-v0", 0.5)
    assert TurnEnv.guide(make_env("turnwise/Flaky-v0").unwrapped) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rollout.guided.share=1.5"], "rollout.guided.share=1.5: is too large; use at most 1"),
        (["rollout.guided.share=.nan"], "rollout.guided.share=nan: is not a finite number"),
        (["rollout.guided.per_group=2"], "rollout.guided.per_group=2: has no effect because rollout.guided.share=0.0"),
        (["rollout.guided.share=1", "rollout.guided.final=0.5"], "has no effect because rollout.guided.over=0"),
        (["rollout.guided.share=1", "rollout.guided.per_group=1"], "one alone teaches nothing; use at least 2"),
        (["rollout.guided.share=1", "rollout.guided.per_group=9"], "exceeds rollout.group_size=8"),
        (["rollout.guided.shares=1"], "did you mean rollout.guided.share?"),
        (["rollout.guided=3"], "rollout.guided=3"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        load_config(None, words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_estimator_without_groups_takes_single_guided_attempts() -> None:
    words = ["rollout.guided.share=1", "rollout.guided.per_group=1", "credit.estimator.name=reinforce_pp"]
    assert load_config(None, words).config.rollout.guided.per_group == 1
