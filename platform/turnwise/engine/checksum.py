"""A checksum of weights as numpy arrays, on which learner and engine must agree before a token is sampled.

The learner computes it over what it publishes, an engine over what its model holds after loading. It detects mistakes
and corruption, not malice: there is no key in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def checksum(state: Mapping[str, NDArray[np.generic]]) -> str:
    """Return blake2b (128 bits, hex) over name, dtype, shape and bytes of every array, in the order of names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        digest.update(f"{name}\0{array.dtype.str}\0{state[name].shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
