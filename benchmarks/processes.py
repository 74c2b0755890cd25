"""Multi-turn decision processes whose true turn advantages are known: small tables, solved exactly.

`credit.py` rolls them out, estimates, and compares. A process is a table of states and actions with a horizon; a turn
is one action. Its outcome is scored at the end of an episode, as a whole-trajectory score; some also pay a noisy
reward a turn on the channel `process`. The policy sees an observation; the state behind it is the turn's state key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
State = tuple[Hashable, ...]

ACTIONS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """S states, O observations, A actions, at most H turns."""

    name: str
    says: str  # what it is about, in a few words
    key_turns: int  # turns that decide; 0: credit does not matter
    horizon: int  # H
    names: list[str]  # [S] the state keys
    start: Array  # [S] probability; all episodes of a group start in the same state
    following: Ints  # [S, A, B] states that may come next
    chance: Array  # [S, A, B] their probabilities; 0 where there are fewer than B
    is_end: NDArray[np.bool_]  # [S]
    outcome: Array  # [S] score of an episode that ends there; 0 where the horizon cuts it off
    observed: Ints  # [S] number of the observation
    reward: Array  # [S, A] mean reward of a turn on the channel `process`
    noise: float  # standard deviation of that reward; 0: no such channel

    @property
    def num_observations(self) -> int:
        """O."""
        return int(self.observed.max()) + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Episodes:
    """M episodes of each of R policies; 0 behind an episode's end."""

    states: Ints  # [R, M, H]
    actions: Ints  # [R, M, H]
    num_turns: Ints  # [R, M]
    rewards: Array  # [R, M, H] of the channel `process`
    outcomes: Array  # [R, M]

    @property
    def exists(self) -> NDArray[np.bool_]:
        """[R, M, H] True where an episode has a turn."""
        return np.arange(self.states.shape[2]) < self.num_turns[:, :, None]


def values(process: Process, policies: Array, *, success: bool = False) -> tuple[Array, Array]:
    """Return V [R, H + 1, S] and Q [R, H, S, A] of policies [R, O, A], exact.

    The reward is the sum of outcome and mean turn rewards, or with `success` the outcome alone.
    """
    chosen = policies[:, process.observed]
    shape = (len(policies), process.horizon)
    v = np.zeros((shape[0], shape[1] + 1, len(process.names)))
    q = np.zeros((*shape, len(process.names), policies.shape[2]))
    v[:, -1], paid = process.outcome, np.zeros_like(process.reward) if success else process.reward
    for k in reversed(range(process.horizon)):
        q[:, k] = (v[:, k + 1][:, process.following] * process.chance).sum(axis=3) + paid
        v[:, k] = np.where(process.is_end, process.outcome, (chosen * q[:, k]).sum(axis=2))
    return v, q


def success(process: Process, policies: Array) -> Array:
    """Return [R] expected outcome of policies [R, O, A]."""
    return np.asarray(values(process, policies, success=True)[0][:, 0] @ process.start)


def optimum(process: Process) -> float:
    """Return the best expected outcome of any policy that sees the states and the turn."""
    v = process.outcome
    for _ in range(process.horizon):
        v = np.where(process.is_end, process.outcome, (process.chance * v[process.following]).sum(axis=2).max(axis=1))
    return float(v @ process.start)


def visits(process: Process, policies: Array) -> Array:
    """Return [R, H, S] probability of acting in a state at a turn."""
    chosen = policies[:, process.observed]
    at = np.zeros((len(policies), process.horizon, len(process.names)))
    at[:, 0] = process.start
    for k in range(process.horizon - 1):
        flow = (at[:, k, :, None] * chosen)[..., None] * process.chance
        np.add.at(at[:, k + 1], (slice(None), process.following), flow)
        at[:, k + 1, process.is_end] = 0.0
    return at


