"""Strict JSON: text from a file, without duplicate keys, long numbers, NaN and infinity."""

from __future__ import annotations

import json
import re
from typing import Final, TypeGuard

from funcnet.core.errors import CheckpointError, printable, quoted

_MAX_DIGITS: Final = 1300
_MAX_DEPTH: Final = 1000
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))


def parse(text: bytes, *, floats: bool = False) -> object:
    """Parse JSON in UTF-8 without duplicate keys, long numbers, NaN and infinity, in time that grows with its length.

    Args:
        text: The text.
        floats: Whether floats are allowed.

    Raises:
        CheckpointError: If the text is anything else.

    Example:
        >>> parse(b'{"a":[1,2]}')
        {'a': [1, 2]}
        >>> parse(b'{"a":1,"a":2}')
        Traceback (most recent call last):
        funcnet.CheckpointError: its header has the key 'a' twice
    """
    check_depth(text)
    try:
        return json.loads(
            text.decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_short_int,
            parse_float=float if floats else _no_float,
            parse_constant=_no_float,
        )
    except CheckpointError:
        raise
    except RecursionError:
        raise CheckpointError("its header is nested too deeply") from None
    except ValueError as error:
        reason = f"its header is not JSON ({printable(error)})"
        raise CheckpointError(f"it is not a safetensors file, or it is damaged: {reason}") from None


def check_depth(text: bytes) -> None:
    """Check that JSON is not nested so deeply that reading it could overflow the stack.

    Python raises a RecursionError in most such cases. In WebAssembly, the overflow would end the interpreter.

    Raises:
        CheckpointError: If more than 1000 lists and objects are open at one place.
    """
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _OTHERS):
        depth += 1 if bracket in b"[{" else -1
        if depth > _MAX_DEPTH:
            raise CheckpointError("its header is nested too deeply")


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a parsed value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Whether a parsed value is a JSON list."""
    return isinstance(value, list)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen = set[str]()
        for key, _ in pairs:
            if key in seen:
                raise CheckpointError(f"its header has the key {quoted(key)} twice")
            seen.add(key)
    return made


def _short_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise CheckpointError(f"its header has an int of {len(digits)} digits")
    return int(digits)


def _no_float(digits: str) -> object:
    raise CheckpointError(f"its header has the number {digits:.40}, which is not an int")
