"""The resolved configuration as YAML for the run folder: secrets masked, keys without effect left out.

What came from `${oc.env:NAME}` is written as that, so the file holds no secret and can be loaded again.
"""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from turnwise.config.effects import is_in_effect
from turnwise.config.keys import shown
from turnwise.config.load import Loaded


def masked_yaml(loaded: Loaded) -> str:
    """Return the configuration with all defaults; `load_config` accepts it unless a secret was masked."""
    tree = OmegaConf.to_container(loaded.node, resolve=False)
    return OmegaConf.to_yaml(OmegaConf.create(_masked(tree, "", loaded)))


def _masked(value: Any, key: str, loaded: Loaded) -> Any:
    if isinstance(value, list):
        return [_masked(item, f"{key}.{index}", loaded) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return shown(key, value)
    items = {name: (f"{key}.{name}" if key else str(name), item) for name, item in value.items()}
    return {name: _masked(item, inner, loaded) for name, (inner, item) in items.items() if _is_kept(inner, loaded)}


def _is_kept(key: str, loaded: Loaded) -> bool:
    return key not in loaded.known or is_in_effect(key, loaded.values, loaded.known)
