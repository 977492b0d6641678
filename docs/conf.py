"""Sphinx: the site from the guides, the committed notebooks and the docstrings. `make docs`.

The source folder is the repository, so that links between guides, notebooks and benchmarks work on
the site as they do in the repository. Nothing is fetched: notebooks are shown as committed,
formulas become MathML, and the theme's files are copied into the site.
"""

import os
import re
import subprocess
from typing import Any, Literal

from docutils import nodes
from latex2mathml.converter import convert
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import msg3d_lab

project = "MS-G3D Lab"
author = "The MS-G3D Lab contributors"
copyright = author
release = version = msg3d_lab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "docs/_build", "docs/examples", "runs", "**/.ipynb_checkpoints"]

# Notebooks
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # myst-nb's default loads them from the internet
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Docstrings
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    ("Shapes", "params_style"),
    ("Units", "notes_style"),
    ("Source", "notes_style"),
]
default_role = "code"

# Pages
html_theme = "sphinx_book_theme"
html_title = project
html_math_renderer = "mathml"
html_copy_source = False
html_context = {"default_mode": "auto"}
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["site.css"]


def launch_options() -> dict[str, Any]:
    """The theme's options for the buttons that open a notebook in Binder or Colab.

    They need the repository's address: GitHub Actions names it, and so does a clone's origin.
    Without an address on GitHub there are no buttons.
    """
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        git = ["git", "remote", "get-url", "origin"]
        origin = subprocess.run(git, capture_output=True, text=True).stdout.strip()
        found = re.search(r"github\.com[:/]([^/]+/[^/]+?)(\.git)?$", origin)
        repository = found[1] if found else ""
    if not repository:
        return {}
    return {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": "main",
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


html_theme_options = {
    "navbar_persistent": [],  # the search field is in the sidebar
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    **launch_options(),
}


def _mathml(self, node: nodes.Element, *, display: Literal["inline", "block"]) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    self.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer of formulas, and CSV as plain text."""
    app.add_lexer("csv", TextLexer)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda self, node: _mathml(self, node, display="inline"), None),
        block_renderers=(lambda self, node: _mathml(self, node, display="block"), None),
    )
