"""The API reference: every public name appears once, in a section, and every docstring can be rendered."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import funcnet as fn

pytestmark = pytest.mark.slow

REFERENCE = Path(__file__).parent / "reference"


def configuration() -> Any:
    """Return the reference's configuration, as a module."""
    spec = importlib.util.spec_from_file_location("reference_configuration", REFERENCE / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIGURATION = configuration()


@pytest.fixture(scope="module")
def page() -> str:
    """Return the text from which Sphinx makes the page."""
    text: str = CONFIGURATION.page()
    return text


def test_every_public_name_stands_in_it_once(page: str) -> None:
    """A name appears as a class, a function, a type, or a module with its members."""
    for name in fn.__all__:
        entry = rf"\.\. (?:autoclass:: funcnet\.|autofunction:: funcnet\.|py:data:: ){name}$"
        assert len(re.findall(rf"^(?:{entry}|Names in ``fn\.{name}``:)", page, re.MULTILINE)) == 1, name


def test_every_section_has_names() -> None:
    """A section without names would mean that a module moved."""
    found = CONFIGURATION.sections()
    assert list(found)[: len(CONFIGURATION.SECTIONS)] == list(CONFIGURATION.SECTIONS)
    assert next(iter(found["Layers"])) == "funcnet.layers.dense"
    passes = found["Networks"]["funcnet.network.passes"]
    assert passes.index("forward") < passes.index("backward")


def test_types_are_told_in_words(page: str) -> None:
    """The description of a type is the string below its alias."""
    for name in CONFIGURATION.ALIASES:
        assert re.search(rf"^\.\. py:data:: {name}\n\n   \S", page, re.MULTILINE), name


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the extra 'docs' is not installed")
def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every name has a page, aliases appear by name, and defaults by value."""
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", str(REFERENCE), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "index.html").read_text()
    for name in {*fn.__all__} - {"arithmetic", "datasets", "initializers", "metrics", "random"}:
        assert re.search(rf'id="(?:funcnet\.)?{name}"', page), name
    assert "TypeAliasForwardRef" not in page
    assert "attr_dict" not in page
