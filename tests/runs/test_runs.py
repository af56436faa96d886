"""Auditable runs: the chain of rows, resuming a run, replaying it, and finding where two runs diverge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import field, frozen
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import using
from funcnet.data.batches import Minibatches
from funcnet.runs import audited
from funcnet.runs.rows import ROWS, line_of

KEY = fn.Key(41)
X = inputs(KEY.child("x"), 40, 4, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64)
STEP = fn.train_step(fn.softmax_cross_entropy)
State = fn.TrainState[Any]


def start(rate: float = 0.1) -> State:
    """Return the initial state of a small network with dropout and momentum."""
    net = (fn.dense(KEY.child(0), 4, 6), fn.ReLU(), fn.Dropout(0.3), fn.dense(KEY.child(1), 6, 2))
    return fn.TrainState.create(net, fn.Momentum(learning_rate=rate), key=KEY.child("run"))


def data(epoch: int) -> Minibatches[Any]:
    """Return four batches."""
    return fn.minibatches(X, LABELS, 10, key=KEY.child("shuffle", epoch))


def keep(directory: Path, epochs: range = range(6), state: Any = None, **settings: Any) -> Any:
    """Return the state after an audited run."""
    settings = {"step": STEP, "data": data, **settings}
    run = fn.audited_train(directory, state=state or start(), epochs=epochs, **settings)
    return list(run)[-1][0]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> fn.Run:
    """Return a run of six epochs, with a checkpoint after every second one."""
    directory = tmp_path_factory.mktemp("run")
    keep(directory, every=2)
    return fn.load_run(directory)


def copied(run: fn.Run, directory: Path) -> Path:
    """Copy the run's files to another directory."""
    directory.mkdir()
    for path in run.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def elsewhere(**values: str) -> Callable[[], fn.Environment]:
    """Return a function that describes another environment."""
    return lambda: attrs.evolve(fn.environment(), **values)


# ------------------------------------------------------------------------------------------------- keeping


def test_an_audited_run_has_the_bits_of_train(tmp_path: Path) -> None:
    """Every state and loss is equal; the last row has the fingerprint of the last state."""
    plain = list(fn.train(STEP, start(), data, epochs=range(6)))
    audited = list(fn.audited_train(tmp_path, STEP, start(), data, epochs=range(6)))
    assert [fn.fingerprint(state) for state, _ in plain] == [fn.fingerprint(state) for state, _ in audited]
    assert all((a.losses == b.losses).all() for (_, a), (_, b) in zip(plain, audited, strict=True))
    rows = fn.load_run(tmp_path).rows
    assert [row.epoch for row in rows] == [None, 0, 1, 2, 3, 4, 5]
    assert [row.state for row in rows[1:]] == [fn.fingerprint(state) for state, _ in audited]


