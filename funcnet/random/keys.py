"""Keys: randomness as a value. A key names a stream of random numbers and is never used up.

``key.child(...)`` names a different, independent stream. The path is the spawn key of NumPy's ``SeedSequence``, so
streams do not overlap. ``draws.py`` has the functions that draw from a key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import index
from typing import TYPE_CHECKING, ParamSpec, SupportsIndex, TypeVar

from attrs import frozen

from funcnet.core.checks import to_python
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import Settings, public_name, required
from funcnet.tracing import whole

if TYPE_CHECKING:
    from inspect import Signature

P = ParamSpec("P")
R = TypeVar("R")


@frozen
class Key(Settings):
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

    def check(self) -> None:
        """Check that the seed and the path are ints in their ranges."""
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


def keyed(make: Callable[P, R]) -> Callable[P, R]:
    """Make a function whose first argument is a key name the right call if the caller leaves the key out.

    Example:
        >>> import funcnet as fn
        >>> fn.dense(64, 10)
        Traceback (most recent call last):
        funcnet.ConfigError: dense: the first argument must be a Key; use fn.dense(key, 64, 10) with key = fn.Key(seed)
    """

    @wraps(make)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if "key" not in kwargs and not (args and isinstance(args[0], Key)):
            _check_call(make, args, kwargs)
        return make(*args, **kwargs)

    return run


def _check_call(make: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    """Check that a call without a key has the right number of arguments; ``make`` checks what they are.

    Raises:
        ConfigError: If it does not. The message has the call with a key.
    """
    from inspect import signature  # noqa: PLC0415  # 8 ms of import time

    if _binds(signature(make), *args, **kwargs):
        return
    given = [f"{arg!r:.80}" for arg in args] + [f"{name}={arg!r:.80}" for name, arg in kwargs.items()]
    if not _binds(signature(make), None, *args, **kwargs):
        given = required(make)[1:]
    name = public_name(make)
    reason = f"the first argument must be a Key; use {name}({', '.join(['key', *given])}) with key = fn.Key(seed)"
    raise ConfigError(reason, subject=make.__name__)


def _binds(signature: Signature, *args: object, **kwargs: object) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def check_key(subject: str, key: object) -> None:
    """Check that a setting is a key.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(key, Key):
        fix = f"; use Key({key})" if type(to_python(key)) is int else ""
        raise ConfigError(f"key must be a Key, got {key!r}{fix}", subject=subject)
