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
    ("part_01_neuron", ""): "gradient descent",
    ("part_02_layer", ""): "backpropagation",
    ("part_04_digits", "From outputs to probabilities: softmax"): "softmax",
    ("part_04_digits", "The loss: cross-entropy"): "cross-entropy",
    ("part_07_overfitting", ""): "overfitting",
    ("part_07_overfitting", "First remedy: early stopping"): "early stopping",
    ("part_07_overfitting", "Second remedy: weight decay"): "weight decay",
    ("part_07_overfitting", "Third remedy: dropout"): "dropout",
    ("part_10_convolution", ""): "convolution",
    ("cross_validation", ""): "cross-validation",
    ("learning_rates", ""): "learning rate",
    ("networks", "Save and load a network, or a run"): "save a network",
    ("plots", ""): "confusion matrix",
}
"""What learners look up, by the section that a search must find first: its page, and its heading or ""."""

FENCE: Final = re.compile(r"(^(`{3,}).*?^\2[ \t]*$)", re.MULTILINE | re.DOTALL)


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
            text = gallery.page(path, runs.get(path.name), folder / "gallery")
        elif path.suffix == ".py":
            fresh = notebooks.notebook(path)
            _write(folder, f"files/{path.stem}.ipynb", notebooks.nbformat.writes(fresh))
            text = _dressed(executed.get(path.name, fresh), path, folder, classroom=classroom)
        elif path.suffix == ".md" and path != ROOT / "README.md":
            text = linked(path.read_text(encoding="utf-8"), path, place, folder)
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

    for heading, terms in _terms(source, text).items():
        mark = rf"^#+ {re.escape(heading)}$" if heading else r"\A# .*$"
        text = re.sub(mark, rf"\g<0>\n\n```{{index}} {terms}\n```", text, count=1, flags=re.MULTILINE)
    pieces = FENCE.split(text)
    del pieces[2::3]  # the marks of the fences
    for i in range(0, len(pieces), 2):
        piece = re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", replace, pieces[i])
        pieces[i] = re.sub(r"(?<![\[`])`fn\.([\w.]+)`", r"{py:obj}`fn.\1 <funcnet.\1>`", piece)
    return "".join(pieces)


def _terms(source: Path, text: str) -> dict[str, str]:
    """Return the entries of the index by heading: those of ``TERMS``, and all others of the glossary."""
    found = {heading: f"! {term}" for (name, heading), term in TERMS.items() if name == source.stem}
    if source.stem == "glossary":
        for heading in re.findall(r"^### (.+)$", text, re.MULTILINE):
            words = re.sub(r" \(.*?\)", "", heading).lower().split(", ")
            found[heading] = ", ".join(f"! {word}" for word in words if word not in TERMS.values())
    return {heading: terms for heading, terms in found.items() if terms}


def _dressed(page: Any, path: Path, folder: Path, *, classroom: bool) -> str:
    """Give a notebook its links and the texts of its pictures; what it wrote to stderr is left out."""
    heading = ""
    for cell in page.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.+?)\.?$", cell.source, re.MULTILINE) or [heading])[-1]
            cell.source = linked(cell.source, path, f"tutorial/{path.stem}.ipynb", folder)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.metadata["mystnb"] = {"image": {"alt": f"Picture: {heading}"}}
    title, _, rest = page.cells[0].source.partition("\n")
    page.cells[0].source = f"{title.removesuffix('.')}\n\n{_links(path, classroom=classroom)}\n{rest}"
    if path.stem.endswith("solutions"):
        page.metadata["orphan"] = True  # not in the contents; the part leads to it
    return str(notebooks.nbformat.writes(page))


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
    """Return the parts and what belongs to them."""
    texts = [path for path in parts() if not path.stem.endswith("solutions")]
    lines = [f"- [{title(path)}]({path.stem}.ipynb)" for path in texts]
    return "\n".join(["", *lines, ""]) + _toctree(path.stem for path in [*texts, *TUTORIAL.glob("*.md")])


def _toctree(names: Iterable[str]) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", *names, "```\n"])
