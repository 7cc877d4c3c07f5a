"""Nothing that stands in data is markup, HTML or mathematics, wherever it is written."""

import re
from pathlib import Path

import pytest

import bayesblina
from bayesblina.core.escaping import html, isolated, latex, literal, markdown, plain, printable
from bayesblina.core.tables import Table
from bayesblina.patients.account import Account, Line

HOSTILE = r"$\alpha$ \* | <b>&amp; [a](b) `c` _d_ {e}"


def test_markdown_of_accounts_is_that_of_tables() -> None:
    """Dollars begin mathematics in notebooks, and a backslash takes away what escapes a bar."""
    account = Account(lines=(Line(step="read", what=HOSTILE, patients=("p",)),), unit="$\\pi$")
    head, _, row = account.to_markdown().splitlines()
    table = Table(head=("what",), rows=((HOSTILE,),), numeric=(False,)).to_markdown()
    assert table.splitlines()[-1].strip("| ") in row
    assert not re.search(r"(?<!\\)[$|*`_{\[](?! )", row.replace(" | ", "  ").strip("| "))
    assert r"\$\\pi\$" in head
    assert account.to_markdown().splitlines()[1] == "| --- | --- | --- | --- | --- | --- | --- |"


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (html("<a href='x'>&"), "&lt;a href=&#x27;x&#x27;&gt;&amp;"),
        (isolated("\u0645 <b>"), "<bdi>\u0645 &lt;b&gt;</bdi>"),
        (markdown("$x$ \\ a|b"), r"\$x\$ \\ a\|b"),
        (markdown("- p <0.001"), r"\- p <0.001"),
        (latex("a_1 & $"), r"a\_1 \& \$"),
        (literal("$x$\n y"), r"\$x\$ y"),
        (plain("a\n\u202eb\x00"), "a b"),
        (printable("a\n\tb\x00"), "a\n\tb"),
    ],
)
def test_what_is_escaped(escaped: str, expected: str) -> None:
    assert escaped == expected


def test_texts_are_escaped_in_one_place() -> None:
    """Of the report's drawings, which are markup in parts, MarkupSafe knows what is text."""
    root = Path(bayesblina.__file__).parent
    own = re.compile(r"(?m)^from html import|^import html$|&lt;|&amp;|replace\([\"'][|$<&][\"']")
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        # Doctests show what is escaped.
        if own.search(re.sub(r'(?s)""".*?"""', "", path.read_text(encoding="utf-8")))
    }
    assert found == {"core/escaping.py"}
