"""Patients of whom few have something, and what a masked folder of them tells."""

from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.classical.comparison import COX
from bayesblina.classical.ladder import MANTEL_BYAR
from bayesblina.patients.cohort import Cohort
from tests.core.attacks import information, recovered

QUESTION = bb.Question(exposed="m", eligible_from="entry")
MINIMUM = 5


def cohort(exposed: int, events: int, *, patients: int = 90, seed: int = 5) -> Cohort:
    """Make patients of whom so many enter the later phase, and so many of these die in it.

    Of the other endpoint there are enough events everywhere, but few at risk late.
    """
    generator = np.random.default_rng([seed, exposed, events])
    time = np.round(generator.uniform(6.0, 40.0, patients), 3)
    who = np.arange(patients) < exposed
    start = np.where(who, np.round(time * 0.3, 3), np.nan)
    died = (np.arange(patients) % 2 == 0) & ~who
    died[:events] = True
    sick = np.where(who, np.arange(patients) % 2, np.arange(patients) % 3 > 0).astype(int)
    table = pd.DataFrame(
        {"id": range(patients), "t": time, "d": died.astype(int), "s": sick, "m": start}
    )
    table["r"] = np.round(np.where(who, time * 0.9, time * 0.8), 3)
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="t", event="d"),
            "rfs": bb.Endpoint(time="r", event="s"),
        },
        phases=bb.Phases(m="m"),
    )


def published(folder: Path) -> dict[str, pd.DataFrame]:
    """Read every table that is handed on, as texts."""
    return {
        path.stem: pd.read_csv(path, dtype=str, keep_default_na=False)
        for path in folder.glob("*.csv")
    }


def guesses(folder: Path) -> list[float]:
    """Try the formula with every number of the endpoint that may stand for one of its three."""
    told = {
        name: table[table["endpoint"] == "os"]
        for name, table in published(folder).items()
        if "endpoint" in table
    }
    rungs = told["bias_ladder"].to_dict("records")
    of_peto = [row for row in rungs if row["method"] == MANTEL_BYAR]
    of_cox = [row for row in rungs if row["method"] == COX]
    answers = told["hazard_ratios"].to_dict("records")
    pairs = [(row["lower"], row["upper"]) for row in of_cox]
    pairs += [(row["companion_lower"], row["companion_upper"]) for row in answers]
    variances = [
        information(*map(float, (row["lower"], row["upper"]))) for row in of_peto if row["lower"]
    ]
    variances += [float(row["variance"]) for row in told["classical"].to_dict("records")]
    weighted = [information(float(lower), float(upper)) for lower, upper in pairs if lower]
    ratios = [row["estimate"] for row in of_cox] + [row["companion_median"] for row in answers]
    return [
        recovered(variance, information_of_cox, float(ratio))
        for variance in variances
        for information_of_cox in weighted
        for ratio in ratios
        if ratio
    ]
