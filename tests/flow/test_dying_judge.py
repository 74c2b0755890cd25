"""A judge behind an endpoint that dies in the middle of a training: what it did not say is missing, and never 0."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training import scores, series, small_run

from turnwise.errors import MaskedError
from turnwise.store.store import Store

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from judge_server import MODEL, JudgeServer, says

NUM_ANSWERED = 20


@pytest.fixture
def mortal() -> Iterator[JudgeServer]:
    """An endpoint that says yes to so many questions and then closes its socket and all connections."""
    yes: Callable[..., Any] = says({"same": True})
    asked = iter(range(10**9))

    async def act(request: Any, body: Any) -> Any:
        if next(asked) == NUM_ANSWERED:
            end.start()
        return await yes(request, body)

    server = JudgeServer(act)
    end = threading.Thread(target=server.die)
    yield server
    if end.ident is not None:
        end.join(30)
    server.die()


def judged(server: JudgeServer) -> dict[str, Any]:
    judge = {"name": "llm", "model": MODEL, "base_url": server.url, "attempts": 2, "backoff_s": 0.05, "timeout_s": 5.0}
    return {
        "rewards": [{"name": "events"}, {"name": "answer", "judge": judge}],
        "credit__channels": {"outcome": 1.0, "correct": 0.5},
        "learner__updates": 5,
        "sft__steps": 24,
        "eval__tasks": 0,
    }


def test_what_a_dead_judge_did_not_say_is_masked_and_the_run_goes_on_where_that_is_wanted(
    cluster_address: str, tmp_path: Path, mortal: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring = {"max_masked": 1.0, "attempts": 1, "breaker_failures": 3}
    summary = small_run(cluster_address, tmp_path, **judged(mortal), scoring=scoring, log__progress=True)
    assert (summary["status"], summary["updates"]) == ("finished", 5)
    rows = scores(tmp_path / "run", "correct")
    found = [row for row in rows if row["value"] is not None and row["value"] > 0]
    missing = [row for row in rows if row["value"] is None]
    assert found, "it was alive at first"
    assert missing, "and dead for most of the run"
    zeros = Store(tmp_path / "run").rows("select evidence from scores where channel = 'correct' and value = 0")
    assert {row["evidence"] for row in zeros} <= {"unanswered"}, "a judge that always says yes has given no 0"
    causes = {row["cause"] for row in missing}
    assert all("the endpoint gave no reply" in cause or "circuit breaker open" in cause for cause in causes), causes
    shares = series(tmp_path / "run", "reward/answer/masked_share")
    assert shares[-1] > shares[0]
    assert series(tmp_path / "run", "credit/masked_share")[-1] > 0, "what is missing is not trained on"
    assert summary["failures"]["judge:score"] >= 1
    assert capsys.readouterr().out.count("first failure judge:score: ") == 1, "the first is told, with its cause"


def test_a_dead_judge_ends_the_run_where_too_much_is_missing(
    cluster_address: str, tmp_path: Path, mortal: JudgeServer
) -> None:
    scoring = {"max_masked": 0.2, "attempts": 1, "breaker_failures": 3}
    with pytest.raises(
        MaskedError, match=r"reward:answer:1: \d+% .* scoring.max_masked=0.2; most often: .*resume=true"
    ):
        small_run(cluster_address, tmp_path, **judged(mortal), scoring=scoring)
