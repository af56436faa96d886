"""Locks of files, which the operating system keeps and releases if the process dies."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import Any, Final

from funcnet.core.errors import FuncnetError


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
        >>> from funcnet.core.errors import ConfigError
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


def is_in_use(path: Path) -> bool:
    """Whether a living process has locked a file with ``in_use``."""
    if not _module("fcntl") or path.is_symlink():
        return False
    with FileIO(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        return not _acquired(file)


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
