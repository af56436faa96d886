"""Build the documentation site: run the tutorial and the examples, and make pages of them, the guides and docstrings.

The site opens from files, without a server and without a network. Install the extra ``docs`` first.

Run: python examples/site/build_site.py build/site [--quick] [--parts FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a core for each process

import gallery
import links
from staging import HERE, ROOT, drawings, notebooks, parts, stage

BROWSER: Final = ROOT / "examples" / "browser"
CANNOT_DOWNLOAD: Final = 3
"""The exit code of ``examples/browser/parts.py`` without a connection."""


def run_notebook(path: Path) -> Any:
    """Return a part of the tutorial with its outputs; an error in a cell is raised."""
    found: Any = notebooks.notebook(path)
    client: Any = notebooks.nbclient.NotebookClient
    with tempfile.TemporaryDirectory() as directory:  # without the kernel's warning of a connection on this machine
        place = {"metadata": {"path": directory}}
        client(found, timeout=600, resources=place, extra_arguments=["--log-level=ERROR"]).execute()
    return found


def run_everything(folder: Path) -> tuple[dict[str, Any], dict[str, gallery.Run]]:
    """Run the tutorial, the examples and the guides' programs with pictures; return the results by file name.

    Each core has a process.
    """
    examples = [path for path in gallery.examples() if gallery.can_run(path)] + drawings(folder / "guides")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {path.name: pool.submit(gallery.run, path, folder / path.stem) for path in examples}
        executed = {path.name: pool.submit(run_notebook, path) for path in parts()}
        try:
            return (
                {name: future.result() for name, future in executed.items()},
                {name: future.result() for name, future in runs.items()},
            )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def build_classroom(target: Path, kept: Path) -> bool:
    """Build the page that runs Python in the browser; return False if its parts cannot be downloaded."""
    build = ["build.py", "--folder", str(target), "--home", "../index.html", "--parts", str(kept), "--offline"]
    for program, *arguments in (["parts.py", str(kept)], build):
        command = [sys.executable, str(BROWSER / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # this checkout's
        if done.returncode == CANNOT_DOWNLOAD:
            print(f"without the class-room: {done.stderr.strip().splitlines()[-1]}")
            return False
        if done.returncode:
            sys.exit(done.stderr)
    return True


def run_sphinx(pages: Path, folder: Path) -> int:
    """Make the site from the staged pages; return the exit code, which is not 0 after a warning."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", "-c", str(HERE)]
    command += ["-d", str(pages.with_name("doctrees")), str(pages), str(folder)]
    return subprocess.run(command, check=False).returncode  # noqa: S603  # Sphinx, with these folders


def settings() -> argparse.Namespace:
    """Return the settings of the command line; a folder with other things than a site is refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="the site; an earlier site there is replaced")
    parser.add_argument("--quick", action="store_true", help="do not run the tutorial and the examples")
    parser.add_argument("--parts", type=Path, help="keep the parts of the class-room in this folder")
    given = parser.parse_args()
    if given.folder.is_file():
        parser.error(f"{given.folder} is a file; give a folder")
    if given.folder.exists() and any(given.folder.iterdir()) and not (given.folder / "objects.inv").exists():
        parser.error(f"{given.folder} is neither empty nor an earlier site")
    return given


def main() -> None:
    """Stage the sources, run Sphinx, in which a warning is an error, and check all links."""
    given = settings()
    if given.folder.exists():
        shutil.rmtree(given.folder)
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        classroom = (not given.quick or given.parts is not None) and build_classroom(
            place / "classroom", given.parts or place / "parts"
        )
        executed, runs = ({}, {}) if given.quick else run_everything(place / "runs")
        stage(place / "pages", executed, runs, classroom=classroom)
        code = run_sphinx(place / "pages", given.folder)
        if classroom:
            shutil.copytree(place / "classroom", given.folder / "classroom")
    faults = links.faults(given.folder)
    print("\n".join(faults) or f"{given.folder / 'index.html'}: open it in a browser")
    sys.exit(code or bool(faults))


if __name__ == "__main__":
    main()
