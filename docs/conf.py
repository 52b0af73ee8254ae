"""How the documentation site is built: `make docs`, into build/docs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

import datasync

project = "datasync"
copyright = "the authors of datasync"  # noqa: A001 - the name that Sphinx reads
release = version = datasync.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conf.py"]
html_theme = "furo"
html_title = f"datasync {release}"
html_show_sourcelink = False
html_copy_source = False
python_maximum_signature_line_length = 88
smartquotes = False  # what stands in quotes is typed as it is

# Headings get the anchors that code hosts give them, so that the same links work in both places
myst_heading_anchors = 6

# Docstrings are written for those who read the source: `name` is code, "name: what it is" a list
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

_ITEM = re.compile(r"(\w+(?:, \w+)*): (.*)")
_PLURAL = re.compile(r"(`\w+`)(?=s\b)")


def as_list(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, its paragraphs of "name: what it is" turned into lists."""
    listing, begins = False, True
    for line in lines:
        item = _ITEM.fullmatch(line)
        if not line.strip():
            listing = False
        elif item and (begins or listing):
            listing = True
            line = f"- **{item[1]}**: {item[2]}"
        elif listing:
            line = f"  {line.strip()}"
        begins = not line.strip()
        yield _PLURAL.sub(r"\1\\ ", line)


def rewrite(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Called by autodoc with each docstring."""
    lines[:] = as_list(lines)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", rewrite)
