"""Mutation testing: plant small faults in the code, one at a time, and check that the tests notice them.

Run: python tests/tools/mutation.py [--only losses] [--jobs 2]; needs mutmut, of the extra ``mutation``.

In a copy of the working tree, mutmut changes one operator, number, name or argument at a time; planted.py runs the
tests of the part that reach the changed function. Faults that no test notices are printed as differences. The command
fails if the tests notice fewer than 90%, or if a survivor is not listed, with its reason, in survivors.txt.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import chdir
from difflib import unified_diff
from importlib import import_module
from pathlib import Path

from attrs import frozen
from planted import NOTICED

SOURCE = Path(__file__).parent.parent.parent
LISTED = SOURCE / "tests" / "tools" / "survivors.txt"
WANTED = 0.9
REFUSALS = "test_bad_inputs.py"
CHOSEN = {
    "arithmetic/": ["arithmetic", "random/test_draws.py", "optimizers/test_schedules.py"],
    "runs/checkpoints": ["runs/test_checkpoints.py", "runs/test_fingerprints.py"],
    "data/batches": [REFUSALS, "data/test_data.py", "data/test_preparation.py", "loops/test_training.py", "losses"],
    "layers/": [REFUSALS, "network", "layers", "testing", "data/test_preparation.py", "inspection/test_summary.py"],
    "losses/": [REFUSALS, "losses", "network/test_properties.py", "loops/test_training.py", "testing"],
    "optimizers/": [REFUSALS, "optimizers", "loops/test_training.py", "network/test_table.py"],
    "tracing/": ["tracing"],
}
"""For each part of the package, its tests, as paths below ``tests``."""
SLOW = (
    "process or other_machines or same_everywhere or resumes or a_killed_writer or official or at_once or file_limit "
    "or threads or came_later or the_mark or under_100_mb or flipped_byte or random_structures or random_entries "
    "or at_every_step or costs_the_same or a_report_of_a_step"
)
"""Words in the names of tests that start processes, which would not have the fault, or that take long."""
BRIEF = ["-q", "--tb=native", "-p", "no:cacheprovider", "--hypothesis-profile=brief", "-k", f"not ({SLOW})"]
INSIDE = r"(?:[^()]|\((?:[^()]|\([^()]*\))*\))*"  # parentheses and their content
SAME = (
    (r"\b(cast|as_type)\((None|\"[^\"]*\"), ", "cast("),
    (r'float\("INF"\)', 'float("inf")'),
    (r", \)", ")"),
    (r"\.(astype|view)\(None\b", r".\1(np.float64"),
    (rf"(\bnp\.(?:empty|ones|zeros)\({INSIDE}), (?:None|np\.float64)\)", r"\1)"),
    (rf"(\bnp\.\w+\.reduce\({INSIDE}?), axis=0\b", r"\1"),
    (r"\bkeepdims=None\b", "keepdims=False"),
    (r"\.writeable = None\b", ".writeable = False"),
    (rf"(\breshape\({INSIDE}?)-2\b", r"\1-1"),
)
"""Changes without an effect: a type that nothing reads; another spelling of infinity; NumPy's defaults (float64, axis 0
of a reduction); None for False; and any negative number for -1 in a shape."""


@frozen
class Mutant:
    """A planted fault and its outcome."""

    name: str
    outcome: str
    old: str
    new: str

    @property
    def function(self) -> str:
        """The function that contains it: ``data.Minibatches._cut``."""
        plain = re.sub(r"__mutmut_\d+$", "", self.name).removeprefix("funcnet.")
        return re.sub(r"\.x_|\.xǁ", ".", plain).replace("ǁ", ".")

    @property
    def survived(self) -> bool:
        """Whether no test noticed it."""
        return self.outcome != NOTICED

    @property
    def is_same(self) -> bool:
        """Whether the program is the same."""
        return same_form(self.old) == same_form(self.new)

    @property
    def line(self) -> str:
        """Its form in the list: ``function: old -> new``."""
        return f"{self.function}: `{self.old}` -> `{self.new}`"


def same_form(line: str) -> str:
    """Return the line without differences that have no effect."""
    for pattern, form in SAME:
        line = re.sub(pattern, form, line)
    return line


def files_of(part: str) -> list[str]:
    """Return the files of a part, such as ``layers/`` or ``data``: a file of a folder, or a package of that name."""
    package = SOURCE / "funcnet"
    found = sorted(package.glob(f"{part}*.py" if part.endswith("/") else f"{part}.py"))
    found += sorted((package / part).glob("*.py"))
    return [str(path.relative_to(SOURCE)) for path in dict.fromkeys(found)]


def tests_of(part: str) -> list[str]:
    """Return the test files of a part."""
    chosen = next(tests for name, tests in CHOSEN.items() if part.startswith(name.rstrip("/")))
    paths = [f"tests/{name}" for name in chosen]
    return [path for path in paths if (SOURCE / path).exists()]


def mutants(part: str, jobs: int) -> Iterator[Mutant]:
    """Return every mutant of a part, with its outcome."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "funcnet"
        shutil.copytree(SOURCE, work, ignore=shutil.ignore_patterns(".*", "*.egg-info", "__pycache__"))
        changes = {name: change for path in files_of(part) for name, change in planted(work, path)}
        (work / "faults.json").write_text(json.dumps(list(changes)))
        try_faults(work, str(jobs), *BRIEF, *tests_of(part))
        outcomes: dict[str, str] = json.loads((work / "outcomes.json").read_text())
    for name, (old, new) in changes.items():
        yield Mutant(name, outcomes[name], old, new)


