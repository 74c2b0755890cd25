import gymnasium
import pytest

from turnwise import TurnEnv, UserError
from turnwise.tasks import TaskSet, find_spec, make_env, world_of

SEARCH = "turnwise/Search-v0"


def test_training_seeds_are_all_different_and_never_those_of_evaluation() -> None:
    train = [TaskSet(env_id=SEARCH, seed=5).task(i).seed for i in range(5000)]
    held_out = [TaskSet(env_id=SEARCH, split="eval", seed=5).task(i).seed for i in range(5000)]
    assert len(set(train)) == len(set(held_out)) == 5000
    assert all(0 <= seed < 2**30 for seed in train)
    assert all(2**30 <= seed < 2**31 and seed % 2 == 0 for seed in held_out)


def test_run_seeds_change_the_training_tasks_and_not_the_held_out_ones() -> None:
    one, two = (TaskSet(env_id=SEARCH, seed=seed) for seed in (1, 2))
    assert not {one.task(i).seed for i in range(1000)} & {two.task(i).seed for i in range(1000)}
    one, two = (TaskSet(env_id=SEARCH, split="eval", seed=seed) for seed in (1, 2))
    assert [one.task(i) for i in range(10)] == [two.task(i) for i in range(10)]


def test_a_task_carries_its_environment_split_and_seed() -> None:
    task = TaskSet(env_id=SEARCH, split="eval").task(3)
    assert (task.env_id, task.split, task.seed, task.task_id) == (SEARCH, "eval", 2**30 + 6, str(2**30 + 6))


def test_a_finite_set_is_seen_once_an_epoch_in_a_new_order() -> None:
    tasks = TaskSet(env_id=SEARCH, seed=1, num_tasks=20)
    epochs = [[tasks.task(20 * epoch + i).seed for i in range(20)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == [TaskSet(env_id=SEARCH, seed=1, num_tasks=20).task(i).seed for i in range(20)]


def test_a_finite_held_out_set_keeps_its_order() -> None:
    tasks = TaskSet(env_id=SEARCH, split="eval", seed=1, num_tasks=3)
    assert [tasks.task(i).seed for i in range(5)] == [0, 1, 2, 0, 1]


def test_an_empty_set_and_an_unknown_split_are_the_users_mistakes() -> None:
    with pytest.raises(UserError, match="empty task set: no eval tasks; give the environment held-out tasks"):
        TaskSet(env_id=SEARCH, split="eval", num_tasks=0)
    with pytest.raises(UserError, match="split=evil: no such split; did you mean eval"):
        TaskSet(env_id=SEARCH, split="evil")


def test_the_environment_is_asked_how_many_tasks_it_has() -> None:
    assert TaskSet.of(SEARCH, {}, "train", 0).num_tasks is None


def test_make_env_takes_arguments_of_any_name() -> None:
    env = make_env("turnwise/GymText-v0", {"id": "Blackjack-v1"})
    assert "Blackjack-v1" in world_of(env).instructions
    assert gymnasium.spec("turnwise/GymText-v0").kwargs == {}


def test_make_env_keeps_wrappers() -> None:
    gymnasium.register("test/Limited-v0", entry_point="turnwise.testing.flaky:FlakyEnv", max_episode_steps=2)
    try:
        env = make_env("test/Limited-v0")
        env.reset(seed=0)
        assert [env.step("yes")[3] for _ in range(2)] == [False, True]
        assert isinstance(world_of(env), TurnEnv)
        assert world_of(env) is not env
    finally:
        del gymnasium.registry["test/Limited-v0"]


def test_a_module_before_the_colon_is_imported() -> None:
    assert find_spec(f"turnwise_envs:{SEARCH}").id == SEARCH
    with pytest.raises(UserError, match="no_such_module cannot be imported"):
        find_spec(f"no_such_module:{SEARCH}")


@pytest.mark.parametrize(
    ("env_id", "kwargs", "line"),
    [
        ("turnwise/Serch-v0", {}, "env.id=turnwise/Serch-v0: no such environment; did you mean turnwise/Search-v0?"),
        ("zzz", {}, "env.id=zzz: no such environment; see `turnwise env list`"),
        (SEARCH, {"hop": 2}, "env.kwargs.hop=2: turnwise/Search-v0 takes no such argument; did you mean hops?"),
        ("FrozenLake-v1", {}, "not an environment of messages.*env.kwargs.id=FrozenLake-v1"),
        ("turnwise/GymText-v0", {"action_names": 7}, "cannot be made"),
    ],
)
def test_what_cannot_be_made_is_the_users_mistake(env_id: str, kwargs: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=line.replace("?", r"\?")):
        make_env(env_id, kwargs)
