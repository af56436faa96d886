"""Notes: small JSON values that a file carries beside a network, such as its class names or the scale of its inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, cast

from funcnet.core.checks import to_python
from funcnet.core.errors import CheckpointError, ConfigError, quoted
from funcnet.runs.strict_json import parse
from funcnet.runs.structure import INT_BITS

Note: TypeAlias = "str | int | float | bool | Sequence[Note] | Mapping[str, Note] | None"
"""A string, a number, a bool, None, or a list or a dictionary of notes."""

Notes: TypeAlias = Mapping[str, Note]
"""Notes by name."""

NO_NOTES: Final = "{}"
NOTES_LIMIT: Final = 2**16
_DEPTH: Final = 20


def encode_notes(notes: object, subject: str) -> str:
    """Return notes as JSON: equal notes give equal text.

    Raises:
        ConfigError: If they are not notes, or take more than 64 KiB; the message has the place.

    Example:
        >>> encode_notes({"classes": ("cat", "dog"), "mean": 0.5}, "save")
        '{"classes":["cat","dog"],"mean":0.5}'
    """
    if not isinstance(notes, Mapping):
        raise ConfigError(f"notes must be a dictionary, got {quoted(notes)}", subject=subject)
    try:
        plain = _plain(cast("object", notes), "notes", 0)
        text = json.dumps(plain, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ConfigError as error:
        error.subject = subject
        raise
    if len(text) > NOTES_LIMIT:
        got = f"got {len(text)}; keep the rest in another file"
        raise ConfigError(f"notes must take at most {NOTES_LIMIT} bytes of JSON, {got}", subject=subject)
    return text


def _plain(value: object, place: str, depth: int) -> object:
    """Return a note as JSON's own types, or raise a ConfigError with its place."""
    if depth > _DEPTH:
        raise ConfigError(f"notes must be at most {_DEPTH} levels deep, got more")
    value = to_python(value)
    if isinstance(value, list | tuple):
        inside: list[object] = []
        for position, item in enumerate(cast("Sequence[object]", value)):
            inside.append(_plain(item, f"{place}[{position}]", depth + 1))
        return inside
    if isinstance(value, Mapping):
        made: dict[str, object] = {}
        for key, item in cast("Mapping[object, object]", value).items():
            if type(key) is not str:
                raise ConfigError(f"the names in {place} must be strings, got {quoted(key)}")
            made[key] = _plain(item, f"{place}[{quoted(key)}]", depth + 1)
        return made
    if value is None or type(value) in (str, bool):
        return value
    if (type(value) is int and value.bit_length() <= INT_BITS) or (type(value) is float and math.isfinite(value)):
        return value
    fix = "; use .tolist()" if hasattr(value, "tolist") else ""
    kinds = "a string, a finite number, a bool, None, a list or a dictionary"
    raise ConfigError(f"{place} must be {kinds}, got {quoted(value)}{fix}")


def decode_notes(text: str) -> dict[str, Note]:
    """Return the notes in a file's text, which must be exactly what ``encode_notes`` writes.

    Raises:
        CheckpointError: If it is anything else.
    """
    notes = parse(text.encode(), floats=True)
    if text == NO_NOTES or encode_notes(notes, "") != text:
        raise CheckpointError("its notes are not in the form that funcnet writes")
    return cast("dict[str, Note]", notes)
