"""The benchmark: it runs with the installed libraries, the contenders agree, and the figures are computed correctly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from benchmarks import portable as portable_price
from benchmarks.agreement import check_training
from benchmarks.contenders import FLOOR, FUNCNET, IMAGE_TRAINERS, PREDICTORS, TRAINERS, trainers
from benchmarks.footprint import LIBRARIES, distributions, import_times, installed_bytes
from benchmarks.table import Figure, rows, text
from benchmarks.timing import Task, Timing, measure
from benchmarks.workloads import WORKLOADS, Problem, Workload
from networks import CASES
from surroundings import ROOT, TESTS

import funcnet as fn

pytestmark = pytest.mark.slow

COMMAND = Path(__file__).parent / "benchmarks" / "run.py"
SMALL = Workload("small", (6, 5, 4, 3), 4, 32)
SMALL_ROUNDS = ("--rounds", "1", "--seconds", "0.001")
OURS = [entry for entry in TRAINERS if entry.library in {"numpy", "funcnet"}]


def ran(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the benchmark."""
    command = [sys.executable, str(program), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_the_command_prints_and_saves_every_row(tmp_path: Path) -> None:
    """The table and the JSON have one row per installed contender, and the program of each of funcnet's steps."""
    saved = tmp_path / "out.json"
    result = ran(COMMAND, "--workloads", "W4,W6,W8,W9", *SMALL_ROUNDS, "--rows", "64", "--json", str(saved))
    assert result.returncode == 0, result.stderr
    found = json.loads(saved.read_text())
    measured = {workload.name: trainers(workload) for workload in WORKLOADS}
    measured["W6"] = [entry for entry in PREDICTORS if entry.installed]
    entries = [(name, entry) for name in ("W4", "W6", "W8", "W9") for entry in measured[name]]
    expected = [(name, entry.name) for name, entry in entries]
    programs = [(name, entry.name) for name, entry in entries if entry.library == "funcnet" and name != "W6"]
    assert [(row["workload"], row["contender"]) for row in found["rows"]] == expected
    assert [(row["workload"], row["contender"]) for row in found["programs"]] == programs
    assert all(row["calls"] > 30 and row["megabytes"] > 0 and row["milliseconds"] > 0 for row in found["programs"])
    lines = [line for line in result.stdout.splitlines() if line.startswith("| W")]
    assert [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in lines] == expected + programs
    assert {"processor", "threads", "python", "numpy", "blas"} <= set(found["machine"])
    assert all(row["value"] > 0 and row["to_floor"] > 0 for row in found["rows"])


def test_the_command_measures_another_release(tmp_path: Path) -> None:
    """With a copy of funcnet under another name, each funcnet contender appears twice, and the copy has a ratio."""
    source = Path(fn.__file__).parent
    for path in source.rglob("*.py"):
        copy = tmp_path / "funcnet_other" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("funcnet", "funcnet_other"))
    saved = tmp_path / "out.json"
    options = ("--workloads", "W4,W6", "--against", "funcnet_other", "--rows", "64", "--json", str(saved))
    result = ran(COMMAND, *options, *SMALL_ROUNDS, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    found = {row["contender"]: row for row in json.loads(saved.read_text())["rows"]}
    names = [entry.name for entry in trainers(WORKLOADS[3]) if entry.library == "funcnet"]
    twins = {name: name.replace("funcnet", "funcnet_other", 1) for name in names}
    assert list(found) == [*FLOOR.values(), *(each for pair in twins.items() for each in pair)]
    for name, twin in twins.items():
        assert found[twin]["to_funcnet"] == pytest.approx(found[twin]["value"] / found[name]["value"])


def test_every_row_of_the_table_of_layers_is_measured() -> None:
    """Each row has a line with a time above 0."""
    paths = os.pathsep.join(map(str, (COMMAND.parent.parent, TESTS, TESTS / "layers", ROOT)))
    result = ran(COMMAND.with_name("layers.py"), *SMALL_ROUNDS, "--batch", "2", "--width", "8", PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    _, *lines = result.stdout.splitlines()
    longest = max(len(case.name) for case in CASES)
    assert [line[:longest].rstrip() for line in lines] == [case.name for case in CASES]
    assert all(float(line[longest + 17 :].split()[0]) > 0 for line in lines)


def test_the_estimators_are_scored_and_timed() -> None:
    """Each estimator has a score above chance and a time, and each classifier has a time of a step."""
    pytest.importorskip("sklearn")
    paths = os.pathsep.join(map(str, (COMMAND.parent.parent, ROOT)))
    options = ("--data", "wine", "--splits", "2", "--epochs", "2", "--rounds", "1")
    result = ran(COMMAND.with_name("estimators.py"), *options, PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    scores = [row for row in cells if row[0] == "wine"]
    assert [row[1] for row in scores] == ["funcnet", "funcnet, early stopping", "MLP", "scaled MLP"]
    assert all(0.34 < float(row[2]) <= 1 and float(row[4]) > 0 for row in scores)
    times = {row[0]: float(row[1]) for row in cells if len(row) == 3 and row[1].isdigit()}
    assert list(times) == ["funcnet", "funcnet, portable", "MLP"]


def test_the_language_models_agree_with_pytorch() -> None:
    """Three steps of each small model give the same bits per character in both libraries, and each step has a time."""
    pytest.importorskip("torch")
    paths = os.pathsep.join(map(str, (COMMAND.parent.parent, ROOT)))
    options = ("--size", "8", "--steps", "3", "--rounds", "1")
    result = ran(COMMAND.with_name("language_models.py"), *options, PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    found = {row[0]: [float(cell) for cell in row[1:]] for row in cells if row[0] in ("gru", "lstm", "attention")}
    assert list(found) == ["gru", "lstm", "attention"]
    for ours, theirs, difference, *times in found.values():
        assert abs(difference) <= 0.001
        assert 5 < min(ours, theirs) < 9
        assert min(times) > 0


def test_networks_together_are_timed_beside_jax() -> None:
    """Each line has a gain and four times, of which JAX has none in portable arithmetic; JAX computes the same."""
    pytest.importorskip("jax", reason="jax is not installed")
    paths = os.pathsep.join(map(str, (COMMAND.parent.parent, ROOT)))
    options = ("--cases", "W4-dropout,W4-portable", "--networks", "3", "--steps", "4", "--rounds", "1")
    result = ran(COMMAND.with_name("together.py"), *options, PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    assert [row[0].split(", ")[-1] for row in cells[2:]] == ["Dropout 0.1", "portable"]
    for row in cells[2:]:
        times = [cell for cell in row[2:7] if cell]
        assert len(times) == (3 if "portable" in row[0] else 5)
        assert all(float(cell.split()[0]) > 0 for cell in times)
        assert row[7] in ("", "0 of 3", "1 of 3", "2 of 3", "3 of 3")


def test_ranks_are_timed_beside_one_process() -> None:
    """Each step has times above 0; a single rank sends nothing."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    paths = os.pathsep.join(map(str, (COMMAND.parent.parent, ROOT)))
    options = ("--workloads", "W1", "--shards", "2,4", "--steps", "12", "--rounds", "1")
    result = ran(COMMAND.with_name("many_machines.py"), *options, PYTHONPATH=paths)
    assert result.returncode == 0, result.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.stdout.splitlines() if "|" in line]
    rows = cells[2:]
    assert [row[1] for row in rows] == ["no shards", *("2 shards",) * 2, *("4 shards",) * 2]
    assert all(float(cell) > 0 for row in rows for cell in row[3:9])
    assert {row[9] for row in rows} == {"0.00"}


def test_the_command_refuses_what_is_not_there() -> None:
    """An unknown workload, zero threads, and a release that cannot be imported are refused."""
    refused = {
        "--workloads W0": "no such workload: W0",
        "--threads 0": "--threads",
        "--against f_o": "no module named f_o",
    }
    for arguments, reason in refused.items():
        result = ran(COMMAND, *arguments.split())
        assert result.returncode == 2
        assert reason in result.stderr


def test_funcnet_and_the_post_compute_the_same() -> None:
    """The losses and weights of an epoch without shuffling agree, also in portable arithmetic and in W1's sizes."""
    check_training(SMALL, OURS)
    check_training(WORKLOADS[0], OURS)


def test_the_lenets_compute_the_same() -> None:
    """The losses, kernels and matrices of an epoch without shuffling agree between funcnet and plain NumPy."""
    ours = [entry for entry in IMAGE_TRAINERS if entry.library in {"numpy", "funcnet"}]
    check_training(next(workload for workload in WORKLOADS if workload.kind == "images"), ours)


def test_another_computation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that trains at a different rate is refused."""
    monkeypatch.setattr("benchmarks.contenders.functional.LEARNING_RATE", 0.11)
    with pytest.raises(AssertionError, match="funcnet float32 computes another"):
        check_training(SMALL, OURS)


def test_starting_again_gives_the_initial_weights() -> None:
    """Starting again undoes the effect of an epoch."""
    problem = Problem(SMALL)
    for entry in OURS:
        trainer = entry.trainer(problem)
        trainer.epoch()
        trainer.start()
        for got, weight in zip(trainer.weights(), problem.weights, strict=True):
            assert np.array_equal(got, weight.astype(entry.precision)), entry.name


def test_the_price_of_portable_arithmetic_is_that_of_the_same_training() -> None:
    """Both sides take the same steps, one of them in portable arithmetic, which takes more NumPy calls."""
    name, native, portable, *_, calls, more, products = portable_price.compared(SMALL, 3, 0.0)
    assert name == "small"
    assert float(native.replace(",", "")) > 0
    assert float(portable.replace(",", "")) > 0
    assert int(calls) < int(more)
    assert float(products) > 0
    for workload in (portable_price.SEQUENCES[0], *WORKLOADS[-2:]):
        with fn.portable():
            assert portable_price.trainer_of(workload, workload.batch_size).epoch() > 0


def test_an_epoch_has_whole_batches_only() -> None:
    """No contender has a smaller last batch, and the labels can be learned."""
    problem = Problem(SMALL, rows=30)
    assert problem.steps == 7
    assert problem.x32.shape == problem.x64.shape == (28, 6)
    assert len(np.unique(problem.labels)) > 1


def test_rounds_are_interleaved() -> None:
    """After two warm-up runs, each round runs every task and begins with a different one."""
    order: list[str] = []
    tasks = [Task(int, partial(order.append, name)) for name in "abc"]
    timings = measure(tasks, 2, seconds=0.0)
    assert "".join(order) == "abcabc" + "abc" + "bca"
    assert [len(timing.rounds) for timing in timings] == [2, 2, 2]


def test_ratios_are_to_funcnet_and_to_the_floor() -> None:
    """Ratios are of scaled medians; the floor is that of the row's own precision."""
    floor = FLOOR["float32"]
    timings = {floor: (1.0, 2.0, 9.0), FUNCNET: (4.0, 4.0, 4.0)}
    figures = [Figure(name, Timing(rounds), floor) for name, rounds in timings.items()]
    first, second = rows("W1", figures, scale=10, unit="µs/step")
    assert (first.value, first.best, first.to_funcnet, first.to_floor) == (20, 10, 0.5, 1)
    assert (second.value, second.to_funcnet, second.to_floor, second.spread) == (40, 1, 2, 0)
    assert len({len(line) for line in text([first, second]).splitlines()}) == 1


def test_an_install_counts_what_it_needs() -> None:
    """funcnet's install consists of NumPy, attrs and funcnet."""
    libraries = {library.name: library for library in LIBRARIES}
    assert set(distributions(libraries["funcnet"].roots)) == {"numpy", "attrs"}
    own = installed_bytes(libraries["funcnet"]) - installed_bytes(libraries["NumPy alone"])
    assert 100_000 < own < 5_000_000


def test_an_import_is_timed_in_a_new_process() -> None:
    """The module is already loaded in this process, which does not matter."""
    (timing,) = import_times([library for library in LIBRARIES if library.name == "NumPy alone"], 1)
    assert 0 < timing.median < 60
