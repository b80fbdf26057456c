"""How Sphinx builds the documentation: ``make docs``."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "kourou"
author = "The kourou maintainers"
copyright = author  # noqa: A001 - Sphinx asks for this name
release = importlib.metadata.version("kourou")

extensions = [
    "kourou_reference",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_extensions", "reference/generated"]

smartquotes = False  # they would make a dash of the two that an option begins with

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"kourou {release}"
html_static_path = ["_static"]
html_js_files = ["diagrams.js"]
html_css_files = ["kourou.css"]
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"sidebar_hide_name": False}

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
copybutton_prompt_text = "$ "
copybutton_selector = "div.highlight pre"

suppress_warnings = ["ref.python"]  # an attribute called "name" of several classes: the link takes one of them
default_role = "code"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True  # attributes are described once, by their own docstrings
napoleon_numpy_docstring = False
