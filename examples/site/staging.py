"""The sources of the site: every guide, part of the tutorial, example and public name becomes a page.

The texts keep the links that work in the repository; staging turns them into links of the site.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import gallery
import reference

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
TUTORIAL: Final = ROOT / "examples" / "tutorial"
GUIDES: Final = ROOT / "examples" / "guides"

sys.path.insert(0, str(TUTORIAL))
notebooks: Final[Any] = import_module("notebooks")  # by name: jupytext and its kind have no types

GROUPS: Final = {
    "Training": (
        *("networks", "learning_rates", "cross_validation", "imbalance", "sequences", "sharing", "plots", "results"),
    ),
    "Other libraries": ("coming_from", "other_libraries", "the_post"),
    "Laws, bits and proofs": ("laws", "own_layer", "reproducibility"),
    "Speed and many at once": ("performance", "many_networks", "many_machines"),
}
"""The groups of the guides; a guide in none of them is in the group "More"."""

TERMS: Final = {
    ("part_01_neuron.py", ""): "gradient descent",
    ("part_02_layer.py", ""): "backpropagation, backprop",
    ("part_02_layer.py", "An activation function, and a second layer"): "activation function",
    ("part_03_checking.py", ""): "gradient checking, gradient check",
    ("part_04_digits.py", "From outputs to probabilities: softmax"): "softmax",
    ("part_04_digits.py", "The loss: cross-entropy"): "cross-entropy, cross entropy",
    ("part_06_adam.py", ""): "adam, optimizer",
    ("part_06_adam.py", "Momentum"): "momentum",
    ("part_07_overfitting.py", ""): "overfitting, regularization",
    ("part_07_overfitting.py", "Three sets"): "validation set, test set, train test split",
    ("part_07_overfitting.py", "First remedy: early stopping"): "early stopping",
    ("part_07_overfitting.py", "Second remedy: weight decay"): "weight decay",
    ("part_07_overfitting.py", "Third remedy: dropout"): "dropout",
    ("part_08_bits.py", "Random numbers"): "random seed",
    ("part_10_convolution.py", ""): "convolution, convolutional network, CNN",
    ("part_11_recurrent.py", ""): "recurrent network, RNN",
    ("part_11_recurrent.py", "How far back does a gradient reach?"): "vanishing gradient, exploding gradient",
    ("part_11_recurrent.py", "Gates"): "LSTM, GRU",
    ("part_12_attention.py", ""): "attention, transformer",
    ("part_12_attention.py", "A tiny language model"): "language model, text generation",
    ("coming_from.md", ""): "PyTorch, Keras, GPU",
    ("cross_validation.md", ""): "cross-validation, cross validation, k-fold",
    ("cross_validation.md", "An ensemble of seeds"): "ensemble",
    ("imbalance.md", ""): "class imbalance, imbalanced classes",
    ("imbalance.md", "Metrics that matter"): "precision and recall, F1 score",
    ("imbalance.md", "Weight classes or rows"): "class weights, sample weights",
    ("learning_rates.md", ""): "learning rate",
    (
        "learning_rates.md",
        "Schedules: warmup, cosine, one cycle",
    ): "learning-rate schedule, learning rate schedule, warmup",
    ("networks.md", "Save and load a network, or a run"): "save network, load network, save model, load model, "
    "save weights, load weights",
    ("networks.md", "Predictions"): "predict probabilities, predictions, multi-label",
    ("other_libraries.md", "Estimators for scikit-learn"): "scikit-learn, grid search, pandas",
    ("own_layer.md", ""): "own layer, custom layer",
    ("own_layer.md", "A loss"): "own loss, custom loss",
    ("performance.md", ""): "performance, speed",
    ("plots.md", ""): "confusion matrix",
    ("plots.md", "Save a figure, or show it"): "plot loss, loss curve, learning curve",
    ("plots.md", "Two inputs: the decision boundary"): "decision boundary",
    ("plots.md", "Two classes: the ROC curve"): "ROC curve, AUC",
    ("plots.md", "When training goes wrong: layer statistics"): "dead ReLU, loss does not fall, NaN loss",
    ("plots.md", "Tables in notebooks"): "Jupyter, notebook",
    ("reproducibility.md", ""): "reproducibility, determinism",
    ("sequences.md", ""): "time series, text",
    ("sharing.md", "Freezing, fine-tuning, transfer learning"): "transfer learning, fine-tuning, freeze layers",
    ("glossary.md", "Augmentation"): "data augmentation",
    ("glossary.md", "Hyperparameter"): "hyperparameters",
    ("glossary.md", "Initialization"): "weight initialization",
    ("glossary.md", "Logit"): "logits",
    ("glossary.md", "Minibatch"): "mini-batch, batch size",
    ("mnist.py", ""): "MNIST",
    ("regression.py", ""): "regression",
    ("table.py", ""): "missing values",
    ("two_networks.py", ""): "GAN",
}
"""What learners look up, by the section that a search must find first: its page, and its heading or ""."""

FENCE: Final = re.compile(r"(^(`{3,}).*?^\2[ \t]*$)", re.MULTILINE | re.DOTALL)
PROGRAM: Final = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)


def parts() -> list[Path]:
    """Return the parts of the tutorial, each followed by the solutions of its exercises."""
    return sorted(TUTORIAL.glob("part_*.py"))


def pages() -> dict[Path, str]:
    """Return for each file or folder of the repository that has a page the place of the page in the site."""
    starts = {"tutorial": TUTORIAL, "guides": GUIDES, "gallery": gallery.EXAMPLES, "development": HERE / "development"}
    return {
        **{path: f"{path.stem}.md" for path in HERE.glob("*.md")},
        **{HERE / f"{name}.md": f"{name}/index.md" for name in starts},
        **{path: f"{name}/index.md" for name, path in starts.items()},
        **{path: f"tutorial/{path.stem}.ipynb" for path in parts()},
        **{path: f"tutorial/{path.name}" for path in TUTORIAL.glob("*.md")},
        **{path: f"guides/{path.name}" for path in GUIDES.glob("*.md")},
        **{path: f"gallery/{path.stem}.md" for path in gallery.examples()},
        gallery.EXAMPLES / "browser": "development/browser.md",
        gallery.EXAMPLES / "browser" / "README.md": "development/browser.md",
        ROOT / "tests" / "README.md": "development/tests.md",
        ROOT / ".github" / "CONTRIBUTING.md": "development/contributing.md",
        ROOT / "CHANGELOG.md": "changelog.md",
        ROOT / "README.md": "index.md",
    }


def stage(
    folder: Path, executed: Mapping[str, Any], runs: Mapping[str, gallery.Run], *, classroom: bool = False
) -> None:
    """Write the sources of all pages.

    Args:
        folder: An empty folder.
        executed: The parts of the tutorial after their run, by the names of their files.
        runs: The runs of the examples, by the names of their files.
        classroom: Whether the class-room is part of the site.
    """
    lists = {
        "tutorial": _tutorial(),
        "guides": linked(_guides(), GUIDES / "index.md", "guides/index.md", folder),
        "gallery": gallery.cards(runs),
    }
    lists["gallery"] += _toctree(path.stem for path in gallery.examples())
    for path, place in pages().items():
        text = ""
        if path.parent == gallery.EXAMPLES and path.suffix == ".py":
            (folder / "gallery").mkdir(exist_ok=True)
            text = _marked(gallery.page(path, runs.get(path.name), folder / "gallery"), path)
        elif path.suffix == ".py":
            fresh = notebooks.notebook(path)
            _write(folder, f"files/{path.stem}.ipynb", notebooks.nbformat.writes(fresh))
            text = _dressed(executed.get(path.name, fresh), path, folder, classroom=classroom)
        elif path.suffix == ".md" and path != ROOT / "README.md":
            text = linked(path.read_text(encoding="utf-8"), path, place, folder)
            text = illustrated(text, path.stem, runs, (folder / place).parent)
            if path.parent == HERE:
                here = os.path.relpath("classroom/index.html", Path(place).parent)
                text = re.sub(r"<!-- class-room: (.*?) -->", rf'<a href="{here}">\1</a>' if classroom else "", text)
                text += lists.get(path.stem, "")
        if text:
            _write(folder, place, text)
    for name, text in reference.pages().items():
        _write(folder, f"reference/{name}.rst", text)


def _write(folder: Path, place: str, text: str) -> None:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def linked(text: str, source: Path, place: str, folder: Path) -> str:
    """Return a Markdown text with the links of the site.

    A linked file without a page is copied to ``files``. Names such as ``fn.fit`` lead to the reference.
    """
    known = pages()

    def replace(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(source.parent / found[1]))
        if path not in known:
            if not path.is_file():
                raise FileNotFoundError(f"{source}: the link {found[1]} leads to no file")
            known[path] = f"files/{path.relative_to(ROOT)}"
            (folder / known[path]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / known[path])
        return f"]({os.path.relpath(known[path], Path(place).parent)}{found[2] or ''})"

    pieces = FENCE.split(_marked(text, source))
    del pieces[2::3]  # the marks of the fences
    for i in range(0, len(pieces), 2):
        piece = re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", replace, pieces[i])
        pieces[i] = re.sub(r"(?<![\[`])`fn\.([\w.]+)`", r"{py:obj}`fn.\1 <funcnet.\1>`", piece)
    return "".join(pieces)


def _marked(text: str, source: Path) -> str:
    """Return a text with entries of the index below its headings: those of ``TERMS``, and others of the glossary."""
    found = {heading: terms.split(", ") for (name, heading), terms in TERMS.items() if name == source.name}
    if source.stem == "glossary":
        taken = ", ".join(TERMS.values()).lower().split(", ")
        for heading in re.findall(r"^### (.+)$", text, re.MULTILINE):
            words = re.sub(r" \(.*?\)", "", heading).lower().split(", ")
            found[heading] = [*(word for word in words if word not in taken), *found.get(heading, [])]
    for heading, terms in found.items():
        mark = rf"^#+ {re.escape(heading)}$" if heading else r"\A# .*$"
        entries = f"\n\n```{{index}} {', '.join(f'! {term}' for term in terms)}\n```" if terms else ""
        text = re.sub(mark, rf"\g<0>{entries}", text, count=1, flags=re.MULTILINE)
    return text


def drawings(folder: Path) -> list[Path]:
    """Write each program of a guide that saves pictures as a file, and return the files."""
    folder.mkdir(parents=True)
    found: list[Path] = []
    for guide in sorted(GUIDES.glob("*.md")):
        for number, block in enumerate(PROGRAM.finditer(guide.read_text(encoding="utf-8"))):
            if '.png"' in block[1]:
                found.append(folder / f"{guide.stem}_{number}.py")
                found[-1].write_text(block[1], encoding="utf-8")
    return found


def illustrated(text: str, name: str, runs: Mapping[str, gallery.Run], folder: Path) -> str:
    """Return the text of a guide with the pictures that its programs saved, each after its program."""
    shown, end = "", 0
    for number, block in enumerate(PROGRAM.finditer(text)):
        shown += text[end : block.end()]
        end = block.end()
        heading = re.findall(r"^#+ (.+)$", FENCE.sub("", text[: block.start()]), re.MULTILINE)[-1]
        figures = runs[f"{name}_{number}.py"].figures if f"{name}_{number}.py" in runs else ()
        for figure in sorted(figures, key=lambda figure: block[1].find(figure.name)):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(figure, folder / f"{name}_{figure.name}")
            shown += f"\n![Picture {figure.name}: {heading}]({name}_{figure.name})\n"
    return shown + text[end:]


def _dressed(page: Any, path: Path, folder: Path, *, classroom: bool) -> str:
    """Give a notebook its links and the texts of its pictures; what it wrote to stderr is left out."""
    heading = ""
    for cell in page.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+?)\.?$", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = _crossed(linked(cell.source, path, f"tutorial/{path.stem}.ipynb", folder), path)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.metadata["mystnb"] = {"image": {"alt": f"Picture: {heading}"}}
    title, _, rest = page.cells[0].source.partition("\n")
    page.cells[0].source = f"{title.removesuffix('.')}\n\n{_links(path, classroom=classroom)}\n{rest}"
    if path.stem.endswith("solutions"):
        page.metadata["orphan"] = True  # not in the contents; the part leads to it
    return str(notebooks.nbformat.writes(page))


def _crossed(text: str, path: Path) -> str:
    """Return a text of the tutorial in which the other parts and the files of solutions are links."""
    places = {part.name: f"{part.stem}.ipynb" for part in parts()}
    numbers = {str(int(name[5:7])): place for name, place in places.items() if not name.endswith("solutions.py")}

    def replace(found: re.Match[str]) -> str:
        place = places.get(found[1] or "") or numbers.get(found[2] or "")
        return f"[{found[0]}]({place})" if place and place != f"{path.stem}.ipynb" else found[0]

    names = re.compile(r"^#.*$|\[.*?\]|(?<!`)`(part_\w+\.py)`|\bpart (\d+)\b", re.MULTILINE)  # not in headings, links
    pieces = FENCE.split(text)
    del pieces[2::3]
    for i in range(0, len(pieces), 2):
        pieces[i] = names.sub(replace, pieces[i])
    return "".join(pieces)


def _links(path: Path, *, classroom: bool) -> str:
    """Return the line below the title of a part, or of its solutions."""
    part, *solutions = sorted(TUTORIAL.glob(f"{path.stem[:7]}_*.py"), key=lambda each: each.stem.endswith("solutions"))
    links = [f'<a href="../classroom/index.html#{part.stem}">Run it here</a>'] if classroom else []
    links += [f"[Notebook](path:../files/{path.stem}.ipynb)"]
    named = zip((f"Part {int(part.stem[5:7])}", "Solutions"), (part, *solutions), strict=False)
    links += [f"[{name}]({each.stem}.ipynb)" for name, each in named if each != path]
    return " · ".join(links)


def title(path: Path) -> str:
    """Return the title of a guide or a part."""
    found = re.search(r"^(?:\"\"\")?# (?!%%)(.+?)\.?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


def _guides() -> str:
    """Return the guides by group."""
    grouped = {name for names in GROUPS.values() for name in names}
    guides = sorted(path.stem for path in GUIDES.glob("*.md"))
    groups = {**GROUPS, "More": tuple(name for name in guides if name not in grouped)}
    lines = [""]
    for group, names in groups.items():
        if names:
            lines += [f"## {group}", "", *(_described(GUIDES / f"{name}.md") for name in names), ""]
    return "\n".join(lines) + _toctree(name for names in groups.values() for name in names)


def _described(path: Path) -> str:
    """Return a link to a guide, with the first sentence of the guide."""
    found = re.search(
        r"\A# [^\n]+\n+(?:This page (?:is |has )?)?(.+?\.)\s", path.read_text(encoding="utf-8"), re.DOTALL
    )
    sentence = re.sub(r"\s+", " ", found[1]) if found else ""
    return f"- [{title(path)}]({path.name}): {sentence}"


def _tutorial() -> str:
    """Return the parts, each with what the part before it says of it."""
    texts = [path for path in parts() if not path.stem.endswith("solutions")]
    said = "".join(path.read_text(encoding="utf-8") for path in texts)
    subjects = ["", *(f": {each}" for each in re.findall(r"Next, part \d+: (.*)\.$", said, re.MULTILINE))]
    lines = [
        f"- [{title(path)}]({path.stem}.ipynb){'' if each[2:] in title(path).lower() else each}"
        for path, each in zip(texts, subjects, strict=True)
    ]
    return "\n".join(["", *lines, ""]) + _toctree(path.stem for path in [*texts, *TUTORIAL.glob("*.md")])


def _toctree(names: Iterable[str]) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", *names, "```\n"])
