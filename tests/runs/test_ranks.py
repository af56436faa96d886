"""Audited runs on many ranks: rank 0 alone writes, the rows are those of one process, and no rank is left waiting.

The ranks are threads here; ``interop/test_many_machines.py`` has the same with processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from networks import inputs
from thread_ranks import Rank, errors_on, on_ranks

import funcnet as fn
from funcnet.core.locks import locked
from funcnet.loops.reducers import own_shards
from funcnet.loops.steps import TrainStep
from funcnet.runs import audited, rows

KEY = fn.Key(43)
X = inputs(KEY.child("x"), 40, 4, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64)


def start(rate: float = 0.1) -> fn.TrainState[Any]:
    """Return the initial state of a small network with dropout and momentum."""
    net = (fn.dense(KEY.child(0), 4, 6), fn.ReLU(), fn.Dropout(0.3), fn.dense(KEY.child(1), 6, 2))
    return fn.TrainState.create(net, fn.Momentum(learning_rate=rate), key=KEY.child("run"))


def step(rank: Rank | None = None) -> TrainStep[Any]:
    """Return a step of five shards, the last of which is smaller."""
    return fn.train_step(fn.softmax_cross_entropy, shard_size=3, reducer=rank)


def data(epoch: int) -> fn.Minibatches[Any]:
    """Return three batches, the last of which is smaller."""
    return fn.minibatches(X, LABELS, 15, key=KEY.child("shuffle", epoch))


def keep(directory: Path, epochs: int, rank: Rank | None = None, /, **settings: Any) -> list[str]:
    """Return the fingerprints of the states of an audited run."""
    settings = {"step": step(rank), "state": start(), "data": data, **settings}
    return [fn.fingerprint(state) for state, _ in fn.audited_train(directory, epochs=range(epochs), **settings)]


@pytest.mark.parametrize("sizes", [(1,), (2,), (3,), (7,), (3, 1, 2), (2, 3)])
def test_the_rows_are_those_of_one_process(sizes: tuple[int, ...], tmp_path: Path) -> None:
    """So are the states, also when a run is resumed, and replayed, with other numbers of ranks."""
    whole = keep(tmp_path / "alone", 5, every=2)
    for place, size in enumerate(sizes):
        epochs = 5 if place == len(sizes) - 1 else 1 + 2 * place
        found = on_ranks(size, partial(keep, tmp_path / "many", epochs, every=2))
        assert all(states == whole[epochs - len(states) : epochs] for states in found)
        (tmp_path / "many" / f"epoch-{epochs - 1}.safetensors").unlink(missing_ok=epochs < 5)
    runs = fn.load_run(tmp_path / "alone"), fn.load_run(tmp_path / "many")
    assert runs[0].rows == runs[1].rows
    assert fn.recheck(runs[1], range(3), step=step(), data=data)
    assert fn.first_divergence(*runs, step=step(), data=data) is None


def test_rank_0_alone_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank reads the row of an epoch before it begins the next one, and the last checkpoint after the run."""
    writers: set[int] = set()

    def append(*arguments: Any, **settings: Any) -> None:
        writers.add(threading.get_ident())
        rows.append(*arguments, **settings)

    monkeypatch.setattr(audited, "append", append)

    def work(rank: Rank) -> tuple[int, int]:
        for epoch, (state, _) in enumerate(fn.audited_train(tmp_path, step(rank), start(), data, epochs=range(3))):
            assert fn.load_run(tmp_path).rows[epoch + 1].state == fn.fingerprint(state)
        run = fn.load_run(tmp_path)
        assert fn.fingerprint(fn.load(run.checkpoint(-1))) == run.rows[-1].state
        return rank.rank, threading.get_ident()

    assert writers == {ident for rank, ident in on_ranks(3, work) if rank == 0}


def refused(size: int, work: Callable[[Rank], object]) -> list[str]:
    """Return the message of each rank, all of which must raise one of the package's or the system's errors."""
    errors = errors_on(size, work)
    assert all(isinstance(error, fn.FuncnetError | OSError) for error in errors), errors
    return [str(error) for error in errors]


STOPPED = "rank 0 has stopped; its own error says why"


