"""Whether models with many estimated effects converge at their defaults, ten seeds each.

uv run python tests/studies/convergence.py

Patients and adverse events are simulated here, with sites, subgroups and terms that do differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.estimands.safety import assess_rates, sample_rates
from bayesblina.inference.convergence import Convergence, sampler_settings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.onsets import AdverseEvents

REPORT = Path(__file__).parents[2] / "docs" / "validation" / "convergence.md"
QUESTION = bb.Question(exposed="late", eligible_from="entry")
LOG_RATIO = np.log(0.6)
# The hazard is so much higher up to this month.
EARLY, CHANGES = 1.6, 6.0


def cohort_of(size: int, levels: int, *, sd: float, change: float, seed: int) -> Cohort:
    """Patients of unequally large sites; half start the phase, its effect differs by site.

    Hazards fall with time; sites differ by a log-normal factor of sd `sd`, log hazard ratios of the
    phase by a normal one of sd `change`.
    """
    random = np.random.default_rng([seed, size, levels])
    site = random.choice(levels, size=size, p=random.dirichlet(np.full(levels, 5.0)))
    factor = np.exp(sd * random.normal(size=levels))[site]
    ratio = np.exp(LOG_RATIO + change * random.normal(size=levels))[site]
    start = np.where(random.random(size) < 0.5, random.uniform(0.5, 9.0, size), np.inf)
    target = random.exponential(size=size) / (0.09 * factor)
    # Cumulative hazard in units of the later one, exact; the phase multiplies what follows it.
    early = np.minimum(start, CHANGES)
    before = np.where(np.isfinite(start), EARLY * early + np.maximum(start - CHANGES, 0.0), 1e9)
    rest = np.where(target > before, before + (target - before) / ratio, target)
    by_then = EARLY * CHANGES
    died = np.where(rest < by_then, rest / EARLY, CHANGES + rest - by_then)
    censored = random.uniform(18.0, 60.0, size)
    stop = np.minimum(died, censored)
    return bb.read_cohort(
        pd.DataFrame(
            {
                "id": np.arange(size),
                "months": stop,
                "died": (died <= censored).astype(int),
                "start": np.where(start < stop, start, np.nan),
                "site": [f"s{index:02d}" for index in site],
            }
        ),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
        synthetic=True,
    )


def adverse_events(terms: int, *, patients: int, seed: int) -> AdverseEvents:
    """Counts of terms that differ ten-fold in frequency, and by half from phase to phase."""
    random = np.random.default_rng([seed, terms])
    time = np.stack(
        [
            random.uniform(1.0, 4.0, patients),
            random.uniform(0.5, 6.0, patients) * (random.random(patients) < 0.35),
            random.uniform(0.5, 12.0, patients) * (random.random(patients) < 0.15),
        ],
        axis=1,
    )
    log_rate = (
        np.log([0.08, 0.04, 0.015])
        + 1.2 * random.normal(size=(terms, 1))
        + 0.4 * random.normal(size=(terms, 3))
    )
    count = random.poisson(np.exp(log_rate) * time.sum(axis=0))
    term, phase = (np.repeat(one.ravel(), count.ravel()) for one in np.indices(count.shape))
    share = time / time.sum(axis=0)
    patient = np.concatenate(
        [random.choice(patients, size=1, p=share[:, place]) for place in phase]
    )
    return AdverseEvents(
        phases=("induction", "consolidation", "maintenance"),
        terms=tuple(f"term {index:03d}" for index in range(terms)),
        person_time=time,
        patient=patient.astype(np.int64),
        phase=phase.astype(np.int64),
        term=term.astype(np.int64),
        unit="months",
        minimum_grade=None,
        synthetic=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Simulated data, and what fits them with a seed."""

    events: int
    converge: Callable[[int], Convergence]


def of_model(name: str, cohort: Cohort, **roles: str) -> Prepared:
    """Prepare fits of a model to a cohort at the defaults."""
    model = bb.load_model(name).with_covariates(**roles)
    person_time = person_time_for(model, cohort, QUESTION)
    settings = sampler_settings(1000, 1000, 4, None, 1)

    def converge(seed: int) -> Convergence:
        fit = fit_person_time(
            model, person_time, QUESTION, seed=seed, settings=settings, complete=False
        )
        return fit.convergence

    return Prepared(events=int(person_time.table["events"].sum()), converge=converge)