def play(process: Process, policies: Array, luck: Array, group_size: int) -> Episodes:
    """Roll out policies [R, O, A]; `luck` is uniform, [R, M, 2 H + 1], and M a multiple of `group_size`."""
    num_policies, size = luck.shape[:2]
    row = np.arange(num_policies)[:, None]
    state = np.searchsorted(np.cumsum(process.start), luck[:, ::group_size, 0], side="right")
    state = np.repeat(np.minimum(state, len(process.names) - 1), group_size, axis=1)
    choices, moves = np.cumsum(policies, axis=2), np.cumsum(process.chance, axis=2)
    shape = (num_policies, size, process.horizon)
    states, actions, rewards = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
    num_turns = np.zeros((num_policies, size), int)
    for k in range(process.horizon):
        alive = ~process.is_end[state]
        chances = choices[row, process.observed[state]]
        action = np.minimum((luck[:, :, 1 + 2 * k, None] > chances).sum(axis=2), ACTIONS - 1)
        way = (luck[:, :, 2 + 2 * k, None] > moves[state, action] + 1e-9).sum(axis=2)
        states[:, :, k], actions[:, :, k] = np.where(alive, state, 0), np.where(alive, action, 0)
        rewards[:, :, k] = np.where(alive, process.reward[state, action], 0.0)
        num_turns += alive
        way = np.minimum(way, process.following.shape[2] - 1)  # an ended state has no way on
        state = np.where(alive, process.following[state, action, way], state)
    return Episodes(
        states=states, actions=actions, num_turns=num_turns, rewards=rewards, outcomes=process.outcome[state]
    )


@dataclass
class _Sketch:
    """A process as functions of states, before it is a table."""

    start: Mapping[State, float]
    step: Callable[[State, int], Mapping[State, float]]
    outcome: Callable[[State], float | None]  # None: the episode goes on
    sees: Callable[[State], Hashable] = field(default=lambda state: state)
    reward: Callable[[State, int], float] = field(default=lambda state, action: 0.0)


def _tabulated(name: str, says: str, key_turns: int, horizon: int, sketch: _Sketch, noise: float = 0.0) -> Process:
    states, found = list(sketch.start), set(sketch.start)
    moves: dict[tuple[State, int], Mapping[State, float]] = {}
    for state in states:  # grows while it is read
        for action in range(ACTIONS) if sketch.outcome(state) is None else ():
            moves[state, action] = sketch.step(state, action)
            states += [other for other in moves[state, action] if other not in found]
            found |= set(moves[state, action])
    number = {state: place for place, state in enumerate(states)}
    width = max(len(chances) for chances in moves.values())
    following = np.zeros((len(states), ACTIONS, width), dtype=np.int64)
    chance = np.zeros(following.shape)
    reward = np.zeros((len(states), ACTIONS))
    for (state, action), chances in moves.items():
        reward[number[state], action] = sketch.reward(state, action)
        following[number[state], action, : len(chances)] = [number[other] for other in chances]
        chance[number[state], action, : len(chances)] = list(chances.values())
    seen: dict[Hashable, int] = {}
    outcomes = [sketch.outcome(state) for state in states]
    return Process(
        name=name,
        says=says,
        key_turns=key_turns,
        horizon=horizon,
        names=[" ".join(map(str, state)) for state in states],
        start=np.asarray([sketch.start.get(state, 0.0) for state in states]),
        following=following,
        chance=chance,
        is_end=np.asarray([outcome is not None for outcome in outcomes]),
        outcome=np.asarray([outcome or 0.0 for outcome in outcomes]),
        observed=np.asarray(
            [
                0 if o is not None else seen.setdefault(sketch.sees(s), len(seen))
                for s, o in zip(states, outcomes, strict=True)
            ]
        ),
        reward=reward,
        noise=noise,
    )


QUESTIONS = 8
"""Tasks of a process: the right actions differ between them, so that a policy must learn them one by one."""


