"""Write the parts of the tutorial and their solutions as Jupyter notebooks.

The outputs that a part's text shows are left out: a notebook shows the output of a cell below it when the cell runs.

Run: python examples/tutorial/notebooks.py FOLDER
     python examples/tutorial/notebooks.py FOLDER --execute
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Final

try:  # by name: type checkers have no types of them, and run where they are not installed, too
    jupytext, nbclient, nbformat = map(import_module, ("jupytext", "nbclient", "nbformat"))
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed; run: pip install 'funcnet[docs]'")

HERE: Final = Path(__file__).resolve().parent
OUTPUT: Final = re.compile(r"\A```text\n.*?^```\s*", re.DOTALL | re.MULTILINE)
KERNEL: Final = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(path: Path) -> Any:
    """Return a part as a notebook that has not run, an ``nbformat.NotebookNode``.

    Args:
        path: A part of the tutorial, or its solutions.
    """
    found: Any = jupytext.read(path, fmt="py:percent")
    for cell in found.cells:
        if cell.cell_type == "markdown":
            cell.source = OUTPUT.sub("", cell.source)
    found.cells = [cell for cell in found.cells if cell.source]
    for number, cell in enumerate(found.cells):
        cell.id = f"cell-{number}"  # jupytext draws random ones, which differ in each run
    found.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return found


def run(found: Any) -> None:
    """Run the cells of a notebook, which then has their outputs, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        quiet = ["--IPKernelApp.log_level=ERROR"]  # each kernel would warn that its local connection is not encrypted
        where = {"metadata": {"path": directory}}
        nbclient.NotebookClient(found, timeout=600, resources=where, extra_arguments=quiet).execute()


def main() -> None:
    """Write all notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="the folder for the notebooks")
    parser.add_argument("--execute", action="store_true", help="run them, so that they have outputs and figures")
    given = parser.parse_args()
    try:
        given.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(HERE.glob("part_*.py")):
            found = notebook(path)
            if given.execute:
                run(found)
            file = given.folder / f"{path.stem}.ipynb"
            nbformat.write(found, file)
            print(file)
    except (OSError, nbclient.exceptions.CellExecutionError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
