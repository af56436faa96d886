"""Keys: randomness as a value. A key names a stream of random numbers and is never used up.

``key.child(...)`` names a different, independent stream. The path is the spawn key of NumPy's ``SeedSequence``, so
streams do not overlap. ``draws.py`` has the functions that draw from a key.
"""

from __future__ import annotations

from operator import index
from typing import SupportsIndex

from attrs import frozen

from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.tracing import whole


@frozen
class Key:
    """A name for a stream of random numbers.

    Args:
        seed: An int from 0 to 2**64 - 1.
        path: The position of this key below the seed. Use ``child`` to extend it.

    Example:
        >>> key = Key(42)
        >>> key.child("init", 0) == key.child("init").child(0)
        True
        >>> key.child("shuffle", 3)
        Key(42, 2402330706, 3)
    """

    seed: int
    path: tuple[int, ...] = ()

    def __attrs_post_init__(self) -> None:
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must be an int from 0 to 2**64 - 1, got {self.seed!r}", subject="Key")
        if type(self.path) is not tuple:
            raise ConfigError(f"path must be a tuple of ints, got {self.path!r}", subject="Key")
        for part in self.path:
            _check_part(part)

    @whole
    def child(self, *path: SupportsIndex | str) -> Key:
        """Return a key below this one. Each part of the path is an int from 0 to 2**32 - 1, or a string.

        A string is converted to the first 4 bytes, big-endian, of the SHA-256 of its UTF-8 encoding.

        Raises:
            ConfigError: If a part is neither.
        """
        return Key(self.seed, (*self.path, *map(_part, path)))

    def __repr__(self) -> str:
        return f"Key({', '.join(map(str, (self.seed, *self.path)))})"


register_name(Key, "funcnet.Key")


def _part(part: SupportsIndex | str) -> int:
    if isinstance(part, str):
        import hashlib  # noqa: PLC0415  # 4 ms of import time

        try:
            return int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "big")
        except UnicodeEncodeError:
            raise ConfigError(f"a part of a path must be text, got {part!r}", subject="Key") from None
    try:
        return _check_part(part if isinstance(part, bool) else index(part))
    except TypeError:  # not an integer
        return _check_part(part)


def _check_part(part: object) -> int:
    # NumPy's SeedSequence encodes (2**32,) and (0, 1) alike, so a larger int would not be a unique name.
    if type(part) is not int or not 0 <= part < 2**32:
        wanted = "a string or an int from 0 to 2**32 - 1"
        raise ConfigError(f"a part of a path must be {wanted}, got {part!r}", subject="Key")
    return part


def check_key(subject: str, key: object) -> None:
    """Check that a setting is a key.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(key, Key):
        fix = f"; use Key({key})" if type(key) is int else ""
        raise ConfigError(f"key must be a Key, got {key!r}{fix}", subject=subject)