def planted(work: Path, path: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Write a file of the copy with all its mutants; give the name, removed code and added code of each."""
    with chdir(work):  # mutmut reads its settings from here
        mutated = import_module("mutmut.mutation.file_mutation").mutate_file_contents(path, Path(path).read_text())
    (work / path).write_text(mutated.code)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for name, change in changed(mutated.code, mutated.mutant_names):
        yield f"{module}.{name}", change


def changed(code: str, names: Iterable[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Give the removed and added code of each mutant, compared with the function ``..._orig``."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef) and "mutmut" in node.name]
    lines = code.splitlines()
    bodies = {node.name: [line.strip() for line in lines[node.lineno : node.end_lineno]] for node in nodes}
    for name in names:
        yield name, difference(bodies[re.sub(r"_\d+$", "_orig", name)], bodies[name])


def try_faults(work: Path, *arguments: str) -> None:
    """Run tests/tools/planted.py in the copy, whose package takes precedence over an installed one."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(work)}
    command = [sys.executable, "tests/tools/planted.py", "faults.json", "outcomes.json", *arguments]
    result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")


def difference(old: list[str], new: list[str]) -> tuple[str, str]:
    """Return the removed lines and the added lines, each joined into one line."""
    changes = list(unified_diff(old, new, n=0, lineterm=""))[3:]

    def joined(sign: str) -> str:
        return " ".join(line[1:] for line in changes if line.startswith(sign))

    return joined("-"), joined("+")


def report(part: str, mutants: list[Mutant], listed: str) -> bool:
    """Print a part's figures and its survivors; return whether it passes."""
    counted = [mutant for mutant in mutants if not mutant.is_same]
    survivors = [mutant for mutant in counted if mutant.survived]
    score = 1 - len(survivors) / max(len(counted), 1)
    print(f"{part:24} {len(counted):5} mutants, {len(survivors):4} survived, {score:.1%} noticed", flush=True)
    unlisted = [mutant for mutant in survivors if mutant.line not in listed]
    for mutant in unlisted:
        print(f"    not listed: {mutant.line}")
    noticed = [mutant for mutant in counted if not mutant.survived and mutant.line in listed]
    for mutant in noticed:
        print(f"    listed, and noticed now: {mutant.line}")
    return score >= WANTED and not unlisted


def main() -> int:
    """Try all parts, or the requested ones; return 0 if enough faults are noticed and every survivor is listed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(CHOSEN), metavar="PART", help="such as data or layers/dense")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    listed = LISTED.read_text() if LISTED.exists() else ""
    begin = time.monotonic()
    good = [report(part, list(mutants(part, options.jobs)), listed) for part in options.only]
    print(f"{(time.monotonic() - begin) / 60:.0f} minutes")
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
