"""Calibrate all models, one after another.

    uv run python tests/studies/calibrations.py --out build/calibrations --replications 300

Pages that are in the folder already are left as they are: a run that was stopped goes on where it
was, and an empty folder begins anew. `--model` takes single models. When all are there, they go to
docs/validation/calibration, and `calibration_ranks.py` draws their ranks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bayesblina.hazards.definition import load_model, model_names
from bayesblina.hazards.parts import Free, PowerPrior
from bayesblina.studies import calibration

# As they ship, given a pilot: the vague baseline by the hand-written density, and three of them.
PILOTS = ("primary", "illness_death")


def calibrated_models() -> list[str]:
    """Models with a density, whose patients are not weighted."""
    models = {name: load_model(name) for name in model_names()}
    return [
        name
        for name, model in models.items()
        if not isinstance(model.baseline, Free) and not isinstance(model.borrowing, PowerPrior)
    ]


def runs(names: Sequence[str]) -> list[tuple[str, bool]]:
    """Models to calibrate, and whether given a pilot."""
    return [(name, False) for name in names] + [(name, True) for name in PILOTS if name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 if a calibration failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replications", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", action="append", choices=calibrated_models())
    given = parser.parse_args(arguments)
    failed = []
    for name, pilot in runs(given.model or calibrated_models()):
        stem = calibration.page_name(name, pilot)
        if (given.out / f"{stem}.json").exists():
            continue
        began = time.process_time()
        command = [name, "--replications", str(given.replications), "--seed", str(given.seed)]
        command += ["--out", str(given.out), *(["--pilot"] if pilot else [])]
        outcome = calibration.main(command)
        sys.stderr.write(f"{stem}: {time.process_time() - began:.0f} s of one processor\n")
        failed += [stem] if outcome else []
    sys.stderr.write(f"failed: {', '.join(failed) or 'none'}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
