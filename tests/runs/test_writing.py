"""Writing a run: one writer in a directory, crashes, and the order in which rows and checkpoints reach the disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from surroundings import ROOT, needs_locks
from test_runs import STEP, data, keep, start

import funcnet as fn
from funcnet.arithmetic import in_force
from funcnet.core.locks import locked
from funcnet.runs import audited
from funcnet.runs.rows import ROWS

BUSY = "another audited_train is writing to this directory; wait until it ends, close its sequence, or use another"


def begun(directory: Path, epochs: int = 3) -> Iterator[Any]:
    """Begin a run, or resume it."""
    return fn.audited_train(directory, STEP, start(), data, epochs=range(epochs))


def content(directory: Path) -> dict[str, bytes]:
    """Return the content of every file."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# -------------------------------------------------------------------------------------------------- one writer


def closed(run: Any) -> None:
    """Close the run."""
    run.close()


def ended(run: Any) -> None:
    """Advance the run to its end."""
    list(run)


def failed(run: Any) -> None:
    """Advance the run until it raises."""
    with pytest.raises(OSError, match="full"):
        list(run)


@needs_locks
@pytest.mark.parametrize("end", [closed, ended, failed])
def test_a_directory_has_one_writer(
    end: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run is refused, even one made before, until the first ends, is closed or raises; it changes nothing."""
    first, second = begun(tmp_path), begun(tmp_path)
    next(first)
    before = content(tmp_path)
    with pytest.raises(fn.CheckpointError, match=BUSY):
        next(second)
    with pytest.raises(fn.CheckpointError, match=BUSY):
        begun(tmp_path)
    assert content(tmp_path) == before
    with monkeypatch.context() as patch:
        if end is failed:
            patch.setattr(audited, "save", full)
        end(first)
    list(begun(tmp_path, 4))
    assert fn.recheck(fn.load_run(tmp_path), range(4), step=STEP, data=data)


def full(*_: object) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, "full")


def unsupported(*_: object) -> None:
    """Fail as a file system without locks does."""
    raise OSError(errno.ENOLCK, "no locks")


LOCKED: set[object] = set()


def lock_byte(descriptor: int, mode: int, _: int) -> None:
    """Lock a file as Windows does: another handle of the same file is refused. Closing is not seen."""
    key = os.fstat(descriptor).st_ino
    if key in LOCKED:
        raise PermissionError(errno.EACCES, mode)
    LOCKED.add(key)


@pytest.mark.parametrize("system", [pytest.param("fcntl", marks=needs_locks), "msvcrt"])
def test_the_systems_lock_is_used(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is ``flock`` or, where ``fcntl`` is missing, Windows' lock of a byte; a lock that is held is refused."""
    if system == "msvcrt":
        windows = SimpleNamespace(LK_NBLCK=2, locking=lock_byte)
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", cast("ModuleType", windows))
    path, busy = tmp_path / "lock", fn.ConfigError("held")
    with locked(path, busy), pytest.raises(fn.ConfigError, match="held"), locked(path, busy):
        pass
    LOCKED.clear()
    with locked(path, busy):
        pass


@pytest.mark.parametrize("systems", ["no module", "no support"])
def test_without_locks_a_row_follows_the_runs_own_row_only(
    systems: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be locked, the second of two runs is stopped before it writes a row, and the chain is whole."""
    fcntl = pytest.importorskip("fcntl")
    for name in ("fcntl", "msvcrt") if systems == "no module" else ():
        monkeypatch.setitem(sys.modules, name, None)
    if systems == "no support":
        monkeypatch.setattr(fcntl, "flock", unsupported)
    first, second = begun(tmp_path), begun(tmp_path)
    next(first)
    with pytest.raises(
        fn.CheckpointError, match="its last row is not this run's last row: another program has written"
    ):
        next(second)
    list(first)
    assert fn.recheck(fn.load_run(tmp_path), range(3), step=STEP, data=data)


def with_another_row(rows: bytes) -> bytes:
    """Append a row of the file again."""
    return rows + rows.splitlines(keepends=True)[0]


def cut(rows: bytes) -> bytes:
    """Cut the last row's end."""
    return rows[:-9]


@pytest.mark.parametrize("change", [with_another_row, cut])
def test_rows_that_change_during_a_run_stop_it(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """If the file does not end with the run's last row, nothing is appended."""
    run = begun(tmp_path)
    next(run)
    changed = change((tmp_path / ROWS).read_bytes())
    (tmp_path / ROWS).write_bytes(changed)
    with pytest.raises(fn.CheckpointError, match="nothing was appended"):
        next(run)
    assert (tmp_path / ROWS).read_bytes() == changed


# ------------------------------------------------------------------------------------------------------ crashes

KILLED = """
import os, signal, sys
from pathlib import Path
from test_runs import STEP, data, start
import funcnet as fn

def stopping(epoch):
    for position, batch in enumerate(data(epoch)):
        if epoch == 7 and position == 2:
            if sys.argv[2] == "fork" and not os.fork():
                print("alive", flush=True)
                os.read(0, 1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

list(fn.audited_train(Path(sys.argv[1]), STEP, start(), stopping, epochs=range(10), every=5))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("children", ["none", "fork"])
def test_a_killed_run_resumes_in_one_call(children: str, tmp_path: Path) -> None:
    """The same call replays from the last checkpoint and ends with the same rows; a forked child holds no lock."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "runs")))
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "killed"), children]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if children == "fork":
            assert process.stdout.readline() == b"alive\n"
        assert process.wait() == -signal.SIGKILL
        assert [row.epoch for row in fn.load_run(tmp_path / "killed").rows] == [None, *range(7)]
        resumed = list(fn.audited_train(tmp_path / "killed", STEP, start(), data, epochs=range(10), every=5))
        if children == "fork":
            process.stdin.write(b"x")
    assert len(resumed) == 3
    last = keep(tmp_path / "whole", range(10), every=5)
    assert fn.fingerprint(resumed[-1][0]) == fn.fingerprint(last)
    assert fn.load_run(tmp_path / "killed").rows[-1].results == fn.load_run(tmp_path / "whole").rows[-1].results


@pytest.mark.parametrize("rest", [b"", b"{", b'{"epoch": null, "steps": 0, "prev'])
@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_stopped_before_its_first_row_begins_again(rest: bytes, kept: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """An empty file or a torn first row is replaced, with or without the initial checkpoint."""
    keep(tmp_path / "whole", range(2))
    home = tmp_path / "stopped"
    home.mkdir()
    (home / ROWS).write_bytes(rest)
    if kept:
        fn.save(home / "start.safetensors", start())
    with pytest.raises(fn.CheckpointError, match="it has no rows: the run stopped before the first one"):
        fn.load_run(home)
    keep(home, range(2))
    assert content(home).keys() == content(tmp_path / "whole").keys()
    assert (home / ROWS).read_bytes() == (tmp_path / "whole" / ROWS).read_bytes()


@pytest.mark.parametrize("rows", ["empty", "torn", "removed"])
def test_checkpoints_without_any_rows_are_not_written_over(rows: str, tmp_path: Path) -> None:
    """A crash cannot leave a checkpoint of an epoch without a first row: another directory is needed."""
    keep(tmp_path, range(2))
    (tmp_path / ROWS).write_bytes(b"{" if rows == "torn" else b"")
    if rows == "removed":
        (tmp_path / ROWS).unlink()
    before = content(tmp_path)
    with pytest.raises(
        fn.CheckpointError, match=r"it has no rows: the directory has epoch-0\.safetensors, so they were"
    ):
        begun(tmp_path)
    assert content(tmp_path) == before


# -------------------------------------------------------------------------------------------------- the order


def test_a_row_is_on_disk_before_the_next_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a row's file is synchronized last, it has its full size; the new file's directory is synchronized, too."""
    real, synced = os.fsync, list[tuple[int, int]]()

    def noting(descriptor: int) -> None:
        real(descriptor)
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size))

    monkeypatch.setattr(os, "fsync", noting)
    run = begun(tmp_path)
    if hasattr(os, "O_DIRECTORY"):
        assert synced.pop()[0] == tmp_path.stat().st_ino
    for _ in chain([None], run):
        rows = (tmp_path / ROWS).stat()
        assert synced.pop() == (rows.st_ino, rows.st_size)


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_a_checkpoint_is_on_disk_before_its_row(
    epoch: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a checkpoint cannot be written, its row is not written, and the run resumes from the row before."""
    done = [] if epoch is None else list(fn.audited_train(tmp_path, STEP, start(), data, epochs=range(epoch)))
    monkeypatch.setattr(audited, "save", full)
    with pytest.raises(OSError, match="full"):
        list(begun(tmp_path))
    monkeypatch.undo()
    if epoch is None:
        assert not (tmp_path / ROWS).exists()
    else:
        assert [row.epoch for row in fn.load_run(tmp_path).rows] == [None, *range(epoch)]
    assert len(list(begun(tmp_path))) == 3 - len(done)


def shorter(epoch: int) -> Any:
    """Return one batch less in epoch 1."""
    return data(epoch)[: 4 - epoch]


def test_data_is_called_in_the_arithmetic_of_the_run(tmp_path: Path) -> None:
    """``train``, ``fit``, ``audited_train``, its resumption and its audits call it in the arithmetic they began in."""
    heard: list[str] = []

    def listening(epoch: int) -> Any:
        heard.append(in_force())
        return data(epoch)

    def resumed() -> Iterator[Any]:
        (tmp_path / "epoch-1.safetensors").unlink()
        return fn.audited_train(tmp_path, STEP, first, listening, epochs=range(3))

    with fn.portable():
        first = start()
        runs = [
            fn.train(STEP, first, listening, epochs=range(2)),
            fn.fit(STEP, fn.Fit.create(first), listening, lambda _: 1.0, epochs=2),
            fn.audited_train(tmp_path, STEP, first, listening, epochs=range(2)),
        ]
    for run in runs:
        assert len(list(run)) == 2
    with fn.portable():
        last = resumed()
    assert len(list(last)) == 1
    assert fn.recheck(fn.load_run(tmp_path), range(3), step=STEP, data=listening)
    with fn.portable():
        keep(tmp_path / "other", range(2), data=shorter)
    other = fn.load_run(tmp_path / "other")
    found = fn.first_divergence(fn.load_run(tmp_path), other, step=STEP, data=(listening, shorter))
    assert found is not None
    assert found.step == 3
    assert set(heard) == {"portable"}
    assert len(heard) > 10
