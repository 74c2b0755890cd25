"""`turnwise/Questions-v0`: beliefs by Bayes' rule, information in bits, and an oracle that knows the best question."""

import itertools
import math
import re

import numpy as np
import pytest
from social_pieces import MALFORMED_ACTIONS, play_at_random, told

from turnwise import UserError
from turnwise.env.conformance import validate
from turnwise.tasks import make_env, world_of
from turnwise_envs.social.knowledge import draw_knowledge, entropy, expected_gain, updated
from turnwise_envs.social.lexicon import PLACES, social_words

QUESTIONS = "turnwise/Questions-v0"


def read_facts(text):
    """The facts as the policy reads them: place -> attributes."""
    found = re.findall(r"(\w+) : ([a-z ]+) \.", text)
    return {name: set(words.split()) - {"nothing"} for name, words in found}


@pytest.mark.parametrize("kwargs", [{}, {"noise": 0.2, "num_entities": 12}])
def test_the_environment_keeps_every_promise(kwargs):
    assert [check for check in validate(QUESTIONS, kwargs) if not check.passed] == []


def test_200_episodes_of_any_actions_raise_nothing_and_end():
    play_at_random(make_env(QUESTIONS, {"noise": 0.1}), 200, MALFORMED_ACTIONS)


def test_the_belief_is_what_counting_the_places_says():
    env = make_env(QUESTIONS, {"max_turns": 20})
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        facts, truth = read_facts(observation[0]["content"]), info["gold"]["answer"]
        left = dict(facts)
        for word in sorted(set().union(*facts.values())):
            before = len(left)
            answer = env.step(f"ask {word}")
            assert answer[0][0]["content"] == ("yes" if word in facts[truth] else "no")
            left = {name: words for name, words in left.items() if (word in words) == (word in facts[truth])}
            assert told(answer)["info_gain"] == pytest.approx(math.log2(before / len(left)))
            assert told(answer)["curiosity"] == pytest.approx(1 / len(left) - 1 / before)
        assert list(left) == [truth]  # the facts tell all places apart
        assert told(env.step(f"guess {truth}")) == {"outcome": 1.0}


def test_a_noisy_answer_moves_the_belief_by_bayes_rule_and_the_gains_add_up():
    env = make_env(QUESTIONS, {"noise": 0.25, "max_turns": 12})
    observation, info = env.reset(seed=4)
    facts, truth = read_facts(observation[0]["content"]), info["gold"]["answer"]
    words = sorted(set().union(*facts.values()))
    chances, gained, curious = dict.fromkeys(facts, 1.0), 0.0, 0.0
    for turn in range(10):
        word = words[turn % 3]  # again and again the same
        answer = env.step(f"ask {word}")
        is_yes = answer[0][0]["content"] == "yes"
        chances = {
            name: chance * (0.75 if (word in facts[name]) == is_yes else 0.25) for name, chance in chances.items()
        }
        gained, curious = gained + told(answer)["info_gain"], curious + told(answer)["curiosity"]
    total = sum(chances.values())
    belief = np.array([chance / total for chance in chances.values()])
    assert gained == pytest.approx(3.0 + float((belief * np.log2(belief)).sum()))
    assert curious == pytest.approx(chances[truth] / total - 1 / 8)


def test_noise_is_as_frequent_as_it_is_said_to_be_and_the_same_for_a_group():
    env = make_env(QUESTIONS, {"noise": 0.3, "max_turns": 400})
    observation, info = env.reset(seed=1)
    word = read_facts(observation[0]["content"])[info["gold"]["answer"]].copy().pop()
    said = [env.step(f"ask {word}")[0][0]["content"] for _ in range(399)]
    assert 0.22 < said.count("no") / len(said) < 0.38
    env.reset(seed=1)
    assert [env.step(f"ask {word}")[0][0]["content"] for _ in range(399)] == said


def test_the_expected_gain_is_the_mean_of_the_real_ones():
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.2):
        belief, has = rng.dirichlet(np.ones(6)), rng.random(6) < 0.5
        mean = 0.0
        for place, is_wrong in itertools.product(range(6), (False, True)):
            chance = belief[place] * (noise if is_wrong else 1 - noise)
            if chance:
                after = updated(belief, has, bool(has[place]) != is_wrong, noise)
                mean += chance * (entropy(belief) - entropy(after))
        assert expected_gain(belief, has, noise) == pytest.approx(mean)


