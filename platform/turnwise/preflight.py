"""Looks at the world before a run: folders, model, environment, first prompts, ports, cluster.

`check` is called before anything is started or written; every mistake is a `UserError` naming field, value and remedy.
The configuration alone was checked when it was loaded. Not promised: that what was found stays so during the run.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from turnwise.cluster import check_cluster
from turnwise.config import Loaded, build_plugin, masked_yaml
from turnwise.config.keys import shown
from turnwise.config.schema import RunConfig
from turnwise.curriculum import Curriculum
from turnwise.deadline import within
from turnwise.demonstration_files import read_for
from turnwise.errors import UserError
from turnwise.models import resolve_model, tokenizer_of
from turnwise.registry import lookup
from turnwise.run_folder import RunFolder
from turnwise.tasks import TaskSet

NUM_PROMPTS = 4
"""Tasks whose first prompts are tried."""

FIXED = ("seed", "model", "env", "agent", "sft", "rollout.curriculum")
"""Sections that a resumed run must have as the run began: they decide its weights' shape, its tasks and its prompts."""

UNSET = "nothing"
"""What a message calls the value of a key that is not there."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check(loaded: Loaded) -> None:
    """Raise UserError for the first thing that would stop this run; cheap looks come first, nothing is written."""
    config = loaded.config
    check_run_folder(config)
    check_resumed(loaded)
    folder = check_model(config.model.path)
    _check_extras(config)
    check_cluster(config.ray)
    check_world(config, folder)
    _check_demonstrations(config)


def check_evaluation(loaded: Loaded) -> None:
    """Raise UserError for what would stop the evaluation of a model; nothing is written."""
    config = loaded.config
    folder = check_model(config.model.path)
    check_cluster(config.ray)
    check_world(config, folder)


def check_run_folder(config: RunConfig) -> None:
    """Raise UserError if the run's folder exists (without resume), or cannot be made."""
    folder = RunFolder(Path(config.runs_dir) / config.name).path
    if folder.is_dir() and any(folder.iterdir()) and not config.resume:
        raise UserError("name", config.name, f"{folder} holds a run already", "set resume=true or choose another name")
    if config.resume and not folder.is_dir():
        raise UserError("resume", "true", f"there is no run in {folder}", "set resume=false or another name")
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if _exists(parent))
    problem = None if nearest.is_dir() else f"{nearest} is no folder"
    if problem is None and not os.access(nearest, os.W_OK | os.X_OK):
        problem = f"{nearest} cannot be written to"
    if problem is not None:
        raise UserError("runs_dir", config.runs_dir, problem, "choose a folder that can be written to")


def check_resumed(loaded: Loaded) -> None:
    """Raise UserError if a run would go on as another one: what its checkpoints and tasks depend on was changed."""
    file = RunFolder(Path(loaded.config.runs_dir) / loaded.config.name).config
    if not loaded.config.resume or not file.is_file():
        return
    first, now = OmegaConf.load(file), OmegaConf.create(masked_yaml(loaded))
    for section in FIXED:
        before, after = (_leaves(section, OmegaConf.select(tree, section)) for tree in (first, now))
        for key in (*after, *(before.keys() - after.keys())):
            if before.get(key, UNSET) != after.get(key, UNSET):
                former, value = (shown(key, leaves.get(key, UNSET)) for leaves in (before, after))
                remedy = f"leave out {key}" if former == UNSET else f"resume with {key}={former}"
                problem = f"the run in {file.parent} began with {former}"
                raise UserError(key, value, problem, f"{remedy}, or begin a run of another name")


def check_model(path: str) -> Path:
    """Return the model's folder; UserError if weights, configuration, tokenizer or chat template are missing."""
    folder = resolve_model(path)
    for what, names in (("configuration", ("config.json",)), ("weights", _WEIGHTS), ("tokenizer", _TOKENIZERS)):
        if not any((folder / name).is_file() for name in names):
            problem = f"{folder} has no {what} ({' or '.join(names)})"
            raise UserError("model.path", path, problem, "give a complete folder in Hugging Face format")
    if not _has_chat_template(folder):
        remedy = "add chat_template.jinja, or use a model that was trained on chats"
        raise UserError("model.path", path, "the tokenizer has no chat template", remedy)
    return folder


