"""The configuration of Sphinx for the documentation site; ``build_site.py`` stages the sources and runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reference

import funcnet as fn

project = "funcnet"
version = release = fn.environment().funcnet
project_copyright = "funcnet's authors"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb", "sphinx_design"]
exclude_patterns = ["files"]
html_theme = "furo"
html_title = f"funcnet {release}"
html_static_path = ["style.css", "search.js"]
html_css_files = ["style.css"]
html_js_files = ["search.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
default_role = "code"
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_type_aliases = reference.aliases()
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Returns", "params_style")]
nb_execution_mode = "off"  # build_site.py has run the notebooks
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath"]
myst_heading_anchors = 4


def setup(app: Any) -> dict[str, Any]:
    """Show signatures as they stand in the source."""
    app.connect("autodoc-process-signature", reference.plain)
    return {"parallel_read_safe": True}
