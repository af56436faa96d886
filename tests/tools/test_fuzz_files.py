"""Coverage-guided fuzzing in the ordinary tests: every crashing input found so far, and a short run of the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.targets import TARGETS

FUZZ = Path(__file__).parent / "fuzz"
SEEDS = [(name, number) for name, target in TARGETS.items() for number in range(len(target.seeds))]
CRASHERS = sorted(path for path in (FUZZ / "crashers").glob("*/*") if path.is_file())


@pytest.mark.parametrize(("name", "number"), SEEDS)
def test_seeds_are_read(name: str, number: int) -> None:
    """The initial inputs of a target raise no error."""
    TARGETS[name].read(TARGETS[name].seeds[number])


def test_crashers_are_read() -> None:
    """Inputs on which fuzzing once failed no longer raise an error."""
    for path in CRASHERS:
        TARGETS[path.parent.name].read(path.read_bytes())


def fuzz(names: str, seconds: int, crashers: Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    pytest.importorskip("atheris", reason="install funcnet[fuzz]")
    command = [sys.executable, str(FUZZ / "run.py"), "--seconds", str(seconds), "--targets", names]
    command += ["--crashers", str(crashers)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    """Each target takes about one second, five with startup; the command prints one row for each."""
    names = [name for name in TARGETS if name != "planted"]
    result = fuzz(",".join(names), 1, tmp_path)
    assert result.returncode == 0, result.stderr
    title, *rows = result.stdout.splitlines()
    assert title.split()[:3] == ["target", "runs", "coverage"]
    assert [row.split()[0] for row in rows] == names
    assert all(int(row.split()[1]) > len(TARGETS[row.split()[0]].seeds) for row in rows)


def test_a_planted_fault_is_found_and_kept(tmp_path: Path) -> None:
    """A target fails on some files: the command reports it, and the file is kept for the ordinary tests."""
    result = fuzz("planted", 20, tmp_path)
    assert result.returncode == 1
    assert "LookupError" in result.stdout + result.stderr
    (crasher,) = (tmp_path / "planted").iterdir()
    with pytest.raises(LookupError):
        TARGETS["planted"].read(crasher.read_bytes())
