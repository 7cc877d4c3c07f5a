"""Default fits beside their companions on R's data in which states come again.

    uv run python tests/studies/recurring_companions.py

The sets are those of `tests/classical/test_r_recurring.py`, which holds Cox's regression and the
companion to R; here the fit with its baseline is held to the companion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.files import write_text
from bayesblina.patients.cohort import Cohort
from tests.classical.test_r_recurring import EXPOSED, question, rows_of, stays_of

PAGE = Path(__file__).parents[2] / "docs" / "validation" / "recurring.md"
SETS = ("cgd", "pbcseq", "heart", "cycles", "priority", "named", "any")
SEEDS = (1, 2, 3)
# Beyond it the baseline gate tells a shift.
LIMIT = 0.25


def cohort_of(name: str) -> Cohort:
    """Read a set; R is asked of one drug against all else, combinations too."""
    return replace(rows_of(name) if name in EXPOSED else stays_of(name), combinations={})


def all_cuts(cohort: Cohort, asked: bb.Question) -> Floats:
    """The default cuts, and one between each two days with events."""
    outcome = cohort.endpoints["survival"]
    days = np.unique(outcome.time[outcome.event])
    return np.unique(
        np.concatenate([(days[1:] + days[:-1]) / 2, bb.person_time(cohort, asked).cuts])
    )


def run(sets: Sequence[str] = SETS, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """Fit each set with both kinds of cuts; one row per set, reference, cuts and seed."""
    rows = []
    for name in sets:
        cohort = cohort_of(name)
        for reference in (None, "b"):
            if reference not in (None, *cohort.phases):
                continue
            asked = question(name, reference=reference)
            for kind, cuts in (("default", None), ("all", all_cuts(cohort, asked))):
                for seed in seeds:
                    fit = bb.fit(cohort, asked, cuts=cuts, seed=seed, progress=False)
                    gate = fit.gate.table.set_index("effect").loc[asked.exposure]
                    table = fit.person_time.table
                    exposed = table["role"].values == "exposed"
                    rows.append(
                        {
                            "set": name,
                            "reference": reference or "all else",
                            "cuts": kind,
                            "seed": seed,
                            "events": int(table["events"].values.sum()),
                            "exposed": int(table["events"].isel(phase=exposed).values.sum()),
                            "intervals": table.sizes["interval"],
                            "mean": float(gate["mean"]),
                            "sd": float(gate["sd"]),
                            "companion": float(gate["companion_mean"]),
                            "companion sd": float(gate["companion_sd"]),
                            "shift": float(gate["shift"]),
                            "error": float(gate["mcse"] / gate["companion_sd"]),
                        }
                    )
    return pd.DataFrame(rows)


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds; one row per set and reference, with the shift by both kinds of cuts."""
    groups = rows.groupby(["set", "reference", "cuts"], sort=False)
    means = groups.mean(numeric_only=True)
    means["error"] /= np.sqrt(groups.size())
    both = means.reset_index().pivot_table(index=["set", "reference"], columns="cuts")
    order = rows[["set", "reference"]].drop_duplicates()
    found = pd.DataFrame(
        {
            **{
                name: both[name, "default"]
                for name in ("events", "exposed", "intervals", "mean", "sd")
            },
            "companion": both["companion", "default"],
            "companion sd": both["companion sd", "default"],
            "shift": both["shift", "default"],
            "error": both["error", "default"],
            "intervals, all": both["intervals", "all"],
            "shift, all": both["shift", "all"],
        }
    )
    return found.loc[pd.MultiIndex.from_frame(order)].reset_index()


def page(found: pd.DataFrame, seeds: int) -> str:
    """Word the results."""
    head = (
        "| set | against | events | in the exposed state | intervals | log HR (sd) | companion (sd)"
    )
    lines = [
        f"{head} | shift | its error | with all cuts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['set']} | {row['reference']} | {row['events']:.0f} | {row['exposed']:.0f} "
        f"| {row['intervals']:.0f} | {row['mean']:.3f} ({row['sd']:.3f}) "
        f"| {row['companion']:.3f} ({row['companion sd']:.3f}) | {row['shift']:+.2f} "
        f"| {row['error']:.2f} | {row['shift, all']:+.2f} ({row['intervals, all']:.0f}) |"
        for row in found.to_dict("records")
    ]
    at_the_limit = found[found["shift"].abs() + 2 * found["error"] > LIMIT]
    names = "; ".join(
        f"`{row['set']}` against {row['reference']}, {row['shift']:+.2f}"
        for row in at_the_limit.to_dict("records")
    )
    told = f"All lie within {LIMIT} companion sds, by more than two Monte-Carlo errors."
    if len(at_the_limit):
        first = at_the_limit.iloc[0]
        told = (
            f"{len(found) - len(at_the_limit)} of {len(found)} lie within {LIMIT} companion sds by "
            f"more than two Monte-Carlo errors. At the limit, or beyond: {names}. "
            "They are the same stays, whose overlaps are settled in two ways, with "
            f"{first['exposed']:.0f} events on treatment. The cuts do it: {first['events']:.0f} "
            f"events share {first['intervals']:.0f} intervals, stays begin and end inside of one, "
            "and time in them is held against a hazard that is one number for all of it. With "
            "cuts between all days with events the shift is "
            f"{at_the_limit['shift, all'].min():+.2f} to {at_the_limit['shift, all'].max():+.2f}. "
            "The gate tells shifts beyond the limit wherever the hazard ratio is shown."
        )
    return "\n".join(
        [
            "# Recurring states: the fit beside its companion",
            "",
            "`uv run python tests/studies/recurring_companions.py`",
            "",
            "Three data sets of R's `survival` (`cgd`, `pbcseq`, `heart`) and four made-up ones "
            "(SYNTHETIC), in which states come again. `tests/classical/test_r_recurring.py` holds "
            "Cox's regression and the companion on each to R; here the default fit of `primary` is "
            "held to the companion, the partial likelihood with the same priors. *Shift*: the "
            f"difference of the means in sds of the companion, averaged over {seeds} seeds, with "
            "its Monte-Carlo error. *With all cuts*: one between each two days with events as "
            "well, and how many intervals that makes.",
            "",
            *lines,
            "",
            told,
            "",
        ]
    )


def main() -> None:
    """Run the study and write its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    write_text(given.out, page(summarised(run()), len(SEEDS)))


if __name__ == "__main__":
    main()
