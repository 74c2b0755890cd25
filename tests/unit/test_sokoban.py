import math
import re
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import pytest

from turnwise import UserError
from turnwise.env.conformance import MALFORMED, NO_ACTIONS, validate
from turnwise.tasks import make_env, world_of
from turnwise_envs.sokoban import room as room_module
from turnwise_envs.sokoban.drawing import Shape, Task, draw_task, is_held_out
from turnwise_envs.sokoban.env import WORDS
from turnwise_envs.sokoban.room import MOVES, Room, state_of

ID = "turnwise/Sokoban-v0"
BOARD = """\
. . . .
. P X O
. . . .
. . . #"""


def read(board: str) -> Task:
    """Return the room that a board shows, and the state."""
    cells = board.split()
    bits = {symbol: sum(1 << i for i, cell in enumerate(cells) if cell == symbol) for symbol in "#.OX*P+"}
    player = next(i for i, cell in enumerate(cells) if cell in "P+")
    room = Room(int(len(cells) ** 0.5), bits["#"], bits["O"] | bits["*"] | bits["+"])
    return Task(room=room, start=state_of(player, bits["X"] | bits["*"]))


def made(board: str | None = None, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Return an environment after a reset, in the state of a board if one is given."""
    env = make_env(ID, kwargs)
    env.reset(seed=0)
    if board is not None:
        world: Any = world_of(env)
        world._task = read(board)
        world._at = world._task.start
    return env


def said(answer: tuple[Any, ...]) -> str:
    return str(answer[0][0]["content"])


def events(answer: tuple[Any, ...]) -> dict[str, float]:
    return {event.channel: event.value for event in answer[4]["events"]}


def distances(task: Task) -> dict[int, float]:
    """Return the distance of every state that can be reached, from a search forward and plain relaxation."""
    leads: dict[int, list[int]] = {}
    queue = deque([task.start])
    while queue:
        state = queue.popleft()
        if state not in leads:
            leads[state] = [task.room.move(state, move) for move in MOVES]
            queue.extend(leads[state])
    solved = {state for state in leads if state >> 6 == task.room.targets}
    found: dict[int, float] = {state: 0.0 if state in solved else math.inf for state in leads}
    for _ in range(100):
        found = {state: min(found[state], 1 + min(found[after] for after in leads[state])) for state in leads}
    return found


@pytest.mark.parametrize("kwargs", [{}, {"boxes": 2, "moves_per_turn": 3}, {"size": 6, "boxes": 3}], ids=str)
def test_it_keeps_what_every_environment_promises(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate(ID, kwargs) if not check.passed] == []


@pytest.mark.parametrize(
    ("before", "move", "after"),
    [
        (". . . P X O . . .", "right", ". . . . P * . . ."),
        (". . . P * . . . .", "right", ". . . . + X . . ."),
        (". . . . X O . P .", "up", ". X . . P O . . ."),
        (". . . . X O . P .", "left", ". . . . X O P . ."),
        (". . . P X X O O .", "right", None),
        (". . . . P X O . .", "right", None),
        (". # . O P X . . .", "up", None),
        ("P . . . X O . . .", "left", None),
        ("P . . . X O . . .", "up", None),
    ],
)
def test_a_move_walks_pushes_one_box_or_is_blocked(before: str, move: str, after: str | None) -> None:
    task = read(before)
    assert task.room.show(task.room.move(task.start, move)).split() == (after or before).split()


@pytest.mark.parametrize(("size", "boxes"), [(3, 1), (4, 1), (4, 2)])
def test_distances_are_those_of_a_plain_search_and_lost_states_are_infinitely_far(size: int, boxes: int) -> None:
    num_lost = 0
    for seed in range(4):
        task = draw_task(Shape(size=size, boxes=boxes, lengths=(3, 6)), seed, None)
        expected = distances(task)
        assert {state: task.room.distance(state) for state in expected} == expected
        num_lost += sum(distance == math.inf for distance in expected.values())
    assert num_lost


def test_rooms_are_as_long_as_asked_for_and_follow_from_the_seed() -> None:
    shape = Shape(size=5, boxes=2, lengths=(6, 9))
    for seed in range(30):
        task = draw_task(shape, seed, "train")
        assert task.room.distance(task.start) in (6, 7, 8, 9)
        assert task.room.num_placed(task.start) == 0
        assert task.room.show(task.start).count("X") == 2
        draw_task.cache_clear()
        again = draw_task(shape, seed, "train")
        assert again.room.show(again.start) == task.room.show(task.start)


def test_no_held_out_room_is_a_training_room_turned_or_mirrored() -> None:
    shape = Shape(size=3, boxes=1, lengths=(2, 4))  # so small that most rooms come up often
    drawn: dict[str, set[bytes]] = {}
    for split in ("train", "eval"):
        rooms = [draw_task(shape, seed, split).room for seed in range(300)]
        boards = [np.array([r.walls >> i & 1 | (r.targets >> i & 1) << 1 for i in range(9)], np.uint8) for r in rooms]
        turned = [np.rot90(side, k) for board in boards for side in _sides(board) for k in range(4)]
        drawn[split] = {side.tobytes() for side in turned}
        assert {is_held_out(np.ascontiguousarray(side)) for side in turned} == {split == "eval"}
    assert all(len(boards) > 40 for boards in drawn.values())
    assert not drawn["train"] & drawn["eval"]


def _sides(board: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    return board.reshape(3, 3), board.reshape(3, 3).T


def test_progress_is_the_change_of_the_boxes_placed_and_the_outcome_comes_at_the_end() -> None:
    env = made(". . . . P X O . . . . . . X O .", boxes=2)
    paid = [events(env.step(move)) for move in ("right", "right", "left")]
    assert paid == [{"progress": 0.5}, {"progress": -0.5}, {}]
    env = made(BOARD)
    answer = env.step("Right")
    assert events(answer) == {"progress": 1.0, "outcome": 1.0}
    assert answer[2]
    assert said(answer).startswith("solved\n. . . .\n. . P *")


def test_a_blocked_move_costs_a_turn_and_what_cannot_be_read_shows_the_board_again() -> None:
    env = made(BOARD, max_turns=3)
    env.step("up")
    blocked = env.step("up")
    board = ". P . .\n. . X O\n. . . .\n. . . #"
    assert (said(blocked), blocked[4]["is_valid"], events(blocked)) == (f"blocked\n{board}", True, {})
    bad = env.step("jump")
    assert said(bad) == f"error: unknown move jump; expected up, down, left or right\n{board}"
    assert (bad[4]["is_valid"], events(bad), bad[2:4]) == (False, {"format": -1.0}, (False, True))


def test_several_moves_go_on_until_one_is_blocked_or_the_room_is_solved() -> None:
    env = made(BOARD, moves_per_turn=3)
    assert said(env.step("up, up left")) == "blocked\n. P . .\n. . X O\n. . . .\n. . . #"
    assert said(env.step("down up down")).startswith(". . . .\n. P X O")
    oracle = world_of(env).oracle
    assert oracle("right up up") == 1.0
    assert oracle("left right") == oracle("up down right") == 0.0
    assert oracle("up up") == oracle("down right up") == -1.0
    assert env.step("right up up")[2]
    assert said(made(BOARD, moves_per_turn=3).step("up up up up")).startswith("error: 4 moves; expected up to 3 of up")


def test_the_oracle_knows_shortest_solutions_and_lost_rooms() -> None:
    oracle = world_of(made(". . . .\n. P X .\n. . . .\n. . O .")).oracle
    assert oracle("up") == 1.0  # over the box, to push it down
    assert oracle("left") == oracle("down") == 0.0
    assert oracle("right") == -1.0  # the box would never leave that side
    assert oracle("jump") == oracle("") == oracle("up up") == -1.0
    lost = world_of(made(". . . X\n. . P .\n. . . .\n. . O .")).oracle
    assert (lost("left"), lost("up"), lost("jump")) == (0.0, 0.0, -1.0)


def test_what_the_search_does_not_reach_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "MAX_STATES", 20)
    world = world_of(made(". . . . .\n. X P . .\n. . . . .\n. . . . .\n. . . . O"))
    assert world.oracle("right") is None
    assert world.oracle("jump") == -1.0
    assert world.demonstrate(np.random.default_rng(0)) in MOVES
    assert world.gold() == {"question": ". . . . .\n. X P . .\n. . . . .\n. . . . .\n. . . . O", "answer": ""}


@pytest.mark.parametrize("moves_per_turn", [1, 3])
def test_a_demonstrator_without_mistakes_takes_a_shortest_solution(moves_per_turn: int) -> None:
    env, rng = made(boxes=2, mistakes=0, moves_per_turn=moves_per_turn), np.random.default_rng(0)
    for seed in range(20):
        solution = env.reset(seed=seed)[1]["gold"]["answer"].split()
        taken: list[str] = []
        over = False
        while not over:
            action = str(world_of(env).demonstrate(rng))
            assert world_of(env).oracle(action) == 1.0
            taken += action.split()
            over = env.step(action)[2]
        assert len(taken) == len(solution)


def test_a_demonstrator_who_errs_always_walks_at_random_and_is_never_blocked() -> None:
    env, rng = made(mistakes=1, max_turns=50), np.random.default_rng(0)
    worth = set()
    for _ in range(40):
        move = str(world_of(env).demonstrate(rng))
        worth.add(world_of(env).oracle(move))
        assert "blocked" not in said(env.step(move))
    assert {0.0, 1.0} <= worth


def test_equal_states_have_equal_keys() -> None:
    env = made(BOARD)
    start = world_of(env).state_key()
    assert env.step("up")[4]["state_key"] != start
    assert env.step("down")[4]["state_key"] == env.step("jump")[4]["state_key"] == start


def test_every_word_is_listed() -> None:
    env, rng = made(moves_per_turn=2), np.random.default_rng(0)
    shown = [said(env.step(action)) for action in ("", "up up up", "sing", "left left", "up up", "right right")]
    shown += [said(env.reset(seed=seed)) for seed in range(20)]
    shown += [said(env.step(world_of(env).demonstrate(rng))) for _ in range(20)]
    words = {word for text in shown for word in re.sub(r"[:;,]", "", text).split()}
    assert {word for word in words if not word.isdigit()} - {"sing", "the", "episode", "is", "over"} <= set(WORDS)


def test_200_episodes_of_random_actions_and_nonsense_raise_nothing() -> None:
    env, rng = made(moves_per_turn=2), np.random.default_rng(0)
    actions = [*MOVES, "up left", *MALFORMED, *NO_ACTIONS]
    for seed in range(200):
        env.reset(seed=seed, options={"split": ("train", "eval")[seed % 2]})
        while not any(env.step(actions[int(rng.integers(len(actions)))])[2:4]):
            pass


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"size": 2}, "env.kwargs.size=2: out of range; give a whole number from 3 to 8"),
        ({"boxes": 0}, "env.kwargs.boxes=0: out of range"),
        ({"min_length": "x"}, "env.kwargs.min_length=x: out of range"),
        ({"min_length": 9, "max_length": 8}, "env.kwargs.max_length=8: out of range; give a whole number from 9 to 60"),
        ({"max_turns": True}, "env.kwargs.max_turns=True: out of range"),
        ({"moves_per_turn": 0}, "env.kwargs.moves_per_turn=0: out of range"),
        ({"mistakes": 1.5}, "env.kwargs.mistakes=1.5: not a probability"),
        ({"size": 3, "min_length": 40, "max_length": 40}, "no rooms found with 1 boxes on 3 x 3 cells; ask"),
        ({"sise": 3}, "env.kwargs.sise=3: turnwise/Sokoban-v0 takes no such argument; did you mean size?"),
    ],
    ids=str,
)
def test_a_wrong_value_is_one_line(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(ID, kwargs)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