def _right(question: Hashable, turn: int) -> int:
    """Return the right action of a turn; it differs between questions and between turns."""
    number = int(str(question))
    return (number + number // ACTIONS + 3 * turn + 1) % ACTIONS


def _questions(*rest: Hashable) -> dict[State, float]:
    return {(question, *rest): 1.0 / QUESTIONS for question in range(QUESTIONS)}


def one_turn() -> Process:
    """A question, one answer."""
    sketch = _Sketch(
        start=_questions("asked"),
        step=lambda s, a: {("end", float(a == _right(s[0], 0))): 1.0},
        outcome=_ending,
    )
    return _tabulated("one_turn", "eight questions, one turn each", 0, 1, sketch)


def every_turn(horizon: int = 5) -> Process:
    """Each turn's right action is an equal share of the outcome, which is told at the end."""

    def step(state: State, action: int) -> Mapping[State, float]:
        question, turn, right = state[0], int(str(state[1])), int(str(state[2]))
        right += action == _right(question, turn)
        return {("end", right / horizon) if turn + 1 == horizon else (question, turn + 1, right): 1.0}

    sketch = _Sketch(start=_questions(0, 0), step=step, outcome=_ending, sees=lambda s: s[:2])
    return _tabulated("every_turn", "five turns, each worth a fifth, told at the end", 0, horizon, sketch)


def key_turn(name: str, says: str, horizon: int, at: int, luck: float = 1.0, colours: int = 1) -> Process:
    """One turn decides, the others do nothing; with `luck` below 1 chance decides more at the end.

    With `colours`, every turn shows one at random, and the policy sees it.
    """

    def step(state: State, action: int) -> Mapping[State, float]:
        question, turn, is_right = state[0], int(str(state[1])), state[2]
        is_right = action == _right(question, turn) if turn == at else is_right
        if turn + 1 == horizon:
            chance = luck if is_right else 1.0 - luck
            return {("end", 1.0): chance, ("end", 0.0): 1.0 - chance}
        return {(question, turn + 1, is_right, colour): 1.0 / colours for colour in range(colours)}

    sketch = _Sketch(start=_questions(0, None, 0), step=step, outcome=_ending, sees=lambda s: (s[0], s[1], s[3]))
    return _tabulated(name, says, 1, horizon, sketch)


PAID, JUDGE_NOISE = 0.5, 0.5
"""What a judge of turns pays for a right action, and its error, one draw a turn whether or not the turn matters: of a
right and a wrong action it ranks the right one higher in 76 of 100 cases."""


def judged_key(name: str, says: str, horizon: int, at: int, luck: float = 0.75) -> Process:
    """`key_turn` with a judge that pays the key turn's right action at once, and every turn its error."""
    plain = key_turn(name, says, horizon, at, luck)
    questions, turns = (np.asarray([_part(held, place) for held in plain.names]) for place in (0, 1))
    right = np.asarray([[a == _right(q, at) for a in range(ACTIONS)] for q in questions])
    is_key = ~plain.is_end & (turns == at)
    return replace(plain, reward=PAID * (right & is_key[:, None]), noise=JUDGE_NOISE)


def _part(name: str, place: int) -> int:
    """Return a number of a state's name; 0 of an end, which has none."""
    return 0 if name.startswith("end") else int(name.split()[place])


def part_judged() -> Process:
    """`two_keys` with a judge that knows the first key's turn alone; the second shows at the end."""
    plain = two_keys()
    questions, turns = (np.asarray([_part(held, place) for held in plain.names]) for place in (0, 1))
    right = np.asarray([[a == _right(q, 1) for a in range(ACTIONS)] for q in questions])
    is_key = ~plain.is_end & (turns == 1)
    says = "two_keys; a judge pays the first key 0.5, noise 0.5 a turn"
    return replace(plain, name="part_judged", says=says, reward=PAID * (right & is_key[:, None]), noise=JUDGE_NOISE)


def two_keys(horizon: int = 7) -> Process:
    """A key must be taken at turn 2 and used at turn 6."""

    def step(state: State, action: int) -> Mapping[State, float]:
        question, turn, is_right = state[0], int(str(state[1])), bool(state[2])
        is_right = is_right and (turn not in (1, 5) or action == _right(question, turn))
        return {("end", float(is_right)) if turn + 1 == horizon else (question, turn + 1, is_right): 1.0}

    sketch = _Sketch(start=_questions(0, True), step=step, outcome=_ending, sees=lambda s: s[:2])
    return _tabulated("two_keys", "a key taken at turn 2 opens a door at turn 6 of 7", 2, horizon, sketch)


def _ending(state: State) -> float | None:
    return float(str(state[1])) if state[0] == "end" else None


def search(horizon: int = 8, chance: float = 0.4) -> Process:
    """Look until it is found, then give the right answer; an answer ends the episode, early or late."""

    def step(state: State, action: int) -> Mapping[State, float]:
        question, is_found = state
        if not is_found and action == _right(question, 0):
            return {(question, True): chance, (question, False): 1.0 - chance}
        if is_found and action == _right(question, 1):
            return {("end", 1.0): 1.0}
        return {("end", 0.0): 1.0} if action == _right(question, 2) else {state: 1.0}

    sketch = _Sketch(start=_questions(False), step=step, outcome=_ending)
    return _tabulated("search", "look until found, then answer; ends after 1 to 8 turns", 1, horizon, sketch)


def all_right(horizon: int = 3, noise: float = 0.5) -> Process:
    """Every turn must be right; a noisy reward says which was."""

    def step(state: State, action: int) -> Mapping[State, float]:
        question, turn, is_right = state[0], int(str(state[1])), bool(state[2])
        is_right = is_right and action == _right(question, turn)
        return {("end", float(is_right)) if turn + 1 == horizon else (question, turn + 1, is_right): 1.0}

    sketch = _Sketch(
        start=_questions(0, True),
        step=step,
        outcome=_ending,
        sees=lambda s: s[:2],
        reward=lambda s, a: 0.5 * (a == _right(s[0], int(str(s[1])))),
    )
    says = "three turns, all needed; each paid 0.5 with noise 0.5"
    return _tabulated("noisy_process", says, 3, horizon, sketch, noise)


LAKE = ("S..", ".O.", "..G")


def lake(horizon: int = 16, slip: float = 0.2) -> Process:
    """A lake of nine fields with one hole: states come again, episodes end early."""
    ways = ((0, 1), (1, 0), (0, -1), (-1, 0))

    def moved(state: State, way: int) -> State:
        row, column = (min(max(place + by, 0), 2) for place, by in zip(state, ways[way], strict=True))
        return (row, column)

    def step(state: State, action: int) -> Mapping[State, float]:
        chances: dict[State, float] = {}
        for way, chance in ((action, 1.0 - slip), ((action + 1) % 4, slip / 2), ((action - 1) % 4, slip / 2)):
            following = moved(state, way)
            chances[following] = chances.get(following, 0.0) + chance
        return chances

    ends = {"O": 0.0, "G": 1.0}
    sketch = _Sketch(start={(0, 0): 1.0}, step=step, outcome=lambda s: ends.get(LAKE[int(str(s[0]))][int(str(s[1]))]))
    return _tabulated("lake", "a slippery lake of 3 x 3 fields with a hole, at most 16 turns", 3, horizon, sketch)


def every_process() -> list[Process]:
    """Return all processes, in the order of the tables."""
    return [
        one_turn(),
        every_turn(),
        key_turn("sure_key", "the third of eight turns decides, surely", 8, 2),
        key_turn("key_of_3", "the first of three turns decides, 75 to 25", 3, 0, luck=0.75),
        key_turn("key_of_8", "the third of eight turns decides, 75 to 25", 8, 2, luck=0.75),
        key_turn("weak_key", "the third of eight turns decides, 65 to 35", 8, 2, luck=0.65),
        key_turn(
            "distractors", "the third of twelve, 75 to 25; each shows one of two colours", 12, 2, luck=0.75, colours=2
        ),
        two_keys(),
        search(),
        lake(),
        all_right(),
        judged_key("judged_3", "key_of_3; a judge pays the key 0.5, noise 0.5 a turn", 3, 0),
        judged_key("judged_8", "key_of_8; a judge pays the key 0.5, noise 0.5 a turn", 8, 2),
        judged_key("judged_12", "the third of twelve, 75 to 25; a judge pays the key 0.5, noise 0.5 a turn", 12, 2),
        part_judged(),
    ]
