"""What left truncation does to effects of patients and of sites: maximum likelihood, no baseline.

uv run python tests/studies/left_truncation.py

The hazard is constant, so that all that is estimated is a rate and the sd of the effects; the
integral over effects is by quadrature.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from bayesblina.core.arrays import Floats
from bayesblina.core.files import write_text

REPORT = Path(__file__).parents[2] / "docs" / "validation" / "left_truncation.md"
RATE, SD = 0.1, 1.0
# Seven in ten are observed from a time between 0 and this on.
LATEST, LATE = 15.0, 0.7
NODES = np.linspace(-6.5, 6.5, 81)
LOG_SHARES = -(NODES**2) / 2.0 - logsumexp(-(NODES**2) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Events, time at risk and time before entry, by group; groups without patients are not there.

    Attributes
    ----------
    events, time, before : ndarray, shape (group,)
        The sums.
    """

    events: Floats
    time: Floats
    before: Floats


def simulate(
    groups: int, size: int, *, fixed: Literal["before", "observed"], seed: int, from_: float | None
) -> Sums:
    """Draw patients of groups, and lose those whose event comes before they are observed.

    Parameters
    ----------
    groups, size
        Number of groups, and of patients in each.
    fixed
        Whether `size` is that before patients are lost, or of those who are observed.
    seed
        Seed.
    from_
        Time from which all patients are observed; None for some from several times on.
    """
    random = np.random.default_rng([seed, groups, size])
    effect = np.exp(SD * random.normal(size=groups))
    group = np.repeat(np.arange(groups), size)
    late = random.random(group.size) < LATE
    entry = np.where(late, random.uniform(0.0, LATEST, group.size), 0.0)
    entry = entry if from_ is None else np.full(group.size, from_)
    time = random.exponential(size=group.size) / (RATE * effect[group])
    if fixed == "observed":
        # A constant hazard has no memory: from entry on all is as from 0.
        time += entry
    seen = time > entry
    group, entry, time = group[seen], entry[seen], time[seen]
    end = entry + random.uniform(5.0, 25.0, group.size)
    sums = [
        np.bincount(group, weights, groups)
        for weights in ((time <= end).astype(float), np.minimum(time, end) - entry, entry)
    ]
    there = np.bincount(group, minlength=groups) > 0
    return Sums(events=sums[0][there], time=sums[1][there], before=sums[2][there])


def log_likelihood(sums: Sums, log_rate: float, sd: float, *, given_entry: bool) -> float:
    """Integrate over effects: of all groups, or of those that are alive at entry.

    With `given_entry` the effects' density is proportional to the prior's times the probability of
    having no event before entry.
    """
    hazard = np.exp(log_rate + sd * NODES)
    spent = sums.time + (sums.before if given_entry else 0.0)
    inside = LOG_SHARES + sums.events[:, None] * (log_rate + sd * NODES) - spent[:, None] * hazard
    total = float(logsumexp(inside, axis=1).sum())
    if given_entry:
        total -= float(logsumexp(LOG_SHARES - sums.before[:, None] * hazard, axis=1).sum())
    return total


def estimate(sums: Sums, *, given_entry: bool) -> tuple[float, float]:
    """Find the most likely sd and log rate."""

    def against(point: Floats) -> float:
        return -log_likelihood(sums, point[0], float(np.exp(point[1])), given_entry=given_entry)

    found = minimize(against, [np.log(RATE), 0.0], method="Nelder-Mead").x
    return float(np.exp(found[1])), float(found[0])


SETTINGS: tuple[tuple[str, int, int, Literal["before", "observed"], float | None], ...] = (
    ("patients, some late", 4000, 1, "before", None),
    ("patients, all from month 10", 4000, 1, "before", 10.0),
    ("patients, all from month 0.5", 4000, 1, "before", 0.5),
    ("sites of 5 before losses, some late", 400, 5, "before", None),
    ("sites of 25 before losses, some late", 80, 25, "before", None),
    ("sites of 5 before losses, all from month 10", 400, 5, "before", 10.0),
    ("sites of 25 before losses, all from month 10", 80, 25, "before", 10.0),
    ("sites of 300 before losses, all from month 10", 40, 300, "before", 10.0),
    ("sites of 5 before losses, all from month 0.5", 400, 5, "before", 0.5),
    ("sites of 5 observed, all from month 10", 400, 5, "observed", 10.0),
    ("sites of 25 observed, all from month 10", 80, 25, "observed", 10.0),
)


def run(sets: int) -> pd.DataFrame:
    """Estimate in both ways from all sets; one row for each."""
    rows = []
    for name, groups, size, fixed, from_ in SETTINGS:
        for seed in range(sets):
            sums = simulate(groups, size, fixed=fixed, seed=seed, from_=from_)
            for given_entry in (False, True):
                sd, log_rate = estimate(sums, given_entry=given_entry)
                rows.append(
                    {
                        "what": name,
                        "given_entry": given_entry,
                        "sd": sd,
                        "rate": log_rate - np.log(RATE),
                        "left": sums.events.size,
                    }
                )
    return pd.DataFrame(rows)


PAGE = """# Effects of patients and sites under left truncation

SYNTHETIC patients throughout; no number here is evidence about a treatment.

`uv run python tests/studies/left_truncation.py --sets {sets}`

A log-normal effect of sd 1 on a constant hazard of 0.1 a month, {sets} sets of patients a row.
All patients are observed from one month on, or some late: seven in ten from a time between 0 and
15. Whoever has the event before is never seen. Sites have as many patients each before any are
lost, or as many who are seen. Maximum likelihood of the rate and the sd. *As observed* takes the
effects' distribution as it is before anybody is lost; *given entry* that of groups in which all
patients who are seen had no event before entry (van den Berg and Drepper 2016,
doi:10.1080/07474938.2014.975640). After the sds their standard errors.

{table}

As observed, hazards are too low and, where all come late, the sd is too small: of patients, and of
sites alike where many were lost, since the sites with the highest hazards have few patients left
or none. Given entry patients are right. Sites are not: that no patient of a site who could have
been lost was lost is not what is known, since lost patients are not counted. Where the number of
patients who are seen does not depend on a site's effect, nothing needs to be done. With entries
after half a month, before which 0.05 events a patient come, errors are small in all rows.
See [the decision](../decisions/0018-frailty-under-left-truncation.md).
"""


def report(rows: pd.DataFrame, sets: int) -> str:
    """Word the results."""
    header = ["", "groups left", "sd as observed", "log rate off", "sd given entry", "log rate off"]
    lines = [header, ["---"] * len(header)]
    for name, one in rows.groupby("what", sort=False):
        by_way = one.groupby("given_entry")
        means, errors = by_way[["sd", "rate", "left"]].mean(), by_way["sd"].sem()
        cells = []
        for way in (False, True):
            cells.append(f"{means.loc[way, 'sd']:.2f} ({errors[way]:.2f})")
            cells.append(f"{means.loc[way, 'rate']:.2f}")
        lines.append([str(name), f"{means['left'].iloc[0]:,.0f}", *cells])
    table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return PAGE.format(sets=sets, table=table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=30)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.sets), given.sets))


if __name__ == "__main__":
    main()
