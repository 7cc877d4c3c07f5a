"""Does planning find effects that are not there? Type I error, power by three ways, sample sizes.

uv run python tests/studies/planning.py

Finished parts are kept in a folder (``--keep``), from which a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from bayesblina.core.files import write_text
from tests.studies.planning_page import page
from tests.studies.planning_parts import PARTS

REPORT = Path(__file__).parents[2] / "docs" / "validation" / "planning.md"


def run(folder: Path) -> dict[str, pd.DataFrame]:
    """Every part, or what the folder keeps of it."""
    found = {}
    for name, part in PARTS.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            part().to_parquet(path)
        found[name] = pd.read_parquet(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of finished parts")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(REPORT, page(run(folder)))


if __name__ == "__main__":
    main()
