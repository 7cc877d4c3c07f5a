"""Figures inside a page: SVG without styles of its own, whose colours are those of the page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bayesblina.output.plots.style import ALARM, COLOURS, DARK, GREY, PALE

# Decimals of places: no number can be read off finer than it is shown.
DECIMALS = 2
# What each colour of a figure is called in the page's style, which has other ones for dark screens
# and for paper.
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        **{to_hex(colour): f"var(--c{index})" for index, colour in enumerate(COLOURS[:5])},
        to_hex(DARK): "var(--ink)",
        to_hex("black"): "var(--soft)",
        to_hex(GREY): "var(--soft)",
        to_hex(PALE): "var(--rule)",
        to_hex(ALARM): "var(--bad)",
        to_hex("white"): "var(--paper)",
    }
)
GROUP = "{http://www.w3.org/2000/svg}g"
# Fonts are the page's.
_FONT = "font-family"
_NUMBER = re.compile(r"-?\d+\.\d+")
_UNTURNED = re.compile(r"rotate\(-?0 [^)]*\)")


@dataclass(frozen=True, slots=True)
class FigureParts:
    """What the page does with parts of a figure, by their names in it (``gid``).

    `attributes`: attributes that a part gets.
    `titles`: what is told when it is pointed at.
    """

    attributes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def tell(self, artist: Artist, title: str) -> None:
        """Tell a text when an artist is pointed at."""
        name = f"told-{len(self.titles)}"
        artist.set_gid(name)
        self.titles[name] = title


def embedded_svg(
    figure: Figure, name: str, *, title: str, description: str, parts: FigureParts, kind: str = ""
) -> Markup:
    """Write a figure as SVG for a page; the same figure gives the same text.

    `name`: its id in the page, which tells its ids from those of others.
    `description`: what is to be seen, for those who do not see it.
    """
    buffer = BytesIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        # The page has other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    drawn = next(child for child in root if child.get("id") == "figure_1")
    clips = [child for child in root if child.tag.endswith("defs") and len(child[0])]
    root[:] = [child for child in root if child is drawn or child in clips]
    _join(drawn)
    # Matplotlib's ids are hashes of unrounded places, which guesses could be tried against.
    named = [one.attrib["id"] for one in root.iter() if "id" in one.attrib and one.tag != GROUP]
    ids = {old: f"{name}-{index}" for index, old in enumerate(named)}
    for element in root.iter():
        _undress(element, parts, ids)
        element.tail = None
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-words",
        "class": f"chart {kind}".strip(),
    }
    for tag, suffix, text in (("desc", "words", description), ("title", "title", title)):
        words = ElementTree.Element(tag, {"id": f"{name}-{suffix}"})
        words.text = text
        root.insert(0, words)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _join(drawn: ElementTree.Element) -> None:
    """Put parts of one name that follow each other into one group."""
    for parent in list(drawn.iter()):
        before = None
        for child in list(parent):
            name = child.get("id")
            if before is not None and name is not None and name == before.get("id"):
                before.extend(child)
                parent.remove(child)
            else:
                before = child


def _undress(element: ElementTree.Element, parts: FigureParts, ids: Mapping[str, str]) -> None:
    """Turn styles into attributes, which the page's policy allows, and colours into the page's."""
    element.tag = element.tag.rpartition("}")[2]
    given = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    style = given.pop("style", "")
    name = given.get("id", "")
    if element.tag == "g":
        # Groups are called by nobody but those of the page.
        given.pop("id", None)
        given.update(parts.attributes.get(name, {}))
        if name in parts.titles:
            title = ElementTree.Element("title")
            title.text = parts.titles[name]
            element.insert(0, title)
    for rule in filter(None, style.split("; ")):
        key, _, value = rule.partition(": ")
        if key != _FONT:
            given[key] = VARIABLES.get(value, value.removesuffix("px"))
    for key in ("id", "href", "clip-path"):
        if key in given:
            old = given[key].rpartition("#")[2].removesuffix(")")
            given[key] = given[key].replace(old, ids[old])
    element.attrib = {
        key: " ".join(_NUMBER.sub(_rounded, value).split())
        for key, value in given.items()
        if not _UNTURNED.fullmatch(value)
    }
    if element.tag == "g":
        element.text = None


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.{DECIMALS}f}".rstrip("0").rstrip(".")
