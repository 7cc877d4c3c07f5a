"""The rest of the model family: where models of curves move the hazard ratio, and what varies.

uv run python tests/studies/family.py

Finished parts are kept in a folder (``--keep``), from which a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from bayesblina.core.files import write_text
from tests.studies import family_courses as courses
from tests.studies import family_cure as cure
from tests.studies import family_curves as curves
from tests.studies import family_fits as fits
from tests.studies import family_page as page
from tests.studies import family_recovery as recovery
from tests.studies import family_varying as varying

REPLICATIONS, VARYING, BLOCK, CURE_BLOCK = 200, 200, 50, 10
CHANGES, COHORTS, COURSES = 200, 30, 5
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "family.md"


class Folder:
    """Parts that are finished, and the processor time they took."""

    def __init__(self, path: Path) -> None:
        """Keep parts in a folder."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Make a part, or take it from the folder."""
        path = self.path / f"{name}.parquet"
        if path.exists():
            return pd.read_parquet(path)
        began = time.process_time()
        found = make()
        found.attrs["seconds"] = time.process_time() - began
        partial = path.with_suffix(f".{os.getpid()}.part")
        found.to_parquet(partial)
        partial.rename(path)
        sys.stderr.write(f"{name}: {found.attrs['seconds']:.0f} s\n")
        return found


def of_curves(folder: Folder, replications: int) -> pd.DataFrame:
    """Models of curves in the worst scenarios."""
    parts = [
        folder.kept(f"curves_{one.name}_{replications}", partial(curves.simulate, one))
        for one in curves.settings(replications)
    ]
    return pd.concat(parts, ignore_index=True)


def _block(kind: str, size: int, block: int) -> pd.DataFrame:
    numbers = range(block * BLOCK, (block + 1) * BLOCK)
    return pd.DataFrame([row for one in numbers for row in varying.analyse(kind, size, one)])


def of_varying(folder: Folder, replications: int) -> pd.DataFrame:
    """Models whose effects vary, in blocks of data sets."""
    parts = [
        folder.kept(
            f"varying_{kind.replace(', ', '-')}_{size}_{block}", partial(_block, kind, size, block)
        )
        for block in range(max(1, replications // BLOCK))
        for size in varying.SIZES
        for kind in varying.KINDS
    ]
    return pd.concat(parts, ignore_index=True)


def of_changes(folder: Folder, replications: int) -> pd.DataFrame:
    """Priors of how far an effect varies."""

    def analyse(kind: str, size: int) -> pd.DataFrame:
        numbers = range(replications)
        return pd.DataFrame([row for one in numbers for row in varying.by_change(kind, size, one)])

    kinds = [*(name for name in varying.KINDS if name.startswith(("over", "since", "by_")))]
    parts = [
        folder.kept(
            f"changes_{kind.replace(', ', '-')}_{size}_{replications}", partial(analyse, kind, size)
        )
        for kind in (*kinds, *varying.CONSTANT)
        for size in varying.SIZES
    ]
    return pd.concat(parts, ignore_index=True)


def of_fits(folder: Folder) -> pd.DataFrame:
    """The engine against the sampler, model by model."""

    def compare(model: str) -> pd.DataFrame:
        return pd.DataFrame([fits.compare(one, model) for one in fits.chosen()])

    parts = [folder.kept(f"fits_{model}", partial(compare, model)) for model in fits.MODELS]
    return pd.concat(parts, ignore_index=True)


def of_recovery(folder: Folder, cohorts: int) -> pd.DataFrame:
    """Hazards that are known."""
    parts = [
        folder.kept(
            f"recovery_{shape}_{size}_{cohorts}", partial(recovery.recovery, shape, size, cohorts)
        )
        for shape in recovery.HAZARDS
        for size in recovery.SIZES
    ]
    return pd.concat(parts, ignore_index=True)


def of_cure(folder: Folder) -> pd.DataFrame:
    """Cured fractions."""

    def analyse(hazard: str, block: range) -> pd.DataFrame:
        return pd.DataFrame([cure.analyse(hazard, number) for number in block])

    parts = [
        folder.kept(
            f"cure_{hazard.replace(' ', '-')}_{first}",
            partial(analyse, hazard, range(first, first + CURE_BLOCK)),
        )
        for hazard, sets in cure.SETS.items()
        for first in range(0, sets, CURE_BLOCK)
    ]
    return pd.concat(parts, ignore_index=True)


def of_courses(folder: Folder, cohorts: int) -> pd.DataFrame:
    """Endpoints together."""

    def analyse() -> pd.DataFrame:
        return pd.DataFrame([row for one in range(cohorts) for row in courses.analyse(one)])

    return folder.kept(f"courses_{cohorts}", analyse)


def gather(folder: Folder, given: argparse.Namespace) -> page.Parts:
    """Run all parts."""
    return page.Parts(
        curves=of_curves(folder, given.replications),
        varying=of_varying(folder, given.varying),
        changes=of_changes(folder, given.changes),
        fits=of_fits(folder),
        recovery=of_recovery(folder, given.cohorts),
        cure=of_cure(folder),
        courses=of_courses(folder, given.courses),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {
        "replications": REPLICATIONS,
        "varying": VARYING,
        "changes": CHANGES,
        "cohorts": COHORTS,
        "courses": COURSES,
    }
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        parts = gather(Folder(given.keep or Path(temporary)), given)
    command = "uv run python tests/studies/family.py"
    for name, value in defaults.items():
        if getattr(given, name) != value:
            command += f" --{name} {getattr(given, name)}"
    write_text(given.out, page.text(parts, command=command))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