def test_a_network_can_be_the_state(tmp_path: Path) -> None:
    """``sgd_step`` trains a network, not a TrainState."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    keep(tmp_path, state=fn.mlp(KEY, (4, 2)), step=step)
    assert fn.recheck(fn.load_run(tmp_path), range(6), step=step, data=data).passed


@pytest.mark.parametrize("stop", range(7))
@pytest.mark.parametrize("given", ["the first state", "the last state"])
def test_a_run_in_two_parts_leaves_the_same_rows(stop: int, given: str, kept: fn.Run, tmp_path: Path) -> None:
    """The rows are equal wherever the run stops; the checkpoints are the same, and that of the stop."""
    list(fn.audited_train(tmp_path, STEP, start(), data, epochs=range(stop), every=2))
    first = given == "the first state"
    state = start() if first else fn.load(fn.load_run(tmp_path).checkpoint(-1), like=start())
    rest = list(fn.audited_train(tmp_path, STEP, state, data, epochs=range(0 if first else stop, 6), every=2))
    assert len(rest) == 6 - stop
    assert fn.load_run(tmp_path).rows == kept.rows
    also = {fn.load_run(tmp_path).checkpoint(stop).name}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in kept.directory.iterdir()} | also


def test_a_torn_line_is_left_out_and_written_over(kept: fn.Run, tmp_path: Path) -> None:
    """A crash may leave any beginning of the last line; a run resumed after it ends with the same rows."""
    whole = (kept.directory / ROWS).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    state = start()
    for epoch in range(5):
        state, _ = fn.train_epoch(STEP, state, data(epoch))
    for length in range(last, len(whole), 37):
        (tmp_path / ROWS).write_bytes(whole[:length])
        assert fn.load_run(tmp_path).rows == kept.rows[:-1]
        list(fn.audited_train(tmp_path, STEP, state, data, epochs=range(5, 6)))
        assert (tmp_path / ROWS).read_bytes() == whole


def test_the_arithmetic_is_bound_when_called(tmp_path: Path) -> None:
    """The behavior is that of ``train``; the rows name the arithmetic."""
    with fn.portable():
        run = fn.audited_train(tmp_path, STEP, start(), data, epochs=range(2))
    states = [state for state, _ in run]
    with fn.portable():
        plain = [state for state, _ in fn.train(STEP, start(), data, epochs=range(2))]
    assert list(map(fn.fingerprint, states)) == list(map(fn.fingerprint, plain))
    assert {row.arithmetic for row in fn.load_run(tmp_path).rows} == {"portable"}
    assert fn.recheck(fn.load_run(tmp_path), [0, 1], step=STEP, data=data).passed


def test_a_portable_run_has_the_same_results_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed hash of the results is the same in any environment; the hash of the row covers the environment."""
    with fn.portable():
        keep(tmp_path / "here", range(2))
        monkeypatch.setattr(audited, "environment", elsewhere(numpy="1.26.4", platform="Darwin arm64"))
        keep(tmp_path / "there", range(2))
    runs = fn.load_run(tmp_path / "here"), fn.load_run(tmp_path / "there")
    expected = "57318d43ec4d62124ded3ca6fd24942cde8c05e0e181a329529aee16370ecc98"
    assert [run.rows[-1].results for run in runs] == [expected] * 2
    assert runs[0].rows[-1].hash != runs[1].rows[-1].hash
    assert fn.first_divergence(*runs, step=STEP, data=data) is None
    assert all(fn.recheck(run, range(2), step=STEP, data=data) for run in runs)


def test_resuming_needs_the_runs_state_step_and_epochs(tmp_path: Path) -> None:
    """Anything else is refused, and nothing is written."""
    first = start()
    last = keep(tmp_path, range(2), first)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = fn.train_step(fn.softmax_cross_entropy, shard_size=5)

    def resume(*epochs: Any, state: Any = None, step: Any = STEP, every: int = 1) -> object:
        return fn.audited_train(tmp_path, step, state or start(), data, epochs=epochs, every=every)

    with pytest.raises(fn.StructureError, match="not the run's state at the start or after epoch 1; give the state"):
        resume(2, state=start(0.2))
    for state in (first, last):
        with pytest.raises(
            fn.ConfigError, match=r"already has epochs up to 1; use range\(2, \.\.\.\), or all epochs fr"
        ):
            resume(1, 2, state=state)
    for epochs in ([2, 2], [3, 2], [-1], ["a"]):
        with pytest.raises(fn.ConfigError, match="epoch"):
            resume(*epochs)
    with pytest.raises(fn.ConfigError, match="every"):
        resume(2, every=0)
    with pytest.raises(fn.ConfigError, match="epoch 1 was trained by another step; give that step, or the state after"):
        resume(2, step=other)
    with (
        fn.portable(),
        pytest.raises(fn.ConfigError, match="in native arithmetic; resume outside of `with fn"),
    ):
        resume(2, state=first)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    list(fn.audited_train(tmp_path, other, last, data, epochs=[2]))  # the last state may continue with another step


def test_a_replay_that_differs_stops_the_run(tmp_path: Path) -> None:
    """If the data are not those of the rows after the last checkpoint, nothing is written."""
    keep(tmp_path, range(4), every=2)
    (tmp_path / "epoch-3.safetensors").unlink()
    whole = (tmp_path / ROWS).read_bytes()
    with pytest.raises(
        fn.CheckpointError, match=r"replay does not reproduce the run: .*epoch 2 was trained on other ba"
    ):
        keep(tmp_path, range(6), data=relabelled(2))
    assert (tmp_path / ROWS).read_bytes() == whole


