"""Texts from data as plain text, HTML, Markdown and LaTeX: the one place where they are escaped."""

from __future__ import annotations

import re
import unicodedata
from html import escape

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "−": r"\ensuremath{-}",
    "×": r"\ensuremath{\times}",
    "≥": r"\ensuremath{\geq}",
    "≤": r"\ensuremath{\leq}",
    "∞": r"\ensuremath{\infty}",
    "–": r"\textendash{}",
}
# Two of these in a row would become one sign.
_LIGATURES = re.compile(r"([-',])(?=\1)")
# Characters that mean something in some flavour of Markdown wherever they stand, and in HTML.
_MARKDOWN = {letter: f"\\{letter}" for letter in r"\`*_{}[]#|~^$@"}
# What could begin a tag, a comment or an entity; "<0.001" cannot, and stands as it is.
_HTML = re.compile(r"<(?![\d =])|&(?=[A-Za-z#])")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
# What becomes a link or an emoji; and what opens a list or an underline at the start of a line.
_LINKS = re.compile(r":(?=\S)|(?<=www)\.")
_OPENING = re.compile(r"^(\d*)([-+=>]|[.)](?=\s|$))")


def plain(text: str) -> str:
    r"""Make a text one line that shows what it holds.

    White space folded to single spaces; control characters, surrogates and those that turn the
    direction of the text around them are gone.
    """
    kept = "".join(
        letter
        for letter in " ".join(str(text).split())
        if unicodedata.category(letter) not in ("Cc", "Cs")
        and unicodedata.bidirectional(letter)
        not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    )
    # XML, and so Word, has no place for these two.
    return " ".join(kept.replace("\ufffe", "").replace("\uffff", "").split())


def latex(text: str) -> str:
    r"""Escape a text for LaTeX.

    The same text as LaTeX source; no character of it is a command, an option or a ligature.
    """
    return _LIGATURES.sub(r"\1{}", "".join(_LATEX.get(letter, letter) for letter in text))


def markdown(text: str) -> str:
    r"""Escape a text for Markdown.

    The same text as Markdown source; no character of it is markup or HTML.
    """
    escaped = "".join(_MARKDOWN.get(letter, letter) for letter in text)
    escaped = _HTML.sub(lambda match: _ENTITIES[match[0]], escaped)
    return _OPENING.sub(r"\1\\\2", _LINKS.sub(r"\\\g<0>", escaped))


def literal(text: object) -> str:
    r"""Keep a text of the data from being read as mathematics, or as several lines, in figures."""
    return " ".join(str(text).split()).replace("$", r"\$")


def printable(text: str) -> str:
    r"""Take out what HTML has no place for: control characters, and halves of letters."""
    return "".join(
        letter
        for letter in text
        if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs")
    )


def html(text: str) -> str:
    """Escape a text for HTML, between tags and in quoted attributes."""
    return escape(text)


def isolated(text: str) -> str:
    """Escape a text for HTML, and keep right-to-left text from turning what stands beside it."""
    strong = any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text)
    return f"<bdi>{html(text)}</bdi>" if strong else html(text)