def of_terms(terms: int) -> Prepared:
    """Prepare fits of rates by term at the defaults."""
    events = adverse_events(terms, patients=250, seed=1)
    return Prepared(
        events=events.patient.size,
        converge=lambda seed: assess_rates(sample_rates(events, seed=seed)),
    )


def of_sites() -> Prepared:
    """Prepare fits of sites that differ."""
    return of_model("frailty", cohort_of(2115, 40, sd=0.4, change=0.0, seed=1), group="site")


def of_subgroups(size: int, levels: int) -> Prepared:
    """Prepare fits of subgroups in which the phase's effect differs."""
    cohort = cohort_of(size, levels, sd=0.3, change=0.4, seed=1)
    return of_model("by_subgroup", cohort, subgroup="site")


SETTINGS: dict[str, Callable[[], Prepared]] = {
    "`frailty`, 40 sites": of_sites,
    "`by_subgroup`, 12 subgroups": partial(of_subgroups, 160, 12),
    "`by_subgroup`, 30 subgroups": partial(of_subgroups, 1000, 30),
    "`event_rates_by_term`, 6 terms x 3 phases": partial(of_terms, 6),
    "`event_rates_by_term`, 40 terms x 3 phases": partial(of_terms, 40),
    "`event_rates_by_term`, 230 terms x 3 phases": partial(of_terms, 230),
}


def run(seeds: Sequence[int], rows: Path | None = None) -> pd.DataFrame:
    """Fit all with each seed; one row for each fit, written as they come."""
    found: list[dict[str, object]] = []
    for name, prepare in SETTINGS.items():
        prepared = prepare()
        for seed in seeds:
            found.append(outcome_of(name, seed, prepared.events, prepared.converge(seed)))
            if rows is not None:
                pd.DataFrame(found).to_csv(rows, index=False)
    return pd.DataFrame(found)


def outcome_of(name: str, seed: int, events: int, outcome: Convergence) -> dict[str, object]:
    """Take a row from a fit's convergence gate."""
    criteria = outcome.criteria
    return {
        "what": name,
        "seed": seed,
        "events": events,
        "parameters": len(outcome.table),
        "passed": outcome.passed,
        **dict(zip(criteria["criterion"], criteria["value"], strict=True)),
    }


PAGE = """# Convergence of models with many effects

SYNTHETIC patients throughout; no number here is evidence about a treatment.

`uv run python tests/studies/convergence.py --seeds {seeds}`

Each row is {seeds} fits to the same data with as many seeds, at the defaults: 4 chains of 1,000
draws, of `event_rates_by_term` 2,000. Numbers are the worst of all these fits. A fit passes if
R-hat is below 1.01, both effective sample sizes are above 400, nothing diverges and BFMI is above
0.3. Of `event_rates_by_term` the gate holds what is reported: rates, means of phases and spreads.

{table}

Effects are sampled about where the data put them *given all other parameters*: events over
those expected without the effect, which the level, the baseline, phases and covariates move.
Many effects and the level (or a common hazard ratio) would else move together, since the data
know their sums. The change of coordinates is exact, and alters no posterior.
"""


def report(rows: pd.DataFrame) -> str:
    """Word the results."""
    header = ["", "events", "parameters", "passed", "largest R-hat", "smallest ESS, bulk and tail"]
    header += ["divergences", "smallest BFMI"]
    lines = [header, ["---"] * len(header)]
    for name, one in rows.groupby("what", sort=False):
        bulk, tail = one["smallest bulk ESS"].min(), one["smallest tail ESS"].min()
        lines.append(
            [
                str(name),
                f"{one['events'].iloc[0]:,}",
                f"{one['parameters'].iloc[0]:,}",
                f"{int(one['passed'].sum())} of {len(one)}",
                f"{one['largest R-hat'].max():.4f}",
                f"{bulk:,.0f}, {tail:,.0f}",
                str(int(one["divergences"].sum())),
                f"{one['smallest BFMI'].min():.2f}",
            ]
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return PAGE.format(seeds=rows["seed"].nunique(), table=table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=Path, help="a CSV file for the single fits")
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(range(1, given.seeds + 1), given.rows)))


if __name__ == "__main__":
    main()
