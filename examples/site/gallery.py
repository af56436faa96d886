"""The gallery: each example runs with the arguments of a table, and its page shows output, figures and source."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

EXAMPLES: Final = Path(__file__).resolve().parents[1]
MNIST: Final = {"mnist", "mnist_conv", "better_mlp", "many_machines"}
"""The examples that read MNIST."""


@frozen
class Example:
    """How the site shows an example.

    Attributes:
        title: The heading of its page.
        arguments: Those of a run that takes seconds; empty for a run with the defaults.
    """

    title: str
    arguments: str = ""


TABLE: Final = {
    "digits": Example("Handwritten digits"),
    "table": Example("Who survived the Titanic?", "--folds 2"),
    "regression": Example("Regression, beside two peers", "--seeds 0"),
    "from_mlpclassifier": Example("From MLPClassifier to Classifier", "--seeds 0"),
    "names": Example("Invent names", "--epochs 2"),
    "language_model": Example(
        "A character model of a text", "--size 64 --length 64 --batch 16 --steps 40 --epochs 2 --portable"
    ),
    "two_networks": Example("Two networks: a GAN"),
    "own_layer": Example("Your own layer, loss, optimizer and step"),
    "resume": Example("Stop, resume, and find a wrong label"),
    "exchange": Example("From PyTorch to ONNX", "--epochs 2"),
    "from_the_post": Example("The assertions of the post"),
    "mnist": Example("MNIST, as in the post", "--epochs 5"),
    "better_mlp": Example("MNIST, better", "--seeds 0 --epochs 2"),
    "mnist_conv": Example("MNIST with convolutions", "--rows 5000 --epochs 2"),
    "many_machines": Example("Many processes, the same bits", "--rows 5000 --epochs 1"),
}
"""The examples, in the order of the gallery."""


@frozen
class Run:
    """What an example printed, and the figures that it saved."""

    output: str
    figures: tuple[Path, ...]


def examples() -> list[Path]:
    """Return all examples in the order of the table; those that are not in it come last."""
    order = {name: number for number, name in enumerate(TABLE)}
    return sorted(EXAMPLES.glob("*.py"), key=lambda path: (order.get(path.stem, len(order)), path.stem))


def can_run(path: Path) -> bool:
    """Whether the data of an example is here: MNIST is not downloaded for the gallery."""
    return path.stem not in MNIST or (Path(os.environ.get("FUNCNET_DATA", "absent")) / "mnist").is_dir()


def run(path: Path, folder: Path) -> Run:
    """Run an example in a folder of its own.

    Raises:
        RuntimeError: If the example fails.
    """
    folder.mkdir(parents=True)
    environment = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    if "FUNCNET_DATA" in environment:
        environment["FUNCNET_DATA"] = str(Path(environment["FUNCNET_DATA"]).absolute())
    command = [sys.executable, str(path), *shlex.split(_example(path).arguments)]
    done = subprocess.run(  # noqa: S603  # the examples of this checkout
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{path.name} fails:\n{done.stderr}")
    return Run(done.stdout, tuple(sorted(folder.rglob("*.png"))))


def page(path: Path, done: Run | None, folder: Path) -> str:
    """Return the page of an example, and copy its figures to the folder of the pages."""
    text = path.read_text(encoding="utf-8")
    command = f"python examples/{path.name} {_example(path).arguments}".strip()
    lines = [f"# {_example(path).title}", "", *_description(text)]
    if done is None:
        reason = "This page was built without running the example."
        lines += [reason if can_run(path) else f"{reason[:-1]}, because `FUNCNET_DATA` has no folder `mnist`.", ""]
    else:
        quick = ", a shorter run than that with the defaults," if _example(path).arguments else ""
        lines += ["## Output", "", f"`{command}`{quick} prints:", "", "```text", done.output.rstrip(), "```", ""]
        for figure in done.figures:
            name = f"{path.stem}_{figure.name}"
            shutil.copy(figure, folder / name)
            lines += [f"![The figure of {path.name}: {_summary(text)}]({name})", ""]
    return "\n".join([*lines, "## Source", "", f"`examples/{path.name}`:", "", "```python", text.rstrip(), "```", ""])


def cards(runs: Mapping[str, Run]) -> str:
    """Return a card for each example, with its first figure or the first lines of its output."""
    lines = ["::::{grid} 1 2 2 3", ":gutter: 3", ""]
    for path in examples():
        done = runs.get(path.name)
        lines += [f":::{{grid-item-card}} {_example(path).title}", f":link: {path.stem}", ":link-type: doc"]
        if done and done.figures:
            lines += [f":img-bottom: {path.stem}_{done.figures[0].name}"]
            lines += [f":img-alt: The figure of {path.name}"]
        lines += ["", _summary(path.read_text(encoding="utf-8")), ""]
        if done and not done.figures:
            lines += ["```text", *(line[:38] for line in done.output.splitlines()[:6]), "```"]
        lines += [":::", ""]
    return "\n".join([*lines, "::::", ""])


def _example(path: Path) -> Example:
    return TABLE.get(path.stem, Example(path.stem))


def _summary(text: str) -> str:
    """Return the first sentence of a program's docstring."""
    return (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _description(text: str) -> list[str]:
    """Return the docstring of a program, with its command lines as a block of code."""
    said = (ast.get_docstring(ast.parse(text)) or "").replace("``", "`")
    prose, run, rest = said.partition("Run: ")
    command, blank, after = rest.partition("\n\n")
    block = [f"```sh\n{re.sub(r'^ +', '', command, flags=re.MULTILINE)}\n```", ""] if run else []
    return [prose.strip(), "", *block, *([after, ""] if blank else [])]
