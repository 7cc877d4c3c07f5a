"""Where tests find files of the repository."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
STUDIES = ROOT / "tests" / "studies"
VALIDATION = ROOT / "docs" / "validation"
