"""Tampering with a kept run: what the rows, a replay, and a hash that was kept elsewhere each notice.

The results are in a table of the guide to reproducibility. Here is how each of its rows is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from attrs import frozen
from surroundings import ROOT
from test_runs import STEP, copied, data, keep, relabelled, start

import funcnet as fn
from funcnet.runs.rows import ROWS, line_of

GUIDE = ROOT / "examples" / "guides" / "reproducibility.md"
if not GUIDE.exists():
    pytest.skip("the guide is not beside the tests", allow_module_level=True)

Rows = list[fn.RunRow]
Change = Callable[[Rows], Rows]
OTHER_STEP = fn.train_step(fn.softmax_cross_entropy, shard_size=5)


@frozen
class Tampering:
    """A change of a run's directory; or other data, or another step, that the auditor gives."""

    change: Callable[[Path], object] = lambda _: None
    step: Any = STEP
    data: Any = data


def lines(change: Change) -> Tampering:
    """Rewrite the rows, without new hashes."""

    def rewrite(home: Path) -> None:
        rows = change(list(fn.load_run(home).rows))
        (home / ROWS).write_bytes(b"".join(map(line_of, rows)))

    return Tampering(rewrite)


def resealed(change: Change) -> Tampering:
    """Rewrite the rows, and compute all hashes of all rows again."""

    def reseal(rows: Rows) -> Rows:
        done: Rows = []
        for row in change(rows):
            done.append(row.sealed(done[-1] if done else None))
        return done

    return lines(reseal)


def one(position: int, **values: Any) -> Change:
    """Change fields of one row."""
    return lambda rows: [attrs.evolve(row, **values) if i == position else row for i, row in enumerate(rows)]


def old_format(first: int) -> Change:
    """Write the rows from a position on in format 1, which does not hash the environment."""

    def rewrite(rows: Rows) -> Rows:
        done = rows[:first]
        for row in rows[first:]:
            before = done[-1].hash if done else ""
            old = attrs.evolve(row, previous=before, results="", format=1, hash="")
            done.append(attrs.evolve(old, hash=fn.fingerprint(attrs.evolve(old, environment=""))))
        return done

    return rewrite


def other_results(rows: Rows) -> Rows:
    """Change a row's results, and compute the hashes of the rows again, but not their results."""
    done: Rows = []
    for row in one(2, results="a" * 64)(rows):
        before = done[-1].hash if done else ""
        changed = attrs.evolve(row, previous=before, hash="")
        done.append(attrs.evolve(changed, hash=fn.fingerprint(changed)))
    return done


def files(change: Callable[[Path, Path], object]) -> Tampering:
    """Change the checkpoints of epochs 1 and 3."""
    return Tampering(lambda home: change(home / "epoch-1.safetensors", home / "epoch-3.safetensors"))