@pytest.mark.parametrize("where", ["directory", "lock", "checkpoint", "row"])
def test_what_rank_0_cannot_write_stops_all(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 raises the cause, and each other rank says that rank 0 has stopped."""
    home, busy = tmp_path / "run", fn.ConfigError("busy")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "no space left on device")

    if where == "directory":
        home.write_text("a file")
    if where in ("checkpoint", "row"):
        on_ranks(2, lambda rank: keep(home, 1, rank))
        monkeypatch.setattr(audited, "save" if where == "checkpoint" else "append", full)
    if where == "lock":
        on_ranks(2, lambda rank: keep(home, 1, rank))
        with locked(home / audited.LOCK, busy):
            found = refused(3, lambda rank: keep(home, 2, rank))
    else:
        found = refused(3, lambda rank: keep(home, 2, rank))
    cause = {"directory": "File exists", "lock": "another audited_train is writing to this directory"}
    assert cause.get(where, "no space left") in found[0]
    assert found[1:] == [STOPPED] * 2


def test_a_directory_that_a_rank_does_not_see_is_refused(tmp_path: Path) -> None:
    """Each rank says which one reads other rows; the same if each has a run of its machine."""

    def home(rank: Rank) -> Path:
        return tmp_path / f"machine {rank.rank // 2}"

    for _ in range(2):
        found = refused(4, lambda rank: keep(home(rank), 2, rank))
        assert all("rank 2 does not read the rows of rank 0; use a directory of a file syst" in text for text in found)
        keep(home(Rank(2, [None], Barrier(1))), 1)


def test_other_batches_are_refused(tmp_path: Path) -> None:
    """The epoch gets no row: no sum of its gradients belongs to one batch."""

    def relabelled(epoch: int) -> fn.Minibatches[Any]:
        return fn.minibatches(X, LABELS ^ (epoch == 1), 15, key=KEY.child("shuffle", epoch))

    found = refused(3, lambda rank: keep(tmp_path, 3, rank, data=relabelled if rank.rank == 1 else data))
    assert all("all ranks must have the same batch; give each rank the same data" in text for text in found)
    assert [row.epoch for row in fn.load_run(tmp_path).rows] == [None, 0]


OTHERS: dict[str, dict[str, Any]] = {
    "epochs": {"epochs": range(2)},
    "every": {"every": 2},
    "step": {"shard_size": 4},
    "state": {"state": start(0.2)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arguments_are_refused(name: str, tmp_path: Path) -> None:
    """All ranks raise before the directory is made: a rank with fewer epochs would leave the others waiting."""

    def work(rank: Rank) -> object:
        given: dict[str, Any] = {
            "epochs": range(3),
            "state": start(),
            "shard_size": 3,
            **(OTHERS[name] if rank.rank == 1 else {}),
        }
        own = fn.train_step(fn.softmax_cross_entropy, shard_size=given.pop("shard_size"), reducer=rank)
        return list(fn.audited_train(tmp_path / "run", own, data=data, **given))

    found = refused(3, work)
    assert all("the ranks hold different values" in text for text in found)
    assert name not in ("epochs", "every") or all(f"{name}=" in text for text in found)
    assert not (tmp_path / "run").exists()


def test_ranks_of_other_epochs_are_refused_by_train() -> None:
    """They are compared before the first epoch of the lazy sequence."""

    def work(rank: Rank) -> object:
        run = fn.train(step(rank), start(), data, epochs=range(3 - rank.rank))
        return next(run)

    found = refused(2, work)
    assert all("epochs=(0, 1, 2)" in text and "epochs=(0, 1)" in text for text in found)


def test_each_rank_has_one_of_as_many_shards_as_ranks(tmp_path: Path) -> None:
    """Rank r has shard r, so that a number per shard is a number per rank; another reducer is refused."""

    class Reversed(Rank):
        def own(self, count: int) -> range:
            return own_shards(self.size - 1 - self.rank, self.size, count)

    def work(rank: Rank) -> list[str]:
        return keep(tmp_path / "run", 1, Reversed(rank.rank, [None, None], Barrier(1)))  # it meets nobody

    found = refused(2, work)
    assert "own(2) of the reducer of rank 0 must be range(0, 1), got range(1, 2)" in found[0]
    assert "own(2) of the reducer of rank 1 must be range(1, 2), got range(0, 1)" in found[1]
    assert not (tmp_path / "run").exists()
