"""How the documentation is built: ``sphinx-build -W docs docs/_build``. No page loads anything from another host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

import qxt_async

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "qxt_async"
author = "The qxt_async authors"
version = release = qxt_async.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "examples"]
default_role = "py:obj"
python_maximum_signature_line_length = 100

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# The fixtures' module needs it, their description does not.
autodoc_mock_imports = ["pytest"]
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# As a list of names: as fields of their own they would look for link targets of the same name in other classes.
napoleon_custom_sections = [("Attributes", "params_style")]

# Prompts and outputs are not copied: of a console block, what stands after each `$`.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_selector = "div:not(.highlight-output) > div.highlight > pre"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"qxt_async {release}"
html_show_copyright = False
html_copy_source = False


class LinkProtocolRules(SphinxTransform):
    """Turns each ``PROTOCOL 2.1`` in pages and docstrings into a link to that rule."""

    default_priority = 600
    _rule = re.compile(r"PROTOCOL (\d(?:\.\d)?)")
    _as_they_are = (nodes.literal, nodes.literal_block, nodes.reference, nodes.title, addnodes.pending_xref)

    def apply(self) -> None:
        for text in list(self.document.findall(nodes.Text)):
            if "PROTOCOL " in text and not self._stands_in(text):
                text.parent.replace(text, self._linked(str(text)))

    def _stands_in(self, node: nodes.Node) -> bool:
        while (node := node.parent) is not None:
            if isinstance(node, self._as_they_are):
                return True
        return False

    def _linked(self, text: str) -> list[nodes.Node]:
        parts: list[nodes.Node] = []
        end = 0
        for rule in self._rule.finditer(text):
            parts.append(nodes.Text(text[end : rule.start()]))
            shown = nodes.inline(rule[0], rule[0])
            parts.append(
                addnodes.pending_xref(
                    "",
                    shown,
                    refdomain="std",
                    reftype="ref",
                    reftarget=f"protocol-{rule[1]}",
                    refexplicit=True,
                    refwarn=True,
                    refdoc=self.env.docname,
                )
            )
            end = rule.end()
        return [*parts, nodes.Text(text[end:])]


_LOADS = re.compile(
    r"""<(?:script|img|iframe|source|link(?![^>]*rel="(?:canonical|author)"))\b[^>]*\s(?:src|href)=["'](?:https?:)?//[^>]*>"""
    r"|@import[^;]*//|url\([\"']?(?:https?:)?//[^)]*\)"
)


def refuse_foreign_addresses(app: Sphinx, error: Exception | None) -> None:
    """Fail if a built page would load something from another host."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*"):
            if path.suffix in (".html", ".css") and (load := _LOADS.search(path.read_text(encoding="utf-8"))):
                raise ExtensionError(f"{path.relative_to(app.outdir)} loads from another host: {load[0][:200]}")


def setup(app: Sphinx) -> None:
    app.add_transform(LinkProtocolRules)
    app.connect("build-finished", refuse_foreign_addresses)
