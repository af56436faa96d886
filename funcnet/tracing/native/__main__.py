"""``python -m funcnet.tracing.native``: compile the interpreter of programs, which makes replays of small steps faster.

It needs a C compiler (``cc``, or the one in the environment variable ``CC``) and Python's header files. Build it again
after an update of funcnet, NumPy or Python; until then, replays run in Python. ``FUNCNET_NATIVE=0`` turns it off.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from funcnet.tracing.native.compiled import SOURCE, version
from funcnet.tracing.native.loaded import NAME, VARIABLE

_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra")
_CHECKED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


def command(target: Path, *, sanitize: bool = False) -> list[str]:
    """Return the command that compiles the interpreter into a file."""
    folders = sysconfig.get_paths()["include"], np.get_include()
    flags = [*_FLAGS, *(_CHECKED if sanitize else ())]
    flags += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    return [
        *(*compiler, *flags, f'-DBUILT="{version()}"'),
        *(*(f"-I{folder}" for folder in folders), str(SOURCE), "-o", str(target)),
    ]


def build(folder: Path, *, sanitize: bool = False) -> Path:
    """Compile the interpreter into a folder and return its file.

    Raises:
        OSError: If the folder cannot be written to.
        RuntimeError: If Python is of another kind, there is no compiler or no header file, or the compiler fails.
    """
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise RuntimeError("native replay needs CPython with its interpreter lock; here, replays run in Python")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        fix = "install Python's development files, such as the package python3-dev"
        raise RuntimeError(f"Python's header files are missing: there is no {header}; {fix}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as directory:
            made = Path(directory, NAME)
            _compile(command(made, sanitize=sanitize))
            return made.replace(folder / NAME)  # a process that has loaded the old file keeps it
    except OSError as error:
        fix = f"pass another --folder DIR, and set {VARIABLE}=DIR where funcnet runs"
        raise OSError(f"the folder {folder} cannot be written to ({error.strerror}); {fix}") from error


def _compile(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # a compiler
    except OSError as error:
        fix = "install one, such as gcc or clang, or set the environment variable CC to its command"
        raise RuntimeError(f"there is no C compiler: {words[0]!r} cannot be run; {fix}") from error
    if done.returncode:
        raise RuntimeError(f"the compiler failed: {shlex.join(words)}\n{done.stderr}")


def main(arguments: list[str] | None = None) -> int:
    """Build the interpreter and say where it is. Return 1 if that fails, or else 0."""
    parser = argparse.ArgumentParser(prog="python -m funcnet.tracing.native", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, help="where the file is written; by default, beside the package's source"
    )
    parser.add_argument("--sanitize", action="store_true", help="check each memory access: slow, for tests")
    given = parser.parse_args(arguments)
    folder: Path | None = given.folder
    try:
        made = build(SOURCE.parent if folder is None else folder.resolve(), sanitize=given.sanitize)
    except (OSError, RuntimeError) as error:
        print(f"funcnet.tracing.native: {error}", file=sys.stderr)  # noqa: T201  # the output of the command
        return 1
    use = "funcnet finds it there" if folder is None else f"set {VARIABLE}={shlex.quote(str(made.parent))} to use it"
    print(f"built {made}; {use}")  # noqa: T201  # so is this
    return 0


if __name__ == "__main__":
    sys.exit(main())
