"""Importing a package of ours starts nothing heavy."""

import subprocess
import sys

import pytest

PACKAGES = ["turnwise_agents", "turnwise_agents.chat", "turnwise_rewards", "turnwise_rewards.events"]


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_loads_neither_torch_nor_ray(package):
    code = f"import sys, {package}; print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_environments_load_neither_torch_nor_ray():
    code = "import sys, turnwise_envs as e; e.register_all(); print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_our_agents_and_scorers_are_found_by_name():
    from turnwise.registry import lookup

    assert lookup("agent", "chat").__name__ == "ChatAgent"
    assert lookup("scorer", "events").__name__ == "EventsScorer"
    assert lookup("model", "tiny").name == "tiny"


def test_plugins_are_loaded_once_however_many_threads_ask():
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool; from turnwise.registry import lookup\n"
        "with Pool(16) as pool:\n"
        "    print(len(set(pool.map(lambda _: lookup('model', 'tiny'), range(64)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "1", done.stderr
