"""The pages of the API reference: a page for each section, with every public name once, in the order of its source."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs

import funcnet as fn

ALIASES: Final = ("Array", "Weight", "Statistic", "Mask", "Network", "Step", "Schedule", "FloatDType")
"""The types that are no classes: autodoc cannot describe them."""

SECTIONS: Final = {
    "Networks": ("network", "models"),
    "Layers": ("layers",),
    "Losses and metrics": ("losses", "metrics"),
    "Optimizers": ("optimizers",),
    "Data": ("data",),
    "Training": ("loops",),
    "Keys and random numbers": ("random",),
    "Checking": ("testing",),
    "Inspection": ("inspection",),
    "Plots": ("plots",),
    "Reproducibility: saving and auditing": ("arithmetic", "runs"),
    "Other libraries": ("interop",),
    "Programs": ("tracing",),
    "Types and errors": ("core",),
}
"""The folders and modules of each section."""

UNSAID: Final = "check, set_fit_request, set_partial_fit_request, set_score_request"
"""Methods that the reference leaves out: the same one of each record, and those that scikit-learn adds."""

INTRODUCTION: Final = """API reference
#############

Every public name, with worked numbers. In all examples, ``fn`` stands for ``funcnet`` and ``np`` for ``numpy``:

>>> import numpy as np
>>> import funcnet as fn
>>> net = (fn.dense(fn.Key(0), 2, 3), fn.ReLU(), fn.dense(fn.Key(1), 3, 2))
>>> fn.forward(net, np.array([[1.0, 2.0]], np.float32)).shape
(1, 2)

Letters stand for sizes: B for the batch, T for time, I for inputs, O for outputs, C for channels, H and W for height
and width. So x of shape (B, I) has a row for each example.
"""


def pages() -> dict[str, str]:
    """Return the pages in reStructuredText by name: ``index``, and one for each section."""
    found: dict[str, str] = {}
    index = [INTRODUCTION]
    for title, modules in sections().items():
        name = re.sub(r"\W+", "-", title.lower())
        found[name] = "\n".join([title, "#" * len(title), *_section(modules)])
        links = (f":py:obj:`{each} <funcnet.{each}>`" for names in modules.values() for each in names)
        index += [f":doc:`{name}`", f"   {', '.join(links)}", ""]
    toctree = [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in found)]
    return {"index": "\n".join([*index, *toctree]), **found}


def sections() -> dict[str, dict[str, list[str]]]:
    """Return for each section its modules, and for each module its public names in the order of its source."""
    homes = _homes()
    rest = {module: [name for name, home in homes.items() if home == module] for module in homes.values()}
    found: dict[str, dict[str, list[str]]] = {}
    for title, rooms in SECTIONS.items():
        chosen = [module for room in rooms for module in sorted(rest) if module.split(".")[1] == room]
        chosen.sort(key=lambda module: module != "funcnet.layers.dense")  # the one to read first
        found[title] = {module: rest.pop(module) for module in chosen}
    found["More"] = dict(sorted(rest.items()))
    for modules in found.values():
        for module, names in list(modules.items()):
            source = Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")
            lines = [str(name) for node in ast.parse(source).body for name in _defined(node)]
            modules[module] = sorted(names, key=[*names, *lines][::-1].index, reverse=True)
    return {title: modules for title, modules in found.items() if modules}


def _homes() -> dict[str, str]:
    """Return for each public name the module that it comes from; a module's own name stands for all of it.

    Raises:
        ImportError: If the library is absent that a name needs: a page without the name would look complete.
    """
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(Path(str(fn.__file__)).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("funcnet"):
            found |= {str(alias.asname): (str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name):  # a second name of an import
            found |= {target.id: found[node.value.id] for target in node.targets if isinstance(target, ast.Name)}
    public = sorted(name for name in found if not name.startswith("_"))
    return {name: ".".join(found[name]) if inspect.ismodule(getattr(fn, name)) else found[name][0] for name in public}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _section(modules: dict[str, list[str]]) -> list[str]:
    lines: list[str] = []
    for module, names in modules.items():
        said = inspect.getdoc(importlib.import_module(module)) or ""
        subject = said.split("\n\n")[0].replace("\n", " ").removesuffix(".")
        lines += ["", subject, "=" * len(subject), ""]
        for name in names:
            lines += _entry(module, name)
    return lines


def _entry(module: str, name: str) -> list[str]:
    value = getattr(fn, name)
    if inspect.ismodule(value):
        return _members(value, name)
    if name in ALIASES:
        return [f".. py:data:: funcnet.{name}", "", *(f"   {line}" for line in _said_of(module, name)), ""]
    return _directive(value, f"funcnet.{name}")


def _directive(value: object, path: str) -> list[str]:
    if inspect.isclass(value):
        return [f".. autoclass:: {path}", "   :members:", f"   :exclude-members: {UNSAID}", ""]
    return [f".. autofunction:: {path}", ""]


def _members(module: ModuleType, short: str) -> list[str]:
    """Return the public and documented names of a public module."""
    body = ast.parse(inspect.getsource(module)).body
    names = [name for node in body for name in _defined(node)]
    public = getattr(module, "__all__", names)
    names = [name for name in (*names, *public) if name in public]
    lines = [f".. py:module:: funcnet.{short}", "", f"Names in ``fn.{short}``:", ""]
    shown = {getattr(getattr(fn, name), "__module__", None) for name in dir(fn)}
    for name in dict.fromkeys(names):  # a name with overloads is there several times
        value = getattr(module, name)
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
            if value.__module__ in shown and not hasattr(fn, name):  # where the page of its source leads to
                lines += [".. raw:: html", "", f'   <span id="funcnet.{name}"></span>', ""]
            lines += _directive(value, f"funcnet.{short}.{name}")
    return lines


def _said_of(module: str, name: str) -> list[str]:
    """Return the string under an alias in its module."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, below in pairwise(body):
        if name in _defined(node) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return str(below.value.value).splitlines()
    return []


def aliases() -> dict[str, str]:
    """Return the names of all type aliases, which signatures show in place of their values."""
    texts = [path.read_text(encoding="utf-8") for path in Path(str(fn.__file__)).parent.rglob("*.py")]
    return {name: name for text in texts for name in re.findall(r"^(\w+): TypeAlias", text, re.MULTILINE)}


def plain(*event: Any) -> tuple[str | None, str | None]:
    """Return a signature as it stands in the source: aliases by their names, a record's defaults by their values."""
    value, _, signature, returned = event[3:]

    def default(found: re.Match[str]) -> str:
        return repr(attrs.fields_dict(value)[found[1]].default)

    if signature and inspect.isclass(value):
        signature = re.sub(r"attr_dict\['(\w+)'\]\.default", default, signature)
    return signature and _names(signature), returned and _names(returned)


def _names(signature: str) -> str:
    short = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", signature)
    short = re.sub(r"~?(?:typing|collections\.abc)\.(\w+)", r"\1", short)
    short = re.sub(r"~?funcnet(?:\.\w+)*\.([A-Z]\b|[A-Z]_co\b)", r"\1", short)
    return re.sub(r"~?numpy\.ndarray\[tuple\[[^]]*\], ~?numpy\.dtype\[([^]]*)\]\]", r"NDArray[\1]", short)
