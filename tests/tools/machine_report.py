"""What a machine computes: the program that each cell of another machine runs. It needs NumPy, attrs and funcnet alone.

Run: python tests/tools/machine_report.py REQUEST     a ``Request`` as JSON; prints a ``Report`` as JSON
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final, TypedDict

import bits
import crossing
import numpy as np

import funcnet as fn
from funcnet.runs.selftest import REFERENCE, reference_run

FINGERPRINTS: Final = {2: "1c23f370741341b15e0e364fa34bec511b1ef16b1073d9cd866b4d87649ce37c", 15: REFERENCE}
"""The fingerprint of ``reference_run("portable", epochs=...)`` by the number of epochs, 20 steps each."""


class Request(TypedDict):
    """What a cell computes: the guide's program, epochs of the reference run, subjects of the hashes, and two folders.

    It resumes the run in the folder ``received``, and writes one to the folder ``sent``.
    """

    program: str
    epochs: int
    subjects: list[str]
    received: str
    sent: str


class Report(TypedDict):
    """What a cell computed, and where."""

    machine: str
    byteorder: str
    python: str
    numpy: str
    blas: str
    threads: str
    simd: str
    guide: str
    portable: str
    native: str
    hashes: int
    differing: list[str]
    crossed: str


def report(request: Request) -> Report:
    """Compute what a request asks for."""
    output, here = io.StringIO(), fn.environment()
    with redirect_stdout(output):
        exec(compile(request["program"], "the guide", "exec"), {})  # noqa: S102  # the guide's own program
    crossing.write(Path(request["sent"]))
    found = {name: value for subject in request["subjects"] for name, value in bits.bits_of(subject).items()}
    return Report(
        machine=platform.machine(),
        byteorder=sys.byteorder,
        python=platform.python_version(),
        numpy=np.__version__,
        blas=here.blas,
        threads=here.blas_threads,
        simd=here.simd,
        guide=output.getvalue().strip(),
        portable=reference_run("portable", epochs=request["epochs"]),
        native=reference_run("native", epochs=2),
        hashes=len(found),
        differing=bits.differing(found, request["subjects"]),
        crossed=crossing.resume(Path(request["received"])),
    )


def request(text: str) -> Request:
    """Read a request.

    Raises:
        argparse.ArgumentTypeError: If the text is not one.
    """
    try:
        read: Request = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a request must be JSON: {error}") from None
    if not isinstance(read, dict) or read.keys() != Request.__annotations__.keys():
        raise argparse.ArgumentTypeError(f"a request must be an object with {', '.join(Request.__annotations__)}")
    unknown = [subject for subject in read["subjects"] if subject not in bits.SUBJECTS]
    if unknown or read["epochs"] not in FINGERPRINTS:
        raise argparse.ArgumentTypeError(f"subjects must be among {', '.join(bits.SUBJECTS)}, and epochs 2 or 15")
    return read


def main() -> None:
    """Run the command. Pyodide takes ``sys.exit(0)`` for an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("request", type=request)
    sys.stdout.write(json.dumps(report(parser.parse_args().request)) + "\n")


if __name__ == "__main__":
    main()
