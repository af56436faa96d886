"""The API reference, built from the docstrings by ``python -m sphinx -W tests/tools/reference build/reference``.

Its one page has the public names in the sections below, by the module that they come from; a module that stands in no
section comes last.
"""

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

project = "funcnet"
version = release = fn.environment().funcnet
project_copyright = "funcnet's authors"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"funcnet {release}"
html_copy_source = False
html_show_sourcelink = False
default_role = "code"
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Returns", "params_style")]
ALIASES: Final = ("Array", "Weight", "Statistic", "Network", "Step", "Schedule", "FloatDType")
SOURCES: Final = [path.read_text() for path in Path(str(fn.__file__)).parent.rglob("*.py")]
autodoc_type_aliases = {name: name for text in SOURCES for name in re.findall(r"^(\w+): TypeAlias", text, re.MULTILINE)}

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
    "Reproducibility: saving and auditing": ("arithmetic", "runs"),
    "Other libraries": ("interop",),
    "Programs": ("tracing",),
    "Types and errors": ("core",),
}


def sources() -> dict[str, str]:
    """Each public name and the module that it comes from; a module's own name stands for all of it."""
    tree = ast.parse(Path(str(fn.__file__)).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    found = {str(alias.asname): str(node.module) for node in nodes for alias in node.names if alias.asname}
    found["portable"], found["estimators"] = found.pop("_portable_bits"), found.pop("_sklearn")
    modules = {"funcnet", "funcnet.random", "funcnet.data"}
    return {
        name: f"{module}.{name}" if module in modules and inspect.ismodule(getattr(fn, name)) else module
        for name, module in found.items()
        if not name.startswith("_")
    }


def sections() -> dict[str, dict[str, list[str]]]:
    """For each section its modules, and for each module its public names in the order of its source."""
    rest = {module: [n for n, home in sources().items() if home == module] for module in sources().values()}
    found: dict[str, dict[str, list[str]]] = {}
    for title, rooms in SECTIONS.items():
        chosen = [module for room in rooms for module in sorted(rest) if module.split(".")[1] == room]
        chosen.sort(key=lambda module: module != "funcnet.layers.dense")  # the one to read first
        found[title] = {module: rest.pop(module) for module in chosen}
    found["More"] = dict(sorted(rest.items()))
    for modules in found.values():
        for module, names in list(modules.items()):
            source = Path(str(importlib.import_module(module).__file__)).read_text()
            lines = [str(name) for node in ast.parse(source).body for name in _defined(node)]
            modules[module] = sorted(names, key=[*names, *lines][::-1].index, reverse=True)
    return {title: modules for title, modules in found.items() if modules}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def page() -> str:
    """The sections as reStructuredText."""
    lines: list[str] = []
    for title, modules in sections().items():
        lines += ["", title, "=" * len(title)]
        for module, names in modules.items():
            subject = (inspect.getdoc(importlib.import_module(module)) or "").split("\n\n")[0]
            lines += ["", *subject.splitlines(), ""]
            for name in names:
                lines += _entry(module, name)
    return "\n".join(lines)


def _entry(module: str, name: str) -> list[str]:
    value = getattr(fn, name)
    if inspect.ismodule(value):
        return _members(value)
    if name in ALIASES:
        return [f".. py:data:: {name}", "", *(f"   {line}" for line in _said_of(module, name)), ""]
    kind = "autoclass" if inspect.isclass(value) else "autofunction"
    options = ["   :members:", "   :exclude-members: check"] if inspect.isclass(value) else []
    return [f".. {kind}:: funcnet.{name}", *options, ""]


def _members(module: ModuleType) -> list[str]:
    """What a public module has that is public and documented."""
    body = ast.parse(inspect.getsource(module)).body
    names = [name for node in body for name in _defined(node)]
    public = getattr(module, "__all__", names)
    names = [name for name in (*names, *public) if name in public]
    lines = [f"Names in ``fn.{module.__name__.split('.')[-1]}``:", ""]
    for name in dict.fromkeys(names):  # a name with overloads is there several times
        value = getattr(module, name)
        if not name.startswith("_") and value.__doc__ and (inspect.isclass(value) or inspect.isfunction(value)):
            lines += [f".. {'autoclass' if inspect.isclass(value) else 'autofunction'}:: {module.__name__}.{name}", ""]
    return lines


def _said_of(module: str, name: str) -> list[str]:
    """The string under an alias in its module."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, below in pairwise(body):
        if name in _defined(node) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return str(below.value.value).splitlines()
    return []


def _fill(_: Any, name: str, source: list[str]) -> None:
    if name == "index":
        source[0] += page()


def _plain(*event: Any) -> tuple[str | None, str | None]:
    """A signature as it stands in the source: aliases by their names, a record's defaults by their values."""
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


def setup(app: Any) -> dict[str, Any]:
    """Put the sections on the page."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _plain)
    return {"parallel_read_safe": True}
