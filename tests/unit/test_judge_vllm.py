"""The judge `llm` before a real vLLM server with the tiny model: whatever it says, the form of its replies holds.

Slow, and only where vLLM is installed (the extra `vllm` or `vllm-cpu`). A model of this size judges nothing well: this
checks that endpoint, schema and judge fit together.
"""

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from turnwise.errors import UserError
from turnwise.models import resolve_model
from turnwise_rewards.judging import Question
from turnwise_rewards.judging.llm import LlmConfig, Model
from turnwise_rewards.judging.schemas import check_fits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
START_S = 480
QUIET = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture
def endpoint(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(resolve_model("tiny"))]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--no-enable-chunked-prefill"]  # 0.32 on a CPU dies of seeds where a prompt is cut in pieces
    command += ["--structured-outputs-config", '{"backend":"guidance","disable_any_whitespace":true}']
    with (tmp_path / "vllm.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | QUIET, start_new_session=True)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its engine is a process of its own
            server.wait(30)


@pytest.mark.timeout(900)
def test_twenty_replies_of_a_vllm_server_fit_their_schemas(endpoint):
    model = Model(LlmConfig(model="tiny", base_url=endpoint, max_tokens=64, timeout_s=60.0, temperature=1.0))
    deadline = time.monotonic() + START_S
    while True:
        try:
            model.check()
            break
        except UserError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(2)

    async def ask_all():
        questions = [question(number) for number in range(20)]
        replies = await asyncio.gather(*(model.ask(one) for one in questions))
        await model.close()
        return zip(questions, replies, strict=True)

    for asked, reply in asyncio.run(ask_all()):
        check_fits(asked, reply.value)
    assert model.usage()["failures"] == 0


def question(number):
    if number % 2:
        known = {"criterion": "It names a city.", "low": 0, "high": 5}
        return Question(kind="grade", instructions="Grade.", known=known, quoted={"text": f"Oslo {number}"})
    known = {"question": "Which city?", "answer": "Oslo", "aliases": []}
    return Question(kind="same_answer", instructions="Decide.", known=known, quoted={"answer": f"Bergen {number}"})
