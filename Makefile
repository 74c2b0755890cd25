# Two commands for a newcomer: `make train` and `make test`. Both set everything up first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= quickstart-$(shell date +%Y%m%d-%H%M%S)
STAMP := $(VENV)/.installed
SWE_PACKAGES := more-itertools==11.2.1 sqlparse==0.6.1 parse==1.22.4 tinydb==4.9.0 toolz==1.0.0 funcy==2.1

.DEFAULT_GOAL := help
.PHONY: help setup train test slow lint format lock base-model code-model swe-tasks curves curves-swe credit flagship bench bench-environments soak-sandbox clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with the pinned CPU set-up

# torch comes first and alone: with it installed nothing later asks for another build of it.
$(STAMP): pyproject.toml requirements/cpu.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "Turnwise needs Python 3.11 or 3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements/cpu.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/cpu.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(STAMP)

train: $(STAMP)  ## train the quickstart agent; the run's folder is runs/$(RUN)
	$(BIN)/turnwise train examples/quickstart.yaml name=$(RUN)

test: $(STAMP)  ## run all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile tests/attack tests/unit; apart=$$?; \
	    $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder tests/flow && exit $$apart

slow: $(STAMP)  ## the tests that take many minutes: FrozenLake to nine tenths of the optimum
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## resolve the pinned CPU set-up anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
	    --extra dev --extra embed --extra lora --excludes requirements/excludes.txt pyproject.toml -o requirements/cpu.lock
	grep -v '^#' requirements/no-deps.txt >> requirements/cpu.lock

base-model: $(STAMP)  ## make the shipped tiny base model again (about eight minutes on two cores)
	cd examples && ../$(BIN)/python -m tiny_model.make

code-model: $(STAMP)  ## make the shipped base model of code again (about fifteen minutes on two cores)
	cd examples && ../$(BIN)/python -m code_model.make

swe-tasks: $(STAMP)  ## make the tasks of docs/swe.md from seven real packages, in swe-tasks/ (an hour)
	$(BIN)/turnwise swe build --bugs 60 --output swe-tasks $(addprefix --package ,$(SWE_PACKAGES))
	$(BIN)/turnwise swe build --bugs 240 --output swe-tasks --package boltons==26.2.0

curves: $(STAMP)  ## three seeds of the quickstart and of FrozenLake: the table and the pictures in docs/
	$(BIN)/python benchmarks/curves.py

curves-swe: $(STAMP)  ## three seeds of a small agent that mends packages (needs swe-tasks/)
	$(BIN)/python benchmarks/curves.py --only swe_small

credit: $(STAMP)  ## the benchmark of credit, in small decision processes and with a language model (hours)
	$(BIN)/python benchmarks/credit.py --json docs/results/credit.json --learn default turn_loo "turn_loo, judged" \
	    turnwise "turnwise, judged" "turnwise, by state" "turnwise, own" gigpo istar
	$(BIN)/python benchmarks/credit_lm.py --resume
	$(BIN)/python benchmarks/credit_gradients.py --json docs/results/credit-gradients.json

flagship: $(STAMP)  ## the flagship against GRPO on the outcome alone, and its ablations, in docs/rewards.md (hours)
	$(BIN)/python benchmarks/flagship.py --resume --only flagship grpo
	$(BIN)/python benchmarks/flagship.py --resume --seeds 3

bench: $(STAMP)  ## the benchmarks of docs/performance.md and docs/sandbox.md
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/sandbox.py --json docs/results/sandbox.json

bench-environments: $(STAMP)  ## what environments cost, in docs/results/environments.json (needs the browser)
	$(BIN)/python benchmarks/environments.py --json docs/results/environments.json

soak-sandbox: $(STAMP)  ## 500 episodes of every sandbox tier, and what is left of them (many minutes)
	$(BIN)/python benchmarks/sandbox_soak.py --json docs/results/sandbox-soak.json

clean:  ## remove the virtual environment and caches (never runs/)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