def swap(one: Path, other: Path) -> None:
    """Swap the contents of two files."""
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def flip(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def in_line_3(path: Path) -> int:
    """Return the position of a digit in the third line of a file."""
    content = path.read_bytes()
    return content.index(b'"state": "', len(b"".join(content.splitlines(keepends=True)[:2]))) + 20


def cut(home: Path, length: int = 1, *, checkpoints: bool) -> None:
    """Cut rows from the end, with their checkpoints or without."""
    rows = fn.load_run(home).rows
    for row in rows[-length:]:
        if checkpoints:
            (home / f"epoch-{row.epoch}.safetensors").unlink(missing_ok=True)
    (home / ROWS).write_bytes(b"".join(map(line_of, rows[:-length])))


def another_run(home: Path) -> None:
    """Put a run from another start in the run's place."""
    for path in home.iterdir():
        path.unlink()
    with fn.portable():
        keep(home, range(4), start(0.2), every=2)


def longer(home: Path) -> None:
    """Train one more epoch."""
    with fn.portable():
        keep(home, range(5), every=2)


ZEN = "Environment(blas='openblas Zen')"
FORGED = fn.RunRow(7, 4, "", "a" * 64, "b" * 64, "c" * 64, "portable", ZEN)
TAMPERINGS: dict[str, Tampering] = {
    "nothing": Tampering(),
    "a byte of the rows": Tampering(lambda home: flip(home / ROWS, in_line_3(home / ROWS))),
    "a row's number of steps": lines(one(2, steps=9)),
    "a row's epoch": lines(one(2, epoch=9)),
    "a row's environment": lines(one(2, environment=ZEN)),
    "a row, with its hash computed again": lines(
        lambda rows: [*rows[:2], attrs.evolve(rows[2], steps=9).sealed(rows[1]), *rows[3:]]
    ),
    "the first row removed": lines(lambda rows: rows[1:]),
    "a row removed from the middle": lines(lambda rows: rows[:2] + rows[3:]),
    "two rows swapped": lines(lambda rows: [*rows[:2], rows[3], rows[2], *rows[4:]]),
    "a row written twice": lines(lambda rows: [*rows[:3], *rows[2:]]),
    "a row inserted": lines(lambda rows: [*rows[:3], FORGED.sealed(rows[2]), *rows[3:]]),
    "a row's results, and all hashes but the results computed again": lines(other_results),
    "the last rows written in format 1, without the environment's hash": lines(old_format(3)),
    "all rows removed": lines(lambda _: []),
    "the last line cut in half": Tampering(lambda home: (home / ROWS).write_bytes((home / ROWS).read_bytes()[:-400])),
    "the last row cut, its checkpoint left": Tampering(lambda home: cut(home, checkpoints=False)),
    "the last two rows and their checkpoints cut, or an older copy put back": Tampering(
        lambda home: cut(home, 2, checkpoints=True)
    ),
    "a row's number of steps, and all hashes computed again": resealed(one(2, steps=9)),
    "a row's epoch, and all hashes computed again": resealed(one(4, epoch=9)),
    "a row's state, and all hashes computed again": resealed(one(2, state="a" * 64)),
    "a row's arithmetic, and all hashes computed again": resealed(one(2, arithmetic="native")),
    "a row's environment, and all hashes computed again": resealed(one(2, environment=ZEN)),
    "all rows written in format 1, without the environment's hash": lines(old_format(0)),
    "a complete run from another start in its place": Tampering(another_run),
    "an epoch more, trained later": Tampering(longer),
    "a bit of a checkpoint": files(lambda one, _: flip(one, -1)),
    "two checkpoints swapped": files(swap),
    "a valid checkpoint of another state": files(lambda one, _: fn.save(one, start(0.2))),
    "a valid checkpoint of another start": Tampering(lambda home: fn.save(home / "start.safetensors", start(0.2))),
    "the first checkpoint removed": Tampering(lambda home: (home / "start.safetensors").unlink()),
    "a later checkpoint removed": files(lambda one, _: one.unlink()),
    "a checkpoint of an epoch that has no row": files(lambda one, _: copy(one, one.parent / "epoch-7.safetensors")),
    "the lock file, or a file that is not the run's": Tampering(
        lambda home: [(home / name).write_text("changed") for name in (".lock", "notes.txt")]
    ),
    "the auditor replays with other data": Tampering(data=relabelled(2)),
    "the auditor replays with another step": Tampering(step=OTHER_STEP),
}


def copy(path: Path, to: Path) -> None:
    """Copy a file."""
    to.write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def portable_run(tmp_path_factory: pytest.TempPathFactory) -> fn.Run:
    """Return a portable run of four epochs, with the checkpoints of the start and of epochs 1 and 3."""
    directory = tmp_path_factory.mktemp("portable")
    with fn.portable():
        keep(directory, range(4), every=2)
    return fn.load_run(directory)


def noticed(home: Path, tampering: Tampering, last_hash: str) -> Iterator[str]:
    """What ``load_run``, ``recheck`` of all epochs, and ``recheck`` with the last hash say, in this order."""
    try:
        run = fn.load_run(home)
    except fn.CheckpointError as error:
        yield from (error.message, "", "")
        return
    yield f"`without_row`: {', '.join(run.without_row)}" if run.without_row else ""
    epochs = [row.epoch for row in run.rows if row.epoch is not None]
    for given in (None, last_hash):
        try:
            yield fn.recheck(run, epochs, step=tampering.step, data=tampering.data, last_hash=given).difference
        except fn.CheckpointError as error:
            yield error.message


def table() -> dict[str, list[str]]:
    """The rows of the guide's table of tampering: what each check notices."""
    section = GUIDE.read_text().split("\n## What an audited run proves\n")[1].split("\n## ")[0]
    found = re.findall(r"^\|(.*)\|(.*)\|(.*)\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in row] for row in found]
    return {name: cells for name, *cells in rows[2:]}


def test_the_table_has_every_tampering() -> None:
    """The guide and this file list the same, in the same order."""
    assert list(table()) == list(TAMPERINGS)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_table_says_what_is_noticed(name: str, portable_run: fn.Run, tmp_path: Path) -> None:
    """Each cell of the guide's table is the message of the check, or empty if the check notices nothing."""
    home = copied(portable_run, tmp_path / "copy")
    TAMPERINGS[name].change(home)
    assert list(noticed(home, TAMPERINGS[name], portable_run.rows[-1].hash)) == table()[name]


def test_the_last_hash_is_that_of_the_last_row(portable_run: fn.Run) -> None:
    """``load_run`` and ``recheck`` take it; another one, or something else than a hash, is refused."""
    home, last = portable_run.directory, portable_run.rows[-1]
    assert fn.load_run(home, last_hash=last.hash) == portable_run
    assert fn.recheck(portable_run, [3], step=STEP, data=data, last_hash=last.hash)
    with pytest.raises(fn.CheckpointError, match="last_hash is the hash of epoch 1, not of the last"):
        fn.load_run(home, last_hash=portable_run.rows[2].hash)
    with pytest.raises(fn.CheckpointError, match="last_hash is the hash of the first row, not of the last row"):
        fn.recheck(portable_run, [3], step=STEP, data=data, last_hash=portable_run.rows[0].hash)
    for wrong in (last.results[:-1], 3, b"a" * 64):
        with pytest.raises(fn.ConfigError, match="last_hash must be 64 hexadecimal digits, got"):
            fn.load_run(home, last_hash=wrong)  # type: ignore[arg-type]  # on purpose
