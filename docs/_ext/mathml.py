"""Formulas as MathML, made by docutils: pages show them without a script and without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import MathError, pick_math_environment
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

_LOGGER = logging.getLogger(__name__)


def _convert(formula: str, node: nodes.Element, *, block: bool) -> str:
    text = formula.strip()
    # Lines that are aligned need an environment of their own.
    if block and "\\begin{" not in text and pick_math_environment(text) == "align*":
        text = f"\\begin{{aligned}}{text}\\end{{aligned}}"
    try:
        return str(tex2mathml(text, as_block=block))
    except MathError as error:
        _LOGGER.warning("formula is not understood: %s: %s", error, formula, location=node)
        return f"<code>{formula}</code>"


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_convert(node.astext(), node, block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_convert(node.astext(), node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
