"""Write the pages that are made from the code, and bring the notebooks, before Sphinx reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api_reference import api_page, clashing_names
from cli_reference import cli_page
from file_reference import DESIGN, MODEL, STUDY, file_page

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

DOCS = Path(__file__).parents[1]
NOTEBOOKS = DOCS.parent / "examples"


def pages() -> dict[str, str]:
    """Make all pages.

    Returns
    -------
    dict of str
        Texts by the path below the documentation's folder.
    """
    return {
        "reference/generated/api.rst": api_page(),
        "reference/generated/cli.md": cli_page(),
        "reference/generated/study_file.md": file_page(STUDY),
        "reference/generated/design_file.md": file_page(DESIGN),
        "reference/generated/model_file.md": file_page(MODEL),
    }


def from_the_root() -> dict[str, str]:
    """Bring pages that lie in the repository's root, their links turned to where they are now."""
    made = {}
    for name in ("ARCHITECTURE", "CONTRIBUTING"):
        text = (DOCS.parent / f"{name}.md").read_text(encoding="utf-8")
        text = text.replace("(docs/", "(../../").replace("(ARCHITECTURE.md)", "(architecture.md)")
        made[f"reference/generated/{name.lower()}.md"] = text
    return made


def download(name: str) -> str:
    """Offer a notebook, as it was run, at the end of its page."""
    return f"\n---\n\nThis page as a notebook: {{nb-download}}`{name}.ipynb`.\n"


def write(app: Sphinx, config: Config) -> None:
    """Write what has changed, so that Sphinx reads nothing else again."""
    config.autosummary_filename_map = {name: f"{name}-class" for name in clashing_names()}
    sources = {Path(name): text for name, text in (pages() | from_the_root()).items()}
    for notebook in sorted(NOTEBOOKS.glob("*.md")):
        text = notebook.read_text(encoding="utf-8")
        sources[Path("examples") / notebook.name] = text + download(notebook.stem)
    for name, text in sources.items():
        target = Path(app.srcdir) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")
    for left in (Path(app.srcdir) / "examples").glob("*"):
        if Path("examples") / left.name not in sources:
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    """Write before Sphinx looks for pages, and autosummary for names."""
    app.connect("config-inited", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
