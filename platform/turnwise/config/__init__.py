"""Configuration: defaults, a YAML file and `key=value` overrides become one checked `RunConfig`.

`load_config` is what the command line and Python callers use. `schema` holds the keys; what a plug-in adds is
in its own `Config` dataclass.
"""

from turnwise.config.load import Loaded, load_config
from turnwise.config.masking import masked_yaml
from turnwise.config.plugins import build_plugin
from turnwise.config.schema import RunConfig, key

__all__ = ["Loaded", "RunConfig", "build_plugin", "key", "load_config", "masked_yaml"]