@pytest.mark.parametrize("every", [1, 2, 5, 9])
def test_a_run_that_ended_has_its_last_state(every: int, tmp_path: Path) -> None:
    """The last checkpoint is kept, is written again if it is missing, and is loaded by the position -1."""
    state = keep(tmp_path, range(6), every=every)
    last = fn.load_run(tmp_path).checkpoint(-1)
    assert fn.fingerprint(fn.load(last)) == fn.fingerprint(state)
    last.unlink()
    assert list(fn.audited_train(tmp_path, STEP, start(), data, epochs=range(6), every=every)) == []
    assert fn.fingerprint(fn.load(last)) == fn.fingerprint(state)


def test_a_step_without_a_name_is_refused(tmp_path: Path) -> None:
    """The step is refused before anything is written."""
    with pytest.raises(fn.ConfigError, match="lambda"):
        fn.audited_train(tmp_path / "new", lambda state, _: (state, 0.0), start(), data, epochs=[0])
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------------------- reading


@pytest.mark.slow
def test_no_byte_of_the_rows_can_change_unseen(kept: fn.Run, tmp_path: Path) -> None:
    """Each flipped byte is refused; only a flip of the last line's end makes that line a torn one."""
    whole = (kept.directory / ROWS).read_bytes()
    for position in range(0, len(whole) - 1, 3):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 7
        (tmp_path / ROWS).write_bytes(bytes(changed))
        with pytest.raises(fn.CheckpointError):
            fn.load_run(tmp_path)


LONG = line_of(fn.RunRow(10**4000, 0, "", "", "", "", "native", "", format=2)).decode().strip()
WRONG = line_of(fn.RunRow(0, 0, "", "", "", "", "native", "")).decode().strip().replace('"data": ""', '"data": [1]')
DEEP_LINES = ["[" * 100_000, '{"a":' * 100_000, LONG, WRONG, WRONG.replace("[1]", "true")]


@pytest.mark.parametrize("line", ["{}", "[]", "null", '{"epoch": 1}', "\x00", "é", "{" * 5000, *DEEP_LINES])
def test_what_is_no_row_is_refused(line: str, tmp_path: Path) -> None:
    """The error has the line's number."""
    (tmp_path / ROWS).write_text(line + "\n")
    with pytest.raises(fn.CheckpointError, match="line 1 is not a row"):
        fn.load_run(tmp_path)


def test_a_row_of_a_newer_format_is_refused(kept: fn.Run, tmp_path: Path) -> None:
    """The error says that a newer funcnet may read it."""
    (tmp_path / ROWS).write_bytes(line_of(attrs.evolve(kept.rows[0], format=3)))
    with pytest.raises(fn.CheckpointError, match="line 1 has format 3, and this funcnet reads 2; a newer funcnet may"):
        fn.load_run(tmp_path)


MADE_IN = (
    "Environment(python='CPython 3.11.7', numpy='2.4.6', attrs='26.1.0', funcnet='0.1.0', blas='openblas 0.3.31.188.0 "
    "Haswell', blas_threads='2', simd='X86_V2 X86_V3', platform='Linux x86_64 glibc 2.36', arithmetic='portable')"
)
STATES = (
    "834cb5810df5a8212531d829db6cf5a5a7c9af34b6b9adaf8b8400fe4ae54e53",
    "0c17fc45b52503b59394becadf8d49914ba736915b06032e898053364e326dfd",
    "6b8b71251909bd8c6af73c6208d1eb7e766608c41132c1f3d7bd5f48af44e393",
)
HASHES = (
    "efe59a645f3258eebb875ca090a0d8da7548bb06b0ff6f70792dc1b201323dbe",
    "b91475d920ec4ac5bd8a8429bec2a51ffe0cb153b912413ffc3f1ec1b5a906e8",
    "865c20cc4527fcd683479c52bc2fa433c9c428a5913fb9f92803885308332aea",
)
OF_THE_DATA = "93cd1d84d8dda0afefabf8347f9efe7ca64c154ca69e89a812403ce055c61852"
OF_THE_STEP = "0b3ed0223548bafc568ef7e1c8456206cc66ff9fdb04bd3160c4a8cf52781217"


