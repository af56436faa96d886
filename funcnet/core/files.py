"""Files: what can name one, and what killed writers left behind."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final, TypeAlias, cast

from funcnet.core.errors import ConfigError

Filename: TypeAlias = "str | os.PathLike[str]"
_STALE: Final = 3600.0


def as_path(subject: str, name: str, value: object) -> Path:
    """A setting that can be a file's path, as a ``Path``: a string or a ``Path``, whether the file is there or not.

    Raises:
        ConfigError: Says what it got.

    Example:
        >>> as_path("load", "path", 3)
        Traceback (most recent call last):
        funcnet.ConfigError: load: path must be a string or a Path that can name a file, got 3
    """
    try:
        path = os.fspath(cast("str", value))
        if path and b"\0" not in os.fsencode(path):
            return Path(path)
    except (TypeError, ValueError):  # no path, bytes, or characters that no file's name has
        pass
    raise ConfigError(f"{name} must be a string or a Path that can name a file, got {value!r:.80}", subject=subject)


def remove_stale(directory: Path, temporary: re.Pattern[str]) -> None:
    """Remove what killed writers left: files whose whole name is temporary; a living one does not take an hour."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if temporary.fullmatch(entry.name):
                found = Path(entry.path)
                try:
                    if time.time() - found.stat().st_mtime > _STALE:
                        found.unlink()
                except OSError:  # another writer was faster, or it is another user's
                    continue
