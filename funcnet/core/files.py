"""Files: checks of file paths, links and kinds, permissions, locks, and temporary files left by killed writers."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from funcnet.core.errors import ConfigError, FuncnetError, printable

Filename: TypeAlias = "str | os.PathLike[str]"
_STALE: Final = 3600.0
_MOST_LINKS: Final = 40


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
            if time.time() - path.lstat().st_mtime > _STALE and not _is_in_use(path):
                path.unlink()
        except OSError:  # another writer has deleted the file, or another user owns it
            continue


@contextmanager
def in_use(descriptor: int) -> Generator[None]:
    """Lock an open temporary file until the block ends, even if it is closed before, so ``remove_stale`` keeps it.

    Windows needs no lock: it does not delete an open file.
    """
    if not _module("fcntl"):
        yield
        return
    with FileIO(os.dup(descriptor)) as file:
        _acquired(file)
        yield


def _is_in_use(path: Path) -> bool:
    if not _module("fcntl") or path.is_symlink():
        return False
    with FileIO(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        return not _acquired(file)


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
    """Wait until a directory's entries, such as that of a new file, are on disk."""
    if hasattr(os, "O_DIRECTORY"):  # other systems cannot open a directory
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:  # a directory that may be written to but not listed
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path, busy: FuncnetError) -> Generator[None]:
    """Hold the lock of a file, which is created if it does not exist and stays when the lock is released.

    The operating system keeps the lock and releases it if the process dies. It is ``flock`` where Python has ``fcntl``,
    and a lock of the file's first byte on Windows. A system or a file system without either locks nothing; whether a
    network file system's locks hold between machines depends on its settings.

    Args:
        path: The file, which serves no other purpose.
        busy: The error to raise if another process, thread or generator holds the lock.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     path = Path(directory) / "lock"
        ...     with locked(path, ConfigError("busy")), locked(path, ConfigError("busy")):
        ...         pass
        Traceback (most recent call last):
        funcnet.ConfigError: busy
    """
    with FileIO(path, "a") as file:
        if not _acquired(file):
            raise busy
        _LOCKS.add(file)
        try:
            yield
        finally:
            _LOCKS.discard(file)
            if not file.closed:  # it is closed in a forked child, which must not release its parent's lock
                _release(file)


_LOCKS: Final[set[FileIO]] = set()
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})


def _acquired(file: FileIO) -> bool:
    """Whether this process has the lock now, or the system cannot lock this file."""
    fcntl, msvcrt = _module("fcntl"), _module("msvcrt")
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in _HELD
    return True


def _release(file: FileIO) -> None:
    """Release the lock, also if a child that Python did not fork has it, too; on Windows, closing the file does."""
    fcntl = _module("fcntl")
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError:  # a file system without locks
            return


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _forget_locks() -> None:
    """Close the lock files in a forked child: else, the child would hold the locks of a parent that died."""
    for file in _LOCKS:
        file.close()
    _LOCKS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