def test_a_run_of_format_1_can_be_read_and_resumed(tmp_path: Path) -> None:
    """The rows of an old run are read; it ends with the results of a new run, and with the environment hashed."""
    step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.5), fn.mlp(fn.Key(0), (2, 2))
    old, new = tmp_path / "old", tmp_path / "new"

    def batches(_: int) -> Minibatches[Any]:
        return fn.minibatches(np.eye(2, dtype=np.float32), np.array([0, 1], np.int64), 1)

    with fn.portable():
        list(fn.audited_train(new, step, net, batches, epochs=range(3)))
    copied(fn.load_run(new), old)
    with (old / ROWS).open("w") as file:
        for place, (epoch, state) in enumerate(zip((None, 0, 1), STATES, strict=True)):
            previous, digest = ("", *HASHES)[place], HASHES[place]
            told = OF_THE_DATA if place else ""
            row = fn.RunRow(
                epoch, 2 * (place > 0), previous, state, told, OF_THE_STEP, "portable", MADE_IN, hash=digest
            )
            file.write(line_of(row).decode())
    before = (old / ROWS).read_bytes()
    assert fn.recheck(fn.load_run(old, last_hash=HASHES[-1]), [0, 1], step=step, data=batches)
    with fn.portable():
        list(fn.audited_train(old, step, net, batches, epochs=range(3)))
    assert (old / ROWS).read_bytes().startswith(before)
    runs = fn.load_run(old), fn.load_run(new)
    assert [row.format for row in runs[0].rows] == [1, 1, 1, 2]
    assert runs[0].rows[-1].results == runs[1].rows[-1].results
    assert fn.first_divergence(*runs, step=step, data=batches) is None
    assert fn.recheck(runs[0], range(3), step=step, data=batches)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_rows_that_are_not_a_file_are_refused(tmp_path: Path) -> None:
    """A FIFO without a writer is refused at once."""
    os.mkfifo(tmp_path / ROWS)
    with pytest.raises(fn.CheckpointError, match=r"rows\.jsonl is not a regular file"):
        fn.load_run(tmp_path)


def test_a_directory_without_rows_is_the_systems_error(tmp_path: Path) -> None:
    """The system's error passes unchanged."""
    with pytest.raises(FileNotFoundError):
        fn.load_run(tmp_path)


# ------------------------------------------------------------------------------------------------- replaying


@pytest.mark.parametrize("segment", [range(6), range(2, 4), [5], [0], [3, 1]])
def test_a_replay_has_the_bytes(segment: list[int], kept: fn.Run) -> None:
    """The replay starts from the nearest checkpoint before the segment."""
    report = fn.recheck(kept, segment, step=STEP, data=data)
    assert isinstance(report, fn.Recheck)
    assert report.passed
    assert "every state and every batch has the bytes of its row" in str(report)


def test_a_replay_begins_at_the_nearest_checkpoint(kept: fn.Run) -> None:
    """Checkpoints exist after epochs 1, 3 and 5."""
    assert fn.recheck(kept, [4], step=STEP, data=data).replayed_from == "epoch-3.safetensors"
    assert fn.recheck(kept, [3], step=STEP, data=data).replayed_from == "epoch-1.safetensors"
    assert fn.recheck(kept, [1], step=STEP, data=data).replayed_from == "start.safetensors"


def relabelled(first: int) -> Callable[[int], Minibatches[Any]]:
    """Return the data with one changed label from an epoch on."""

    def change(epoch: int) -> Minibatches[Any]:
        labels = LABELS.copy()
        labels[7] ^= epoch >= first
        return fn.minibatches(X, labels, 10, key=KEY.child("shuffle", epoch))

    return change


def test_a_replay_sees_other_data_and_another_step(kept: fn.Run) -> None:
    """The recheck says what differs."""
    report = fn.recheck(kept, range(6), step=STEP, data=relabelled(3))
    assert (report.passed, report.difference) == (False, "epoch 3 was trained on other batches")
    other = fn.train_step(fn.softmax_cross_entropy, shard_size=5)
    assert fn.recheck(kept, [2], step=other, data=data).difference == "epoch 2 was trained by another step"


