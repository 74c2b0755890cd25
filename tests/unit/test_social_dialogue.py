"""`turnwise/Dialogue-v0`: exact scores, a partner that negotiates, and what the platform reads of it."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
from social_pieces import MALFORMED_ACTIONS, play_at_random, told

from turnwise import UserError
from turnwise.env.conformance import validate
from turnwise.tasks import make_env, world_of
from turnwise_envs.social.language import Act, Heard, listen
from turnwise_envs.social.lexicon import GOODS, PEOPLE, social_words
from turnwise_envs.social.partner import ScriptedPartner, Style, draw_style
from turnwise_envs.social.scenario import AGENT, KINDS, PARTNER, draw_scenario

DIALOGUE = "turnwise/Dialogue-v0"
STYLE = Style(patience=5, shape=1.0, floor=0.1, reserve=1, temper=2, is_nosy=False)


def scenario(seed, kind, is_eval=False):
    return draw_scenario(np.random.default_rng(seed), [kind], is_eval)


def partner(seed=0, kind="price", **style):
    return ScriptedPartner(scenario(seed, kind), replace(STYLE, **style))


def offers(of, gain):
    """An offer of a deal that is worth so much to the partner."""
    return next(deal for deal, gains in of.scenario.gains.items() if gains[PARTNER] == gain)


def offer(of, gain, tone=0, tells=False):
    return of.answer("", Heard(act=Act.OFFER, deal=offers(of, gain), tone=tone, tells=tells))


@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_keeps_every_promise(kind):
    assert [check for check in validate(DIALOGUE, {"kinds": kind}) if not check.passed] == []


def test_200_episodes_of_any_actions_raise_nothing_and_end():
    play_at_random(make_env(DIALOGUE), 200, ["please offer 40", "offer 2 Lantern", "why?", *MALFORMED_ACTIONS])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_a_deal_are_those_of_counting_all_deals(kind):
    for seed in range(8):
        of = scenario(seed, kind)
        pairs = list(of.gains.values())
        assert max(min(pair) for pair in pairs) >= 1  # there is something to gain for both
        assert of.goal(AGENT, ScriptedPartner(of, STYLE).open().deal) < 0.5  # and to talk about
        for deal, (mine, theirs) in of.gains.items():
            most = max(a for a, b in pairs if b > 0)
            assert of.goal(AGENT, deal) == pytest.approx(max(-1.0, min(1.0, mine / most)))
            dominating = [(a, b) for a, b in pairs if a >= mine and b >= theirs]
            is_best = all(pair == (mine, theirs) for pair in dominating)
            if min(mine, theirs) < 0:
                assert of.agreement(deal) == 0
            elif mine + theirs:
                assert (of.agreement(deal) == 1) == is_best
        assert (of.goal(AGENT, None), of.goal(PARTNER, None), of.agreement(None)) == (0, 0, 0)


def test_held_out_combinations_of_words_are_in_no_training_task_but_each_word_is():
    for kind in KINDS:
        drawn = {}
        for is_eval in (False, True):
            found = [scenario(seed, kind, is_eval) for seed in range(150)]
            drawn[is_eval] = {(of.words, "You sell" in of.goals[AGENT]) for of in found}
        assert drawn[False].isdisjoint(drawn[True])
        words = {is_eval: {word for combined, _ in drawn[is_eval] for word in combined} for is_eval in drawn}
        assert len(words[True] - words[False]) <= len(words[True]) // 10
    env = make_env(DIALOGUE)
    assert env.reset(seed=1, options={"split": "eval"})[0] != env.reset(seed=1, options={"split": "train"})[0]


def test_the_partner_gives_way_to_who_moves_and_little_to_who_does_not():
    moving, still = partner(), partner()
    start = moving.least(moving.mood)
    for gain in (-6, -5, -4):
        offer(moving, gain)
        offer(still, -6)
    assert moving.least(moving.mood) < still.least(still.mood) < start


def test_politeness_softens_and_pressure_and_a_told_secret_harden():
    def least(**heard):
        of = partner()
        offer(of, -5, **heard)
        return of.least(of.mood)

    assert least(tone=1) < least() < least(tone=-1) < least(tone=-1, tells=True)


def test_the_partner_never_agrees_to_lose_and_walks_away_when_insulted_or_tired():
    for seed in range(20):
        of = partner(seed, KINDS[seed % 3], floor=0.0)
        mood = replace(of.mood, warmth=3, num_offers=99, num_moves=99)
        assert all(gains[PARTNER] >= 1 for deal, gains in of.scenario.gains.items() if of.accepts(mood, deal))
    insulted = partner()
    assert insulted.answer("", Heard(act=Act.TALK, tone=-2)).act is Act.LEAVE
    tired = partner()
    answers = [tired.answer("", Heard(act=Act.TALK)) for _ in range(STYLE.patience)]
    assert [answer.act is Act.LEAVE for answer in answers] == [False] * 4 + [True]
    assert "final offer" in answers[3].text


def test_the_partner_tells_the_truth_to_who_asks_politely():
    for seed in range(10):
        of = partner(seed, "meeting")
        assert not of.answer("", Heard(act=Act.ASK)).is_fact
        answers = [of.answer("", Heard(act=Act.ASK, tone=1)) for _ in range(3)]
        assert all(answer.is_fact for answer in answers)
        for day, answer in enumerate(answers):
            free = {hour for (d, hour), gains in of.scenario.gains.items() if d == day and gains[PARTNER] > 0}
            assert {int(hour) for hour in re.findall(r"\d+", answer.text.split(".")[0])} == free
        assert "that is all i say" in of.answer("", Heard(act=Act.ASK)).text or of.is_leaving(of.mood)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_within_reach_is_what_trying_everything_finds(seed):
    of = partner(seed, "meeting", patience=4, shape=0.7 + 0.2 * seed)
    gains = of.scenario.gains
    heards = [Heard(act=Act.OFFER, deal=deal, tone=tone) for deal in gains for tone in (0, 1)]
    heards += [Heard(act=Act.TALK, tone=tone) for tone in (-1, 0, 1)]

    @functools.cache
    def best(mood):
        if of.is_leaving(mood):
            return 0.0
        values = [0.0, of.scenario.goal(AGENT, of.offer(mood))]
        for heard in heards:
            after = of.hear(mood, heard)
            is_taken = heard.deal is not None and of.accepts(after, heard.deal)
            values.append(of.scenario.goal(AGENT, heard.deal) if is_taken else best(after))
        return max(values)

    assert of.reach(of.mood) == pytest.approx(best(of.mood))
    worst = Heard(act=Act.OFFER, deal=min(gains, key=lambda deal: gains[deal][PARTNER]))
    assert of.reach_after(of.mood, worst) == pytest.approx(best(of.hear(of.mood, worst)))


@pytest.mark.parametrize("kind", KINDS)
def test_who_follows_the_oracle_gets_what_was_within_reach(kind):
    env = make_env(DIALOGUE, {"kinds": kind})
    world = world_of(env)
    for seed in range(3):
        _, info = env.reset(seed=seed)
        deals = scenario_of(world).gains
        over = False
        while not over:
            said = ["accept", *(f"please offer {scenario_of(world).spell(deal)}" for deal in deals)]
            values = [world.oracle(text) for text in said]
            assert max(values) == pytest.approx(1.0)
            over = (answer := env.step(said[int(np.argmax(values))]))[2]
        assert told(answer)["outcome"] == pytest.approx(info["gold"]["reach"])
    assert world.oracle("") == -1.0


def scenario_of(world):
    return world._playing[0]


def test_leaving_and_agreeing_to_lose_are_worth_less_to_the_oracle():
    env = make_env(DIALOGUE, {"kinds": "price"})
    reach = env.reset(seed=2)[1]["gold"]["reach"]
    oracle = world_of(env).oracle
    assert oracle("leave") == pytest.approx(1 - reach)
    assert oracle("accept") < oracle("leave")  # the partner begins with what suits it alone


def test_each_channel_says_what_its_name_does():
    env = make_env(DIALOGUE, {"kinds": "meeting"})
    secret = env.reset(seed=5)[1]["gold"]["secrets"][0]
    assert told(env.step("thanks, what suits you?")) == {"relationship": pytest.approx(1 / 3), "knowledge": 1 / 3}
    assert told(env.step(f"it is for my {secret}")) == {"secret": -1.0}
    assert told(env.step(f"hurry, the {secret}!")) == {"relationship": pytest.approx(-1 / 3)}  # told only once
    assert told(env.step("")) == {"format": -1.0}
    over = env.step("accept")
    assert over[2]
    assert set(told(over)) == {"outcome", "partner", "agreement"}
    assert told(over)["partner"] == 1.0
    assert world_of(env).guide()


def test_the_relationship_adds_up_to_its_end_however_often_one_thanks_or_insults():
    env = make_env(DIALOGUE)
    env.reset(seed=1)
    total = sum(told(env.step("thanks")).get("relationship", 0.0) for _ in range(5))
    assert total == pytest.approx(1.0)
    seed = next(seed for seed in range(99) if env.reset(seed=seed)[1]["gold"]["style"]["temper"] == 3)
    env.reset(seed=seed)
    cooled = [told(env.step(text)).get("relationship") for text in ("hurry", "hurry", "you fool")]
    assert cooled == pytest.approx([-1 / 3] * 3)  # no colder than it can get


def test_equal_states_have_equal_keys_whatever_the_words_were():
    env = make_env(DIALOGUE, {"kinds": "price"})

    def keys(*said):
        env.reset(seed=3)
        return [env.step(text)[4]["state_key"] for text in said]

    middle = sum(gains[0] for gains in scenario_of_price(env)) // len(scenario_of_price(env))
    assert keys(f"please offer {middle}") == keys(f"How about {middle}? Thanks!")
    assert keys(f"offer {middle}") != keys(f"please offer {middle}")
    assert keys("hm") != keys("", "hm")[1:]  # a turn less is left


def scenario_of_price(env):
    env.reset(seed=3)
    return list(scenario_of(world_of(env)).gains)


def test_demonstrations_are_understood_and_neither_hopeless_nor_perfect():
    found = {}
    for mistakes in (0.0, 0.3):
        env, outcomes = make_env(DIALOGUE, {"mistakes": mistakes}), []
        for seed in range(40):
            env.reset(seed=seed)
            rng, over = np.random.default_rng(seed), False
            while not over:
                _, _, terminated, truncated, info = answer = env.step(world_of(env).demonstrate(rng))
                assert info["is_valid"]
                over = terminated or truncated
            outcomes.append(told(answer).get("outcome", 0.0))
        found[mistakes] = np.mean(np.array(outcomes) > 0.5)
    assert 0.2 < found[0.3] < found[0.0] < 1.0


def test_the_texts_use_listed_words_only():
    names = {*PEOPLE, *GOODS}
    env, spoken = make_env(DIALOGUE, {"mistakes": 0.2}), set()
    for seed in range(60):
        observation, _ = env.reset(seed=seed)
        rng, over = np.random.default_rng(seed), False
        while not over:
            said = str(rng.choice(["offer 999", "monday", "offer 40 or 50"])) if rng.random() < 0.2 else None
            said = said or world_of(env).demonstrate(rng)
            spoken |= {*re.findall(r"[A-Za-z]+", observation[0]["content"]), *re.findall(r"[A-Za-z]+", said)}
            observation, _, terminated, truncated, _ = env.step(said)
            over = terminated or truncated
    assert spoken - names - set(social_words()) == set()


def test_gold_names_both_goals_and_the_first_observation_only_the_agents():
    observation, info = make_env(DIALOGUE).reset(seed=4)
    gold, text = info["gold"], observation[0]["content"]
    assert gold["goals"][AGENT] in text
    assert gold["goals"][PARTNER] not in text
    assert gold["secrets"][PARTNER] not in text


def test_a_partners_patience_ends_before_the_turns_do():
    assert draw_style(np.random.default_rng(0), 3).patience == 3
    assert listen("accept", scenario(0, "price"), None).act is Act.TALK  # nothing is on the table


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kinds": ["prize"]}, "env.kwargs.kinds=prize: no such name; did you mean price?"),
        ({"kinds": []}, "env.kwargs.kinds=[]: empty"),
        ({"max_turns": 0}, "env.kwargs.max_turns=0: out of range"),
        ({"mistakes": 1.5}, "env.kwargs.mistakes=1.5: not a probability; give a number from 0 to 1"),
        ({"partner": "gpt"}, "env.kwargs.partner=gpt: no model at an endpoint"),
        ({"partner": {"model": "m", "url": 1}}, "env.kwargs.partner.url=1: no such option"),
        ({"partner": {"model": "m", "attempts": 0}}, "env.kwargs.partner.attempts=0: does not fit"),
        ({"partner": {"model": "m", "base_url": "host"}}, "env.kwargs.partner.base_url=host: no address"),
        ({"partner": {"model": "m", "key_env": "NO_SUCH"}}, "env.kwargs.partner.key_env=NO_SUCH: the environment"),
    ],
)
def test_wrong_arguments_are_errors_of_one_line(kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_env(DIALOGUE, kwargs)