def test_the_oracle_compares_with_the_best_question_and_weighs_a_guess():
    env = make_env(QUESTIONS, {"num_entities": 7, "max_turns": 9})  # an odd number: no question tells a whole bit
    observation, info = env.reset(seed=2)
    oracle, facts, truth = world_of(env).oracle, read_facts(observation[0]["content"]), info["gold"]["answer"]
    words = world_of(env)._facts.attributes

    def bits(word):
        share = sum(word in words for words in facts.values()) / len(facts)
        return -sum(p * math.log2(p) for p in (share, 1 - share) if p)

    best = max(map(bits, words))
    assert [oracle(f"ask {word}") for word in words] == pytest.approx([bits(word) / best for word in words])
    assert oracle(f"guess {truth}") == pytest.approx(2 / 7 - 1)
    assert (oracle("ask nothing"), oracle("hm"), oracle("guess Atlantis")) == (-1, -1, -1)
    for word in words:
        env.step(f"ask {word}")
    assert (oracle(f"guess {truth}"), oracle(f"ask {words[0]}")) == (1.0, 0.0)  # nothing is left to be asked


def test_a_question_in_the_last_turn_is_worth_nothing():
    env = make_env(QUESTIONS, {"max_turns": 1})
    env.reset(seed=0)
    assert {world_of(env).oracle(f"ask {word}") for word in world_of(env)._facts.attributes} == {0.0}


def test_following_the_oracle_names_the_place_in_time():
    env = make_env(QUESTIONS, {"num_entities": 16, "num_attributes": 8})
    rights = 0
    for seed in range(30):
        env.reset(seed=seed)
        facts, over = world_of(env)._facts, False
        said = [*(f"ask {word}" for word in facts.attributes), *(f"guess {name}" for name in facts.entities)]
        while not over:
            values = [world_of(env).oracle(text) for text in said]
            answer = env.step(said[int(np.argmax(values))])
            over = answer[2] or answer[3]
        rights += told(answer).get("outcome", 0.0)
    assert rights >= 27


def test_keys_follow_from_what_is_known_whatever_the_order_of_the_questions():
    env = make_env(QUESTIONS)
    observation, _ = env.reset(seed=3)
    one, two = sorted(set().union(*read_facts(observation[0]["content"]).values()))[:2]

    def keys(*said):
        env.reset(seed=3)
        return [(info["belief_key"], info["state_key"]) for *_, info in (env.step(text) for text in said)]

    assert keys(f"ask {one}", f"ask {two}")[1] == keys(f"ask {two}", f"ask {one}")[1]
    first, again = keys(f"ask {one}", f"ask is_{one.upper()}?")
    assert first[0] == again[0]
    assert told(env.step(f"ask {one}?")) == {"info_gain": 0.0, "curiosity": 0.0}
    assert told(env.step(f"ask is_{one.upper()}?")) == {"info_gain": 0.0, "curiosity": 0.0}
    assert first[1] != again[1]  # a turn less is left


def test_the_demonstrator_guesses_when_no_turn_is_left_to_ask():
    env = make_env(QUESTIONS, {"max_turns": 2, "mistakes": 0.0})
    env.reset(seed=0)
    env.step(world_of(env).demonstrate(np.random.default_rng(0)))
    assert world_of(env).demonstrate(np.random.default_rng(0)).startswith("guess ")


def test_held_out_tasks_ask_about_sets_of_attributes_that_no_training_task_has():
    drawn = {
        is_eval: {draw_knowledge(np.random.default_rng(seed), 8, 6, is_eval).attributes for seed in range(200)}
        for is_eval in (False, True)
    }
    assert drawn[False].isdisjoint(drawn[True])
    assert {word for words in drawn[True] for word in words} <= {word for words in drawn[False] for word in words}


def test_demonstrations_are_listed_words_and_mostly_right():
    env, rights, spoken = make_env(QUESTIONS, {"mistakes": 0.0}), 0.0, set()
    for seed in range(40):
        observation, over = env.reset(seed=seed)[0], False
        spoken |= set(re.findall(r"[A-Za-z]+", observation[0]["content"]))
        while not over:
            said = world_of(env).demonstrate(np.random.default_rng(seed))
            _, _, terminated, truncated, info = answer = env.step(said)
            spoken |= {*said.split(), answer[0][0]["content"]}
            assert info["is_valid"]
            over = terminated or truncated
        rights += told(answer).get("outcome", 0.0)
    assert rights == 40
    assert spoken - set(PLACES) - set(social_words()) == set()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_entities": 1}, "env.kwargs.num_entities=1: out of range"),
        ({"num_attributes": 3}, "env.kwargs.num_attributes=3: out of range; give a whole number from 4 to 22"),
        ({"noise": 0.5}, "env.kwargs.noise=0.5: not a probability; give a number from 0 to 0.4"),
        ({"max_turns": True}, "env.kwargs.max_turns=True: out of range"),
    ],
)
def test_wrong_arguments_are_errors_of_one_line(kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_env(QUESTIONS, kwargs)