def check_world(config: RunConfig, folder: Path) -> None:
    """Raise UserError if there are no tasks, or the first prompts of some do not fit the context."""
    from turnwise.rollout.preflight import (
        check_first_prompts,
        check_guide_exists,
        check_keys_exist,
        check_oracle_exists,
    )

    tasks = TaskSet.of(config.env.id, config.env.kwargs, "train", config.seed)
    if config.eval.tasks:
        TaskSet.of(config.env.id, config.env.kwargs, "eval", config.seed)
    if config.rollout.curriculum:
        Curriculum(tasks, config.rollout.curriculum, {}, success=("", 0.0))
    _check_lengths(config, folder)
    agent_class, options = build_plugin("agent", config.agent)
    agent = agent_class(options, load_tokenizer(folder))
    first = [tasks.task(index) for index in range(NUM_PROMPTS)]
    limit_s, problem = config.timeouts.reset_s, "the environment took longer over its first observations"
    late = UserError("timeouts.reset_s", f"{limit_s:g}", problem, f"mend {config.env.id}, or raise it")
    within(limit_s, lambda: check_first_prompts(agent, config.env.kwargs, first), lambda: late)
    estimator = config.credit.estimator["name"]
    kind = getattr(lookup("estimator", estimator), "needs_keys", None)
    if kind is not None:
        within(limit_s, lambda: check_keys_exist(config.env.kwargs, first[0], kind, estimator), lambda: late)
    if config.rollout.oracle:
        within(limit_s, lambda: check_oracle_exists(config.env.kwargs, config.env.id), lambda: late)
    if share := config.rollout.guided.share:
        within(limit_s, lambda: check_guide_exists(config.env.kwargs, config.env.id, share), lambda: late)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model's folder; UserError if it cannot be loaded."""
    try:
        # Lengths are checked against the agent's and the engine's limits; the tokenizer's own would only add a warning.
        return tokenizer_of(folder, model_max_length=2**31)
    except (OSError, ValueError, KeyError) as error:
        problem = f"its tokenizer cannot be loaded ({str(error).splitlines()[0]})"
        raise UserError("model.path", folder, problem, "give a folder in Hugging Face format") from error


def _check_extras(config: RunConfig) -> None:
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "log.wandb", "true", "the package wandb is not installed", "pip install wandb, or set it to false"
        )


def _check_demonstrations(config: RunConfig) -> None:
    """Refuse files that are not for this run, unless they have done their work before a resume."""
    if not (config.resume and RunFolder(Path(config.runs_dir) / config.name).warmstart.is_dir()):
        read_for(config)


def _check_lengths(config: RunConfig, folder: Path) -> None:
    """Refuse an agent that may write longer contexts than engine or model can hold."""
    wanted = config.agent.get("max_context")
    if not isinstance(wanted, int):
        return
    of_model = _read_json(folder / "config.json").get("max_position_embeddings")
    for holder, limit in (
        ("engine.max_context", config.engine.get("max_context")),
        ("the model's positions", of_model),
    ):
        if isinstance(limit, int) and wanted > limit:
            problem = f"exceeds {holder}={limit}"
            raise UserError("agent.max_context", wanted, problem, f"use at most {limit}, or raise {holder}")


def _leaves(key: str, value: Any) -> dict[str, Any]:
    """Return the values below a dotted key; a mapping or list without entries is a value."""
    if not OmegaConf.is_dict(value) or not len(value):
        return {key: value}
    return {leaf: v for name in value for leaf, v in _leaves(f"{key}.{name}", value[name]).items()}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or any((folder / "additional_chat_templates").glob("*.jinja")):
        return True
    return any("chat_template" in _read_json(folder / name) for name in ("tokenizer_config.json", "chat_template.json"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
