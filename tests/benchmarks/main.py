"""The program behind ``run.py``, which starts it with the environment that the thread count needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.agreement import check_prediction, check_training
from benchmarks.contenders import FLOOR, FUNCNET, IMAGE_TRAINERS, PREDICTORS, TRAINERS, Entry
from benchmarks.footprint import LIBRARIES, import_times, installed_bytes
from benchmarks.images import problem_of
from benchmarks.machine import facts
from benchmarks.table import Figure, Row, as_json, rows, text
from benchmarks.timing import ROUND, Task, Timing, measure
from benchmarks.workloads import WORKLOADS, Problem, Workload


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.py", description="Times a training step of funcnet and of its peers.")
    parser.add_argument("--threads", type=int, default=1, help="threads of BLAS, PyTorch and XLA (default 1)")
    parser.add_argument("--workloads", default=",".join(w.name for w in WORKLOADS), help="such as W1,W4 (default all)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, of which the median is shown (default 7)")
    parser.add_argument("--seconds", type=float, default=ROUND, help=f"a round's length (default {ROUND})")
    parser.add_argument("--rows", type=int, help="examples an epoch, instead of the workload's own number")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser


def training(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Microseconds a step of a whole epoch."""
    trainers_of = IMAGE_TRAINERS if workload.kind == "images" else TRAINERS
    entries = [entry for entry in trainers_of if entry.installed]
    check_training(workload, entries)
    problem = problem_of(workload, rows=options.rows)
    trainers = [entry.trainer(problem) for entry in entries]
    tasks = [Task(trainer.start, trainer.epoch) for trainer in trainers]
    timings = measure(tasks, options.rounds, seconds=options.seconds)
    return rows(workload.name, figures(entries, timings), scale=1e6 / problem.steps, unit="µs/step", own=FUNCNET)


def prediction(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Milliseconds for all rows."""
    entries = [entry for entry in PREDICTORS if entry.installed]
    check_prediction(workload, entries)
    problem = Problem(workload, rows=options.rows)
    tasks = [Task(lambda: None, entry.predictor(problem)) for entry in entries]
    timings = measure(tasks, options.rounds, seconds=options.seconds)
    return rows(workload.name, figures(entries, timings), scale=1e3, unit="ms", own=FUNCNET)


def figures(entries: Sequence[Entry], timings: Sequence[Timing]) -> list[Figure]:
    """Each contender beside the floor of its own precision."""
    pairs = zip(entries, timings, strict=True)
    return [Figure(entry.name, timing, FLOOR[entry.precision]) for entry, timing in pairs]


def footprint(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Milliseconds of an import, megabytes of an install."""
    libraries = [library for library in LIBRARIES if library.installed]
    floor, name = libraries[0].name, workload.name
    times = import_times(libraries, options.rounds)
    sizes = [Timing((float(installed_bytes(library)),)) for library in libraries]
    imports = [Figure(library.name, timing, floor) for library, timing in zip(libraries, times, strict=True)]
    installs = [Figure(library.name, size, floor) for library, size in zip(libraries, sizes, strict=True)]
    return [
        *rows(name, imports, scale=1e3, unit="ms import", own="funcnet"),
        *rows(name, installs, scale=1e-6, unit="MB installed", own="funcnet"),
    ]


KINDS = {"training": training, "images": training, "prediction": prediction, "footprint": footprint}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = arguments()
    options = parser.parse_args()
    chosen = {workload.name: workload for workload in WORKLOADS if workload.name in options.workloads.split(",")}
    if unknown := set(options.workloads.split(",")) - set(chosen):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    found: list[Row] = []
    for workload in chosen.values():
        print(f"{workload.name}: {workload.title} ...", file=sys.stderr, flush=True)
        found += KINDS[workload.kind](workload, options)
    about = facts(options.threads) | ({} if options.rows is None else {"rows": f"{options.rows} instead of each own"})
    titles = {name: workload.title for name, workload in chosen.items()}
    print("\n".join(f"{name}: {value}" for name, value in (about | titles).items()), end="\n\n")
    print(text(found))
    if options.json is not None:
        options.json.write_text(as_json(about, titles, found) + "\n")


if __name__ == "__main__":
    main()
