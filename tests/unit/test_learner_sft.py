"""The supervised warm start: the rollout's own tokens, loss on actions alone, and its own optimizer."""

import dataclasses

import numpy as np
import pytest
from agent_templates import TEMPLATES, tokenizer_with
from learner_pieces import assert_same_weights, learner, make_batch, reference_logprobs, save_model

from turnwise.config.schema import SftConfig
from turnwise.demonstrations import Demonstration
from turnwise.errors import NumericsError, UserError
from turnwise.learner.sft import TokenRows, step_rows, token_rows, train
from turnwise.records import Task
from turnwise_agents.chat import ChatAgent, ChatConfig

TOKENIZER = tokenizer_with(TEMPLATES["chatml"])
TASK = Task(env_id="turnwise-tests/None-v0", task_id="0", seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def agent(**options):
    return ChatAgent(ChatConfig(**({"format": "text"} | options)), TOKENIZER)


def demonstration(*texts, system=None):
    """Observation and action in turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    head = [] if system is None else [{"role": "system", "content": system}]
    return Demonstration(task=TASK, tools=[], messages=head + messages, outcome=1.0)


def packed(batch):
    return TokenRows(ids=batch.ids, loss_mask=batch.loss_mask, row_offsets=batch.row_offsets)


def spelled(rows, row):
    start, stop = rows.row_offsets[row : row + 2]
    return TOKENIZER.decode(rows.ids[start:stop]), TOKENIZER.decode(rows.ids[start:stop][rows.loss_mask[start:stop]])


def test_a_row_is_the_dialogue_of_the_rollout_and_only_actions_are_in_the_loss():
    told = agent(show_instructions=True)
    shown = demonstration("go", "open page", "the page", "answer it", "done", system="Be good.")
    rows = token_rows([shown], told)
    text, actions = spelled(rows, 0)
    assert actions == "open page<|im_end|>answer it<|im_end|>"
    assert "the page" in text
    assert "Be good." in text
    dialogue = told.begin(instructions="Be good.", tools=[], observation=[{"role": "user", "content": "go"}])
    dialogue.act(dialogue.spell("open page"))
    dialogue.observe([{"role": "user", "content": "the page"}])
    expected = np.concatenate([dialogue.prompt().context_ids, dialogue.spell("answer it")])
    assert rows.ids.tolist() == expected.tolist()


def test_a_context_that_begins_anew_begins_a_row():
    rows = token_rows([demonstration("go", "open page", "the page", "answer it", "done")], agent(history_turns=0))
    assert rows.num_rows == 2
    assert [spelled(rows, row)[1] for row in range(2)] == ["open page<|im_end|>", "answer it<|im_end|>"]
    assert "open page" not in spelled(rows, 1)[0]


def test_a_demonstration_ends_where_the_context_is_full():
    long = demonstration(*("the page " * 3 if n % 2 == 0 else "open page" for n in range(40)))
    rows = token_rows([long], agent(max_context=64, max_action_tokens=16))
    assert rows.num_rows == 1
    assert 0 < rows.row_offsets[-1] <= 64


def test_a_first_prompt_that_does_not_fit_is_named():
    with pytest.raises(UserError, match=r"agent.max_context=20"):
        token_rows([demonstration("the page " * 50, "open page")], agent(max_context=20, max_action_tokens=8))


def test_taking_rows_keeps_their_tokens():
    rows = token_rows([demonstration("go", f"say {n}") for n in range(4)], agent())
    taken = rows.take(np.asarray([2, 0]))
    assert [spelled(taken, row) for row in range(2)] == [spelled(rows, 2), spelled(rows, 0)]


def test_every_row_is_seen_once_an_epoch_in_an_order_that_the_seed_decides():
    drawn = np.concatenate([step_rows(10, 4, 0, step) for step in range(5)])
    assert sorted(drawn[:10]) == list(range(10))
    assert sorted(drawn[10:]) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert step_rows(10, 4, 0, 3).tolist() == step_rows(10, 4, 0, 3).tolist()
    assert step_rows(10, 4, 1, 3).tolist() != step_rows(10, 4, 0, 3).tolist()


def test_the_loss_is_the_mean_surprise_of_action_tokens(folder):
    found = learner(folder, temperature=0.5)
    batch = make_batch()
    expected = -reference_logprobs(found.model, batch)[batch.loss_mask].mean()
    assert found.sft_update(packed(batch), lr=1e-3) == pytest.approx(expected, rel=1e-5)


def test_imitation_learns_and_its_steps_can_be_done_in_parts(folder):
    rows = packed(make_batch(num_trajectories=8))
    config = SftConfig(steps=12, batch_size=4, lr=5e-3)
    whole, parts = learner(folder), learner(folder)
    seen = []
    losses = train(whole, rows, config, seed=0, after_step=lambda step, loss: seen.append((step, loss)))
    assert losses[-1] < losses[0] - 0.3
    assert seen == list(enumerate(losses))
    assert train(parts, rows, config, 0, last=5) + train(parts, rows, config, 0, first=5, last=99) == losses
    assert_same_weights(whole, parts)
    assert whole.version == 0
    assert whole.num_sft_steps == 12


def test_the_rate_falls_along_a_cosine_to_a_tenth():
    rates = []

    class Recorder:
        def sft_update(self, packed, lr):
            rates.append(lr)
            return 0.0

    train(Recorder(), packed(make_batch()), SftConfig(steps=11, batch_size=2, lr=1.0), seed=0)
    assert rates[0] == 1.0
    assert rates[5] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)


def test_the_warm_starts_optimizer_leaves_no_trace_in_reinforcement(folder, tmp_path):
    warm = learner(folder)
    train(warm, packed(make_batch()), SftConfig(steps=3, batch_size=2, lr=1e-3), seed=0)
    warm.save(tmp_path / "warm")
    fresh = learner(tmp_path / "warm")
    assert warm.update(make_batch()) == fresh.update(make_batch())
    assert_same_weights(warm, fresh)
    for each in (warm, fresh):  # and a second warm start begins anew
        each.sft_update(packed(make_batch()), lr=1e-3)
    assert_same_weights(warm, fresh)


def test_a_loss_that_is_not_finite_is_refused(folder):
    found = learner(folder)
    before = found.export()[1]
    found.model.model.norm.weight.data[0] = float("nan")
    broken = found.export()[1]
    with pytest.raises(NumericsError):
        found.sft_update(packed(make_batch()), lr=1e-3)
    assert found.export()[1] == broken != before
    assert found.num_sft_steps == 0


def test_rows_without_an_action_are_refused(folder):
    rows = packed(make_batch())
    with pytest.raises(ValueError, match="no token"):
        learner(folder).sft_update(dataclasses.replace(rows, loss_mask=np.zeros_like(rows.loss_mask)), lr=1e-3)
