"""Files: checks of file paths, links and kinds, permissions, and temporary files left by killed writers."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from io import BufferedReader
from pathlib import Path
from typing import Final, TypeAlias, cast

from funcnet.core.errors import ConfigError, FuncnetError, printable
from funcnet.core.locks import is_in_use

Filename: TypeAlias = "str | os.PathLike[str]"
_STALE: Final = 3600.0
_MOST_LINKS: Final = 40
_NO_SYNC: Final = {errno.EBADF, errno.EINVAL, errno.ENOTSUP}
"""How systems that can only sync files, such as WebAssembly and some network file systems, refuse a directory."""


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


def follow_links(path: Path, refusal: type[FuncnetError], subject: str) -> Path:
    """Return the path to write to. If it is a link, that is the path of its target, provided that the link is safe.

    A link is safe if the caller or root owns it, or owns its directory and others cannot write to the directory.
    Through any other link, another user could make the caller overwrite a file, and the system's own protection does
    not apply to a link that the program itself has followed.

    Raises:
        refusal: If another user could have made the link.
        OSError: If the links form a loop, or the path cannot be inspected.
    """
    for _ in range(_MOST_LINKS):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        target = path.parent / path.readlink()
        if not _is_safe(found, path.parent):
            fix = f"pass the path of the file itself, {printable(target, 400)}"
            raise refusal(f"{path} is a link that another user could have made; {fix}", subject=subject)
        path = target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _is_safe(link: os.stat_result, directory: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    trusted = (0, os.geteuid())
    place = directory.stat()
    return link.st_uid in trusted or (place.st_uid in trusted and not place.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def set_permissions(descriptor: int, path: Path, mode: int) -> None:
    """Set the permissions of an open file through its descriptor, because another user could replace what has its name.

    The name is used only on systems that cannot use the descriptor.
    """
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, mode)
    else:
        path.chmod(mode)


def remove_stale(directory: Path, temporary: re.Pattern[str]) -> None:
    """Delete temporary files left by killed writers: those older than an hour whose whole name matches the pattern.

    A file whose writer lives, see ``in_use``, is kept. A directory that cannot be listed is left unchanged.
    """
    try:
        with os.scandir(directory) as entries:
            found = [Path(entry.path) for entry in entries if temporary.fullmatch(entry.name)]
    except OSError:
        return
    for path in found:
        try:
            if time.time() - path.lstat().st_mtime > _STALE and not is_in_use(path):
                path.unlink()
        except OSError:  # another writer has deleted the file, or another user owns it
            continue


def open_regular(path: Path, error: type[FuncnetError]) -> BufferedReader:
    """Open a regular file to read its bytes. Opening a FIFO or a device does not wait: it is refused.

    Raises:
        FuncnetError: An ``error`` if the path is not a regular file.
        OSError: If the file cannot be opened.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise error(f"{path} is not a regular file")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def sync_directory(directory: Path) -> None:
    """Wait until a directory's entries, such as that of a new file, are on disk, if the system can wait for them."""
    if hasattr(os, "O_DIRECTORY"):  # other systems cannot open a directory
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:  # a directory that may be written to but not listed
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
        finally:
            os.close(descriptor)
