"""Sphinx configuration."""

import plankton_embed

project = "plankton_embed"
release = plankton_embed.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "plankton_embed"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
myst_enable_extensions = ["colon_fence"]
exclude_patterns = ["_build"]
