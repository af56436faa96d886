"""Fingerprints: one SHA-256 that identifies a value to the last bit."""

from __future__ import annotations

import hashlib
from typing import Final

from funcnet.runs.structure import canonical, raw, take_apart

_VERSION: Final = b"funcnet fingerprint 1\n"


def fingerprint(value: object) -> str:
    """Return the SHA-256 of a value, 64 hexadecimal digits: equal for equal values on every machine, in every process.

    Args:
        value: A network, a ``TrainState``, a step, a key, a batch, an array, a number, a string, or a tuple of values.

    Returns:
        A hash of types, names, settings, dtypes, shapes and every bit of every array. Memory order, byte order and the
        sign of a NaN in a setting do not affect it.

    Raises:
        ConfigError: If something in the value has no name, such as a lambda; the message says what, where, and the fix.

    Example:
        >>> import funcnet as fn
        >>> fingerprint((fn.ReLU(), fn.Dropout(0.5)))[:16]
        '869539e4a255d0d5'
        >>> fingerprint((fn.ReLU(), fn.Dropout(0.25)))[:16]
        '518eb782c210e518'
    """
    structure, arrays = take_apart(value, "fingerprint")
    text = canonical(structure)
    digest = hashlib.sha256(_VERSION + len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        digest.update(raw(array))
    return digest.hexdigest()