def test_a_replay_sees_another_checkpoint(kept: fn.Run, tmp_path: Path) -> None:
    """A damaged checkpoint is refused by its own hash, an intact one of another state by the row's fingerprint."""
    directory = copied(kept, tmp_path / "copy")
    fn.save(directory / "epoch-3.safetensors", start(0.2))
    run = fn.load_run(directory)
    assert fn.recheck(run, [3], step=STEP, data=data).difference == "epoch-3.safetensors is not the state of its row"
    with pytest.raises(fn.CheckpointError, match="it is not the state of its row"):
        fn.recheck(run, [4], step=STEP, data=data)
    run = fn.load_run(copied(kept, tmp_path / "another"))
    run.checkpoint(4).unlink()
    assert fn.recheck(run, [4], step=STEP, data=data).replayed_from == "epoch-1.safetensors"


@frozen
class Wobbly:
    """An impure step: in one step of the run, a weight changes if a global list is not empty."""

    inner: Any = STEP

    def __call__(self, state: State, batch: fn.Batch[Any], /) -> tuple[State, float]:
        """Call the inner step; in the planted step, change one weight."""
        new, loss = self.inner(state, batch)
        if WOBBLES and state.step == 13:
            changed = fn.map_parameters(lambda a: a if a.shape != (6, 2) else a + np.float32(2**-20), new.params)
            new = attrs.evolve(new, params=changed)
        return new, loss


fn.register_name(Wobbly, "tests.Wobbly")
WOBBLES: list[int] = []


@pytest.fixture
def _called() -> Iterator[None]:
    """Disable replay for impure steps: a replay would not see the global state that they read."""
    fn.keep_programs(programs=0)
    yield
    fn.keep_programs()


@pytest.fixture
def _wobbling() -> Iterator[None]:
    WOBBLES.append(1)
    yield
    WOBBLES.clear()


@pytest.mark.usefixtures("_wobbling", "_called")
def test_a_replay_sees_a_step_that_is_not_pure(tmp_path: Path) -> None:
    """The step and the data are the same, but the state differs."""
    keep(tmp_path, step=Wobbly())
    run = fn.load_run(tmp_path)
    assert fn.recheck(run, range(6), step=Wobbly(), data=data).passed
    WOBBLES.clear()
    report = fn.recheck(run, range(6), step=Wobbly(), data=data)
    assert report.difference.endswith("epoch 3 ends in another state")


KNOWN = dict.fromkeys(["python", "numpy", "funcnet", "blas", "blas_threads", "simd", "platform"], "known")
ACROSS = " and native bits need not be equal across environments: epoch 3 ends in another state"
VERSIONS = " and portable bits need not be equal across versions of funcnet: epoch 3 ends in another state"
EXCUSES: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("native", {}, {}, "epoch 3 ends in another state"),
    ("native", {"blas_threads": "2"}, {"blas_threads": "1"}, f"blas_threads was '2' and is '1' here,{ACROSS}"),
    ("native", {"numpy": "1"}, {"numpy": "2", "simd": "AVX"},
     f"numpy was '1' and is '2' here, simd was 'known' and is 'AVX' here,{ACROSS}"),
    ("native", {"blas": "not checked"}, {"blas": "not checked"}, f"blas is not known,{ACROSS}"),
    ("portable", {"blas_threads": "2", "blas": "not checked"}, {"simd": "AVX"}, "epoch 3 ends in another state"),
    ("portable", {"funcnet": "0.1"}, {"funcnet": "0.2"}, f"funcnet was '0.1' and is '0.2' here,{VERSIONS}"),
]  # fmt: skip


