"""The shop: tasks, their rewards, and the way to a purchase; `test_web_plain.py` has it in a browser too."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from turnwise.env.conformance import MALFORMED, validate
from turnwise.errors import UserError
from turnwise.tasks import make_env, world_of
from turnwise_envs.shop.app import shop
from turnwise_envs.shop.catalogue import KINDS, Item, draw_catalogue, is_for
from turnwise_envs.shop.env import ShopEnv
from turnwise_envs.shop.goal import draw_goal
from turnwise_envs.shop.lexicon import OPTIONS, lexicon_words
from turnwise_envs.shop.shopper import Mistakes
from turnwise_envs.shop.stock import Stock

ID = "turnwise/Shop-v0"
PERFECT = dict.fromkeys(Mistakes.__dataclass_fields__, 0.0)


def make(**kwargs: Any) -> ShopEnv:
    env = world_of(make_env(ID, {"mistakes": PERFECT, **kwargs}))
    assert isinstance(env, ShopEnv)
    return env


def play(env: ShopEnv, seed: int, split: str = "train", until: str = "") -> list[tuple[str, dict[str, float]]]:
    """Play demonstrated actions, up to one whose element has this name; return actions with their events."""
    rng, done = np.random.default_rng(seed), []
    env.reset(seed=seed, options={"split": split})
    while True:
        action = env.demonstrate(rng)
        if until and named(env, until) == action.partition(" ")[2]:
            return done
        *_, terminated, truncated, info = env.step(action)
        done.append((action, {event.channel: event.value for event in info["events"]}))
        if terminated or truncated:
            return done


def named(env: ShopEnv, name: str) -> str:
    return next((row.bid for row in env.view.rows if row.name == name), "")


@pytest.mark.parametrize("kwargs", [{}, {"compact": True, "num_options": 0}, {"observation": "diff"}], ids=str)
def test_it_keeps_the_contract(kwargs: dict[str, Any]) -> None:
    assert [check for check in validate(ID, kwargs) if not check.passed] == []


def test_two_hundred_episodes_of_valid_and_malformed_actions_go_without_an_exception() -> None:
    envs = [make(mistakes=None, max_turns=10), make(compact=True, num_options=1, mistakes=None, max_turns=10)]
    rng, valid, ends, ordered = np.random.default_rng(0), 0, 0, 0
    for number in range(200):
        env = envs[number % 2]
        env.reset(seed=number, options={"split": ("train", "eval")[number // 2 % 2]})
        for _ in range(10):
            bid, draw = rng.choice([row.bid for row in env.view.rows]), rng.random()
            moves = [f"click {bid}", f"click {bid}", f"fill {bid} | wool bag", f"select_option {bid} | wool"]
            right = env.demonstrate(rng) if draw > 0.4 else moves[rng.integers(len(moves))]
            action = MALFORMED[rng.integers(len(MALFORMED))] if draw < 0.2 else right
            *_, terminated, truncated, info = env.step(action)
            valid += info["is_valid"]
            if terminated or truncated:
                ends, ordered = ends + 1, ordered + terminated
                break
    assert ends == 200
    assert valid > 1000
    assert ordered > 20


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("compact", [False, True])
def test_a_perfect_shopper_buys_what_is_wanted_and_is_worth_one_at_every_step(*, compact: bool, split: str) -> None:
    env, rng = make(compact=compact), np.random.default_rng(0)
    for seed in range(12):
        env.reset(seed=seed, options={"split": split})
        total: dict[str, float] = {}
        for _ in range(12):
            action = env.demonstrate(rng)
            assert env.oracle(action) == 1.0
            *_, terminated, _, info = env.step(action)
            for event in info["events"]:
                total[event.channel] = total.get(event.channel, 0) + event.value
            if terminated:
                break
        assert total == {"outcome": 1.0, "progress": pytest.approx(1.0)}


def test_held_out_tasks_are_about_kinds_that_no_training_task_has() -> None:
    products = draw_catalogue(0, 320)
    kinds = {split: {one.kind for one in products if is_for(one, split)} for split in ("train", "eval")}
    assert kinds["train"] | kinds["eval"] == set(KINDS)
    assert (len(kinds["train"]), len(kinds["eval"])) == (120, 40)
    assert not kinds["train"] & kinds["eval"]
    for place in range(3):
        assert {kind[place] for kind in kinds["train"]} == {kind[place] for kind in kinds["eval"]}
    for split, rng in (("train", np.random.default_rng(1)), ("eval", np.random.default_rng(1))):
        goals = [draw_goal(rng, products, split, 2) for _ in range(100)]
        assert all(one.kind in kinds[split] for goal in goals for one in goal.fitting.values())


def test_a_catalogue_follows_from_its_seed_and_names_are_unique() -> None:
    first = draw_catalogue(3, 1600)
    assert first == draw_catalogue(3, 1600) != draw_catalogue(4, 1600)
    assert len({one.name for one in first}) == 1600
    assert all(len(values) > 1 for one in first for values in one.options.values())


def test_the_outcome_is_the_share_that_what_was_bought_meets() -> None:
    products = draw_catalogue(0, 320)
    goal = draw_goal(np.random.default_rng(0), products, "train", 2)
    right = Item(next(iter(goal.fitting.values())), dict(goal.options))
    other = next(one for one in products if one.kind[0] != goal.kind[0])
    dear = next(one for one in products if one.kind[:2] == goal.kind[:2] and one.kind != goal.kind)
    assert goal.share([right]) == 1.0
    assert goal.share([Item(right.product, {"size": goal.options["size"]})]) == pytest.approx(4 / 5)
    assert goal.share([Item(dear, dict(goal.options))]) == pytest.approx((4 - (dear.price > goal.limit)) / 5)
    assert goal.share([Item(other, dict(goal.options))]) == 0.0
    assert goal.share([right, Item(other)]) == 0.5
    assert goal.share([right, right]) == 0.5
    assert goal.share([Item(dear, dict(goal.options))] * 2) < 0.5
    assert goal.share([]) == 0.0


def test_a_wrong_purchase_is_worth_its_share_and_guidance_says_what_was_wrong() -> None:
    env = make()
    play(env, 3, until=env._goal.options.get("colour", "") or "Add")
    other = next(row for row in env.view.rows if row.role == "radio" and row.name not in env._goal.options.values())
    for name in (other.name, *env._goal.options.values(), "Add", "Checkout", "Order"):
        if name != next((v for v in env._goal.options.values() if _is_same_kind(v, other.name)), None):
            last = env.step(f"click {named(env, name)}")
    assert [(event.channel, event.value) for event in last[4]["events"]] == [("outcome", pytest.approx(4 / 5))]
    assert last[2]
    assert env.guide() == f"not as wanted: {'colour' if other.name in OPTIONS['colour'] else 'size'}"
    assert not any(name in env.guide() for name in env.gold()["products"])


def test_only_an_order_of_one_thing_that_fits_is_worth_all_of_it() -> None:
    products, rng = draw_catalogue(0, 320), np.random.default_rng(0)
    stock, worths = Stock(products, page_size=4), []
    for seed in range(30):
        goal = draw_goal(np.random.default_rng(seed), products, ("train", "eval")[seed % 2], seed % 3)
        near = [*list(goal.fitting.values()) * 8, *(one for one in products if one.kind[:2] == goal.kind[:2])]
        for _ in range(20):
            for _ in range(rng.integers(1, 3)):
                chosen = goal.options if rng.random() < 0.8 else dict(list(goal.options.items())[1:])
                stock.add("v", near[rng.integers(len(near))], chosen)
            stock.order("v")
            bought = stock.bought("v")
            fits = len(bought) == 1 and bought[0].product.number in goal.fitting and bought[0].chosen == goal.options
            worths.append(goal.share(bought))
            assert (worths[-1] == 1.0) == fits == goal.is_met_by(bought)
            assert 0.0 <= worths[-1] <= 1.0 / len(bought)
            stock.forget("v")
    assert 50 < worths.count(1.0) < 300


def test_two_of_what_was_wanted_are_half_as_good_and_guidance_is_for_those_who_failed() -> None:
    env = make(num_options=0)
    play(env, 5, until="Checkout")
    assert env.step("go_back")[4]["is_valid"]
    for name in ("Add", "Checkout", "Order"):
        last = env.step(f"click {named(env, name)}")
    assert [(event.channel, event.value) for event in last[4]["events"]] == [("outcome", 0.5)]
    assert env.guide() == "not as wanted: more than one thing"
    play(env, 5)
    assert env.guide() is None


def test_threads_that_go_to_one_shop_at_once_share_it() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: shop(11, 1600, is_compact=True), range(4)))
    assert all(one is found[0] for one in found)


def test_a_visitor_may_be_forgotten_in_the_middle_of_anothers_query() -> None:
    stock, done = Stock(draw_catalogue(0, 160), page_size=4), threading.Event()
    gone = iter([lambda _: stock.forget("gone")])

    def ask() -> None:
        stock._base.set_trace_callback(lambda text: next(gone, str)(text))
        stock.basket("here")
        stock._base.set_trace_callback(None)
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(10)


def _is_same_kind(first: str, second: str) -> bool:
    return any(first in values and second in values for values in OPTIONS.values())


def test_progress_is_paid_once_and_a_basket_can_be_mended() -> None:
    env = make()
    play(env, 5, until="Checkout")
    assert env.guide() == "nothing was ordered; not reached: checkout"
    before = env.state_key()
    assert env.oracle(f"click {named(env, 'Remove')}") == 0.0
    assert env.step(f"click {named(env, 'Remove')}")[1] == 0.0
    assert env.state_key() != before
    assert "nothing in the basket" in env.view.rows[-1].name
    assert env.step("go_back")[4]["is_valid"]
    assert env.step(f"click {named(env, 'Basket')}")[1] == 0.0


def test_a_demonstrator_who_errs_still_buys_and_often_the_wrong_thing() -> None:
    env = make(compact=True, mistakes=None)
    ends = [play(env, seed)[-1][1].get("outcome") for seed in range(60)]
    bought = [end for end in ends if end is not None]
    assert len(bought) > 50
    assert 0.55 < sum(end == 1.0 for end in bought) / len(ends) < 0.8


def test_filters_narrow_what_a_search_found() -> None:
    env = make()
    env.reset(seed=0)
    for action in ("fill 1 | light bag leather shoe", "click 2"):
        env.step(action)
    lists = {row.name: row.bid for row in env.view.rows if row.role == "combobox"}
    env.step(f"select_option {lists['Material']} | leather")
    env.step(f"select_option {lists['Price']} | up to 50")
    env.step(f"click {named(env, 'Filter')}")
    found = [row.name for row in env.view.rows if row.role == "link" and " " in row.name]
    prices = [int(row.name[7:9]) for row in env.view.rows if row.name.startswith("Price: ")]
    assert found
    assert all(" leather " in name for name in found)
    assert max(prices) <= 50
    assert env.step(f"click {named(env, 'Next')}")[4]["is_valid"]
    assert [row.name for row in env.view.rows if "selected" in row.states] == ["leather", "up to 50"]


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("fill 1 | a\nb", "fill needs text to be a line of at most 100 characters that can be printed"),
        ("fill 1 | " + "x" * 101, "fill needs text to be a line"),
        ("go_back", "there is nothing to go back to"),
        ("select_option 1 | a", "element 1: it is no list of options"),
        ("press 1 | Enter", "unknown tool press; expected one of click, fill, select_option, go_back"),
    ],
)
def test_what_cannot_be_done_is_an_error_above_the_page(action: str, error: str) -> None:
    env = make()
    env.reset(seed=0)
    messages, reward, *_, info = env.step(action)
    assert messages[0]["content"].startswith(f"error: {error}")
    assert '[2] button "Find"' in messages[0]["content"]
    assert (reward, info["is_valid"], env.oracle("press 1")) == (-1.0, False, -1.0)


def test_short_pages_have_words_of_the_lexicon_only() -> None:
    env, known = make(compact=True), {*lexicon_words(), ";", "|"}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        text = env.reset(seed=seed)[0][0]["content"]
        for _ in range(10):
            words = set(text.split())
            assert {word for word in words if not word.isdigit()} <= known
            assert all(int(word) < 512 for word in words if word.isdigit())
            assert len(text) < 600
            action = env.demonstrate(rng)
            messages, _, terminated, _, _ = env.step(action)
            assert {word for word in action.split() if not word.isdigit()} <= known
            text = messages[0]["content"]
            if terminated:
                break


def test_visitors_of_one_shop_do_not_see_each_other_and_begin_with_an_empty_basket() -> None:
    first, second = make(), make()
    play(first, 5, until="Checkout")
    second.reset(seed=5)
    second.step(f"click {named(second, 'Basket')}")
    assert "nothing in the basket" in second.view.rows[-1].name
    second.close()
    assert len(first._shop.stock.basket(first._visit)) == 1
    first.reset(seed=5)
    assert first._shop.stock.basket(first._visit) == []


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"via": "carrier"}, "env.kwargs.via=carrier: no such name; give one of http, browser"),
        ({"num_products": 10}, "env.kwargs.num_products=10: out of range; give a whole number from 160 to 1600"),
        ({"num_options": 3}, "env.kwargs.num_options=3: out of range; give a whole number from 0 to 2"),
        ({"compact": "yes"}, "env.kwargs.compact=yes: neither true nor false; give one of them"),
        ({"coordinates": True}, "env.kwargs.coordinates=True: has no effect without a browser; set via=browser too"),
        ({"mistakes": {"hasti": 1}}, "env.kwargs.mistakes.hasti=1: no such mistake; did you mean hasty?"),
        ({"catalogue": -1}, "env.kwargs.catalogue=-1: out of range; give a whole number from 0 to 2147483647"),
    ],
)
def test_an_option_that_does_not_fit_is_the_users_mistake(kwargs: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as raised:
        make_env(ID, kwargs)
    assert str(raised.value) == line


def test_a_package_that_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnwise_envs.shop.app.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"starlette, .*, is not installed; pip install \"turnwise\[shop\]\""):
        make(catalogue=77)


def test_without_a_browser_nothing_of_one_is_loaded_and_a_step_takes_milliseconds() -> None:
    code = f"""
import sys
from turnwise.tasks import make_env
env = make_env({ID!r})
env.reset(seed=0)
env.step("click 7")
print([name for name in ("playwright", "uvicorn", "ray", "torch") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    env, steps, start = make(compact=True), 0, time.thread_time()
    for seed in range(20):
        steps += len(play(env, seed))
    assert steps / (time.thread_time() - start) > 100
