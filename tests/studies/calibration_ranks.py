"""Draw the stored ranks of all calibrations.

uv run python tests/studies/calibration_ranks.py --out docs/validation/calibration/ranks.png
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path

from bayesblina import plots
from bayesblina.core.files import write_bytes

STORED = Path(__file__).parents[2] / "docs" / "validation" / "calibration"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    counts = {}
    for path in sorted(STORED.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        counts[path.stem.replace("_", " ")] = stored["ranks"]
    picture = io.BytesIO()
    plots.calibration_ranks(counts).savefig(picture, format="png", dpi=70)
    write_bytes(given.out, picture.getvalue())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