def differing(there: dict[str, str], here: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the values that differ, in the order of the environment's fields."""
    names = [name for name in KNOWN if name in there | here]
    return {name: (KNOWN | there)[name] for name in names}, {name: (KNOWN | here)[name] for name in names}


@pytest.mark.usefixtures("_wobbling", "_called")
@pytest.mark.parametrize(("arithmetic", "there", "here", "said"), EXCUSES)
def test_an_honest_run_is_not_accused(  # noqa: PLR0917
    arithmetic: Any, there: Any, here: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a native run's bits differ, the environment's differences come first; portable runs have no such excuse."""
    with using(arithmetic):
        monkeypatch.setattr(audited, "environment", elsewhere(**KNOWN | there))
        keep(tmp_path / "there", step=Wobbly())
        WOBBLES.clear()
        monkeypatch.setattr(audited, "environment", elsewhere(**KNOWN | here))
        keep(tmp_path / "here", step=Wobbly())
    runs = fn.load_run(tmp_path / "there"), fn.load_run(tmp_path / "here")
    assert fn.recheck(runs[0], [3], step=Wobbly(), data=data).difference == said
    assert fn.recheck(runs[0], [2], step=Wobbly(), data=data), "equal bits need no excuse"
    if "blas" in there or not there:
        with pytest.raises(
            fn.CheckpointError, match=r"epoch 3 .*the step is not pure, or their environments differ in"
        ):
            fn.first_divergence(*runs, step=Wobbly(), data=data)
    else:
        found = fn.first_divergence(*runs, step=Wobbly(), data=data)
        assert found is not None
        assert (found.epoch, found.step, found.what) == (3, None, "environment")
        pairs = [", ".join(f"{name}={value!r}" for name, value in both.items()) for both in differing(there, here)]
        both = f"environment is {pairs[0]} in one and {pairs[1]} in the other"
        assert str(found) == f"the runs diverge in epoch 3: {both}; the states need not be equal across them"


def test_a_replay_needs_its_epochs(kept: fn.Run) -> None:
    """The segment must contain epochs, and the run must have them."""
    with pytest.raises(fn.ConfigError, match="has no epoch 6"):
        fn.recheck(kept, [6], step=STEP, data=data)
    with pytest.raises(fn.ConfigError, match="segment must have at least one epoch"):
        fn.recheck(kept, [], step=STEP, data=data)


def test_what_is_no_run_or_data_is_refused(kept: fn.Run) -> None:
    """A directory is not a run, an epoch is not a segment, and batches are not a function of an epoch."""
    recheck: Any = fn.recheck
    part: Any = fn.first_divergence
    other = kept.directory
    cases: list[tuple[Any, tuple[object, ...], object, str]] = [
        (recheck, ("run_a", [0]), data, r"run must be a Run, got 'run_a'; use load_run\('run_a'\)"),
        (recheck, (kept, 3), data, "segment must be a sequence or an iterator, got 3"),
        (recheck, (kept, [3]), [X], "data must be a function"),
        (part, (kept, other), data, r"run_b must be a Run, got .*; use load_run\(path\)"),
        (part, (kept, kept), (data, 3), "data must be a function, got 3"),
    ]
    for call, arguments, batches, fact in cases:
        with pytest.raises(fn.ConfigError, match=fact):
            call(*arguments, step=STEP, data=batches)


def test_a_recheck_is_true_if_it_passed(kept: fn.Run) -> None:
    """``assert recheck(...)`` therefore detects a difference."""
    assert bool(fn.recheck(kept, [0], step=STEP, data=data)) is True
    assert bool(fn.recheck(kept, [0], step=STEP, data=relabelled(0))) is False


# ------------------------------------------------------------------------------------------------- comparing


def test_a_run_does_not_part_from_itself(kept: fn.Run) -> None:
    """The result is None."""
    assert fn.first_divergence(kept, kept, step=STEP, data=data) is None


@pytest.mark.slow
@pytest.mark.parametrize("epoch", range(6))
def test_the_first_other_label_is_found(epoch: int, kept: fn.Run, tmp_path: Path) -> None:
    """The result has the epoch, the step and the index."""
    keep(tmp_path, data=relabelled(epoch), every=4)
    found = fn.first_divergence(kept, fn.load_run(tmp_path), step=STEP, data=(data, relabelled(epoch)))
    assert isinstance(found, fn.Divergence)
    batches = list(data(epoch))
    others = list(relabelled(epoch)(epoch))
    step = next(i for i in range(4) if (batches[i].y != others[i].y).any())
    index = int((batches[step].y != others[step].y).argmax())
    assert (found.epoch, found.step, found.what, found.path) == (epoch, step, "data", f"y[{index}]")


@pytest.mark.parametrize("change", ["x", "length"])
def test_other_batches_are_found(change: str, kept: fn.Run, tmp_path: Path) -> None:
    """A flipped bit of an input and a missing batch are found."""

    def other(epoch: int) -> Any:
        x = X.copy()
        x[3, 2] = np.nextafter(x[3, 2], np.float32(9)) if change == "x" else x[3, 2]
        batches = fn.minibatches(x, LABELS, 10, key=KEY.child("shuffle", epoch))
        return batches if change == "x" else batches[:3]

    keep(tmp_path, data=other)
    found = fn.first_divergence(kept, fn.load_run(tmp_path), step=STEP, data=(data, other))
    assert found is not None
    assert (found.epoch, found.what) == (0, "data")
    assert found.path.startswith("x[") if change == "x" else found.step == 3


@pytest.mark.usefixtures("_wobbling", "_called")
def test_the_first_other_weight_is_found(tmp_path: Path) -> None:
    """The result has the step, layer, field and index, even if the steps and the data are the same."""
    keep(tmp_path / "one", step=Wobbly())
    WOBBLES.clear()
    keep(tmp_path / "two", step=Wobbly())

    @frozen
    class Switched:
        inner: Any = Wobbly()  # a frozen value

        def __call__(self, state: State, batch: fn.Batch[Any], /) -> tuple[State, float]:
            WOBBLES.append(1)
            result: tuple[State, float] = self.inner(state, batch)
            WOBBLES.clear()
            return result

    runs = fn.load_run(tmp_path / "one"), fn.load_run(tmp_path / "two")
    assert runs[0].rows[3] == runs[1].rows[3]
    found = fn.first_divergence(*runs, step=(Switched(), Wobbly()), data=data)
    assert found is not None
    assert (found.epoch, found.step, found.what) == (3, 1, "state")
    assert found.path == "params.3.weight[0, 0]"
    assert str(found).startswith("the runs diverge in epoch 3, step 1: state, params.3.weight[0, 0] is ")
    with pytest.raises(fn.CheckpointError, match="shows no difference"):
        fn.first_divergence(*runs, step=Wobbly(), data=data)


@frozen
class Slipping:
    """An impure step: in the planted step, only a moment, the key or the step's number changes."""

    slips: bool = field(default=True, eq=False)

    def __call__(self, state: State, batch: fn.Batch[Any], /) -> tuple[State, float]:
        """Call the plain step; in the planted step, make the planted change."""
        new, loss = STEP(state, batch)
        if SLIPS and self.slips and state.step == 9:
            new = SLIPS[-1](new)
        return new, loss


fn.register_name(Slipping, "tests.Slipping")
SLIPS: list[Callable[[State], State]] = []


def with_moment(state: State) -> State:
    """Change the last layer's velocity by many units in the last place, which rounding cannot undo on any machine."""
    moved = fn.map_parameters(lambda a: a + np.float32(2**-10) if a.shape == (2,) else a, state.moments["velocity"])
    return attrs.evolve(state, moments=fn.Moments.of(velocity=moved))


SLIPPED: dict[str, tuple[Callable[[State], State], str, tuple[str, str] | None]] = {
    "a moment": (with_moment, "moments.0.3.bias[0]", None),
    "the key": (lambda state: attrs.evolve(state, key=fn.Key(7)), "key.seed", ("41", "7")),
    "the step": (lambda state: attrs.evolve(state, step=state.step + 5), "step", ("10", "15")),
    "the rate": (
        lambda state: attrs.evolve(state, optimizer=fn.Momentum(learning_rate=0.05)),
        "optimizer.learning_rate",
        ("0.1", "0.05"),
    ),
    "a rate in a layer": (
        lambda state: attrs.evolve(state, params=(*state.params[:2], fn.Dropout(0.4), state.params[3])),
        "params.2.rate",
        ("0.3", "0.4"),
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("_called")
@pytest.mark.parametrize("name", SLIPPED)
def test_whatever_changes_in_a_state_is_found(name: str, tmp_path: Path) -> None:
    """A change of optimizer state, settings, key or step count is found by its field, in the step that makes it."""
    change, path, values = SLIPPED[name]
    keep(tmp_path / "one", range(4), step=Slipping())
    SLIPS.append(change)
    try:
        keep(tmp_path / "two", range(4), step=Slipping())
        runs = fn.load_run(tmp_path / "one"), fn.load_run(tmp_path / "two")
        report = fn.recheck(runs[0], range(4), step=Slipping(), data=data)
        assert report.difference.endswith("epoch 2 ends in another state")
        found = fn.first_divergence(*runs, step=(Slipping(slips=False), Slipping()), data=data)
    finally:
        SLIPS.clear()
    assert found is not None
    assert (found.epoch, found.step, found.what, found.path) == (2, 1, "state", path)
    assert values is None or found.values == values


def test_another_start_setting_or_length_is_found(kept: fn.Run, tmp_path: Path) -> None:
    """Differences in the learning rate, the shard size, the arithmetic and the number of epochs are found."""
    keep(tmp_path / "rate", state=start(0.2))
    found = fn.first_divergence(kept, fn.load_run(tmp_path / "rate"), step=STEP, data=data)
    assert found is not None
    assert (found.epoch, found.what) == (None, "state")
    assert str(found) == (
        "the runs diverge at the start: state, optimizer.learning_rate is 0.1 in one and 0.2 in the other"
    )

    shards = fn.train_step(fn.softmax_cross_entropy, shard_size=5)
    keep(tmp_path / "shards", range(2))
    keep(tmp_path / "shards", range(2, 3), step=shards, state=fn.load(tmp_path / "shards" / "epoch-1.safetensors"))
    found = fn.first_divergence(kept, fn.load_run(tmp_path / "shards"), step=(STEP, shards), data=data)
    assert found is not None
    assert (found.epoch, found.what) == (2, "settings")
    assert (found.path, found.values) == ("shard_size", ("None", "5"))

    with using("portable"):
        keep(tmp_path / "portable")
    found = fn.first_divergence(kept, fn.load_run(tmp_path / "portable"), step=STEP, data=data)
    assert found is not None
    assert (found.path, found.values) == ("arithmetic", ("native", "portable"))

    keep(tmp_path / "short", range(4))
    found = fn.first_divergence(kept, fn.load_run(tmp_path / "short"), step=STEP, data=data)
    assert found is not None
    assert (found.epoch, found.what, found.values) == (4, "length", ("6 epochs", "4 epochs"))


# ------------------------------------------------------------------------------------------------- resuming

GO_ON = """
import sys
import numpy as np
import funcnet as fn
state, key = fn.load(sys.argv[1]), fn.Key(41)
batches = fn.minibatches(np.load("x.npy"), np.load("labels.npy"), 4, key=key)
state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches[state.step:])
print(state.step, fn.fingerprint(state))
"""


@pytest.mark.slow
@pytest.mark.parametrize("portable", [False, True])
def test_a_run_resumes_at_every_step_in_a_new_process(tmp_path: Path, portable: bool) -> None:  # noqa: FBT001
    """Thirty steps with momentum and dropout have one fingerprint, wherever the run stops."""
    program = GO_ON.replace("state, _ =", "with fn.portable(): state, _ =") if portable else GO_ON
    x, labels = np.concatenate([X] * 3), np.concatenate([LABELS] * 3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "labels.npy", labels)
    with fn.portable() if portable else nullcontext():
        states = [start()]
        for batch in fn.minibatches(x, labels, 4, key=KEY):
            states.append(STEP(states[-1], batch)[0])

    def resumed(position: int) -> str:
        path = tmp_path / f"{position}.safetensors"
        fn.save(path, states[position])
        command = [sys.executable, "-c", program, str(path)]
        settings = os.environ | {"PYTHONPATH": str(Path(str(fn.__file__)).parent.parent)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=settings)
        return done.stdout

    with ThreadPoolExecutor(4) as executor:
        said = set(executor.map(resumed, range(30)))
    assert said == {f"30 {fn.fingerprint(states[-1])}\n"}
