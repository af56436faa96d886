"""The command: fuzz the targets one after the other, each for the given time in at most 1 GiB, and print a table.

Run: python tests/tools/fuzz/run.py --seconds 600 [--targets idx,gzip] [--corpus DIR] (needs the extra ``fuzz``)

An input on which a target fails is written to ``tests/tools/fuzz/crashers/TARGET``. The ordinary tests run it again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
CRASHERS: Final = HERE / "crashers"
MEMORY: Final = 2**30
LONGEST: Final = 4096
IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # only the parent of a new directory


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process, which then ends."""
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["funcnet"]):
        target = import_module("fuzz.targets").TARGETS[name]
    try:
        resource = import_module("resource")
        limit_memory = (int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()) + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit_memory, limit_memory))
    except (ImportError, OSError):  # libFuzzer's own limit remains
        pass
    atheris.Setup([sys.argv[0], *arguments], target.read)
    atheris.Fuzz()


def escaped(word: bytes) -> str:
    """Escape a word for libFuzzer's dictionaries."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def command(name: str, seconds: int, corpus: Path, crashers: Path) -> list[str]:
    """Return the command that fuzzes a target in a separate process."""
    (corpus / name).mkdir(parents=True, exist_ok=True)
    (crashers / name).mkdir(parents=True, exist_ok=True)
    target = import_module("fuzz.targets").TARGETS[name]
    for number, seed in enumerate(target.seeds):
        (corpus / name / f"seed-{number}").write_bytes(seed)
    words = corpus / f"{name}.words"
    words.write_text("".join(f'"{escaped(word)}"\n' for word in target.words))
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": 20,
        "rss_limit_mb": MEMORY // 2**20,
        **({"dict": words} if target.words else {}),
        "artifact_prefix": f"{crashers / name}/",
        "print_final_stats": 1,
    }
    return [sys.executable, __file__, "--one", name, *(f"-{key}={value}" for key, value in options.items())]


def run(name: str, seconds: int, corpus: Path, crashers: Path, scratch: str) -> tuple[str, bool]:
    """Fuzz a target in a separate process; return a line of the table, and whether no fault was found."""
    arguments = [*command(name, seconds, corpus, crashers), str(corpus / name)]
    before = set((crashers / name).iterdir())
    place = os.environ | {"TMPDIR": scratch}
    result = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False, env=place)
    found = sorted(set((crashers / name).iterdir()) - before)
    progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", result.stderr)
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", result.stderr)
    peak = re.findall(r"stat::peak_rss_mb:\s*(\d+)", result.stderr)
    fine = result.returncode == 0 and not found and bool(runs and progress)
    if not fine:
        print(result.stdout[-2000:], result.stderr[-6000:], file=sys.stderr)
    cells = [
        name,
        *(runs[-1:] or ["?"]),
        *(progress[-1] if progress else "???"),
        *(peak[-1:] or ["?"]),
        str(len(found)),
    ]
    return "".join(f"{cell:>12}" for cell in cells), fine


def main() -> int:
    """Read the arguments and fuzz the targets in turn."""
    targets = import_module("fuzz.targets").TARGETS
    names = [name for name in targets if name != "planted"]
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long each target is fuzzed")
    parser.add_argument("--targets", default=",".join(names), help="which, separated by commas")
    parser.add_argument("--corpus", type=Path, help="where inputs are kept; default nowhere")
    parser.add_argument("--crashers", type=Path, default=CRASHERS, help="where failing inputs are written")
    settings = parser.parse_args()
    chosen = settings.targets.split(",")
    if not set(chosen) <= set(targets) or settings.seconds < 1:
        parser.error(f"--targets must be among {','.join(names)}, --seconds at least 1")
    print(
        "".join(f"{title:>12}" for title in ("target", "runs", "coverage", "features", "corpus", "peak MB", "crashers"))
    )
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as nowhere:
        results: list[bool] = []
        for name in chosen:
            line, fine = run(name, settings.seconds, settings.corpus or Path(nowhere), settings.crashers, nowhere)
            print(line, flush=True)
            results.append(fine)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
