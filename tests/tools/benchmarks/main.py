"""The program behind ``run.py``, which starts it in the environment that the thread count needs."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.agreement import check_prediction, check_training
from benchmarks.choice import chosen_names
from benchmarks.contenders import FLOOR, FUNCNET, PLAIN, POST, PREDICTORS, Entry, trainers
from benchmarks.footprint import LIBRARIES, import_times, installed_bytes
from benchmarks.images import problem_of
from benchmarks.machine import facts
from benchmarks.table import Figure, ProgramRow, Row, as_json, program_text, rows, text
from benchmarks.timing import ROUND, Task, Timing, measure
from benchmarks.workloads import WORKLOADS, Problem, Workload


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="run.py", description="Times a training step of funcnet and of its peers.")
    parser.add_argument("--threads", type=int, default=1, help="threads of BLAS, PyTorch and XLA (default 1)")
    parser.add_argument("--workloads", default=",".join(w.name for w in WORKLOADS), help="such as W1,W4 (default all)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, of which the median is shown (default 7)")
    parser.add_argument("--seconds", type=float, default=ROUND, help=f"a round's length (default {ROUND})")
    parser.add_argument("--rows", type=int, help="examples an epoch, instead of the workload's own number")
    other = "train by another release of funcnet, importable as this name, instead of by other libraries"
    parser.add_argument("--against", metavar="NAME", help=other)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    return parser


def training(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Measure microseconds per step over a whole epoch."""
    entries = trainers(workload)
    if options.against is not None:
        entries = releases(entries, options.against)
    check_training(workload, entries)
    if options.against is not None:
        entries = [entry for entry in entries if entry.name not in {POST, PLAIN}]
    problem = problem_of(workload, rows=options.rows)
    made = [entry.trainer(problem) for entry in entries]
    timings = measure([Task(each.start, each.epoch) for each in made], options.rounds, seconds=options.seconds)
    return rows(workload.name, figures(entries, timings), scale=1e6 / problem.steps, unit="µs/step")


def releases(entries: Sequence[Entry], other: str) -> list[Entry]:
    """Return funcnet's contenders, each next to its twin of another release, and the floors and references."""
    found: list[Entry] = []
    for entry in entries:
        if entry.library == "funcnet":
            found += [entry, entry.of_release(other)]
        elif entry.name in {*FLOOR.values(), POST, PLAIN}:
            found.append(entry)
    return found


def programs(workload: Workload, options: argparse.Namespace) -> list[ProgramRow]:
    """Describe the programs that funcnet traces from its contenders' steps."""
    problem = problem_of(workload, rows=options.rows)
    found: list[ProgramRow] = []
    for entry in trainers(workload):
        if entry.library == "funcnet":
            trainer = entry.programmed(problem)
            made = [trainer.program() for _ in range(options.rounds)]
            time = statistics.median(program.seconds for program in made) * 1e3
            found.append(ProgramRow(workload.name, entry.name, made[0].calls, made[0].nbytes / 1e6, time))
    return found


def prediction(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Measure milliseconds for all rows."""
    entries = [entry for entry in PREDICTORS if entry.installed]
    check_prediction(workload, entries)
    problem = Problem(workload, rows=options.rows)
    tasks = [Task(lambda: None, entry.predictor(problem)) for entry in entries]
    timings = measure(tasks, options.rounds, seconds=options.seconds)
    return rows(workload.name, figures(entries, timings), scale=1e3, unit="ms")


def figures(entries: Sequence[Entry], timings: Sequence[Timing]) -> list[Figure]:
    """Pair each contender with the floor of its own precision, and another release with this one."""
    found: list[Figure] = []
    for position, (entry, timing) in enumerate(zip(entries, timings, strict=True)):
        twin = entries[position - 1]
        own = twin.name if twin.maker == entry.maker and twin.library == "funcnet" else FUNCNET
        found.append(Figure(entry.name, timing, FLOOR[entry.precision], own))
    return found


def footprint(workload: Workload, options: argparse.Namespace) -> list[Row]:
    """Measure milliseconds of an import and megabytes of an install."""
    libraries = [library for library in LIBRARIES if library.installed]
    floor, name = libraries[0].name, workload.name
    times = import_times(libraries, options.rounds)
    sizes = [Timing((float(installed_bytes(library)),)) for library in libraries]
    imports = [Figure(library.name, timing, floor, "funcnet") for library, timing in zip(libraries, times, strict=True)]
    installs = [Figure(library.name, size, floor, "funcnet") for library, size in zip(libraries, sizes, strict=True)]
    return [
        *rows(name, imports, scale=1e3, unit="ms import"),
        *rows(name, installs, scale=1e-6, unit="MB installed"),
    ]


TRAINING = {"training": training, "images": training, "normalized": training}
KINDS = {**TRAINING, "prediction": prediction, "footprint": footprint}


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = arguments()
    options = parser.parse_args()
    known = {workload.name: workload for workload in WORKLOADS}
    names = chosen_names(parser, options.workloads, known, kind="workload")
    chosen = {name: workload for name, workload in known.items() if name in names}
    if options.against is not None:
        if find_spec(options.against) is None:
            parser.error(f"no module named {options.against}; put its folder on PYTHONPATH")
        chosen = {name: workload for name, workload in chosen.items() if workload.kind in TRAINING}
    found: list[Row] = []
    made: list[ProgramRow] = []
    for workload in chosen.values():
        print(f"{workload.name}: {workload.title} ...", file=sys.stderr, flush=True)
        found += KINDS[workload.kind](workload, options)
        made += programs(workload, options) if workload.kind in TRAINING else []
    about = facts(options.threads) | ({} if options.rows is None else {"rows": f"{options.rows} instead of each own"})
    titles = {name: workload.title for name, workload in chosen.items()}
    print("\n".join(f"{name}: {value}" for name, value in (about | titles).items()), end="\n\n")
    print(text(found))
    if made:
        print("", program_text(made), sep="\n")
    if options.json is not None:
        options.json.write_text(as_json(about, titles, found, made) + "\n")


if __name__ == "__main__":
    main()
