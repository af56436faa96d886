"""Files: checks of file paths, and the removal of temporary files left by killed writers."""

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
    """Convert a setting that names a file, a string or a ``Path``, to a ``Path``. The file need not exist.

    Raises:
        ConfigError: If the setting cannot name a file.

    Example:
        >>> as_path("load", "path", 3)
        Traceback (most recent call last):
        funcnet.ConfigError: load: path must be a string or a Path that can name a file, got 3
    """
    try:
        path = os.fspath(cast("str", value))
        if path and b"\0" not in os.fsencode(path):
            return Path(path)
    except (TypeError, ValueError):  # not a path, bytes, or characters that a file name cannot contain
        pass
    raise ConfigError(f"{name} must be a string or a Path that can name a file, got {value!r:.80}", subject=subject)


def remove_stale(directory: Path, temporary: re.Pattern[str]) -> None:
    """Delete temporary files left by killed writers: those older than an hour whose whole name matches the pattern.

    Younger files may still be in use.
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            if temporary.fullmatch(entry.name):
                found = Path(entry.path)
                try:
                    if time.time() - found.stat().st_mtime > _STALE:
                        found.unlink()
                except OSError:  # another writer has deleted the file, or another user owns it
                    continue
