"""The study's engine held against the package's own sampler on the same data sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.inference.companion import partial_posterior
from tests.studies.baseline_methods import Answer, answers, new_cuts, spans
from tests.studies.baseline_patients import (
    CONSOLIDATION,
    DELAYED,
    TWO_ENDPOINTS,
    TWO_PHASES,
    Arm,
    Data,
)
from tests.studies.baseline_settings import COVARIATES, ONE_PHASE, RATIOS, Setting, scenarios

DRAWS, TUNE = 4000, 1000
COMPANION_DRAWS = 100_000
SEED_OF_FITS = 20_261_130
# How many data sets of each size and arm; with one of each scenario at 86 patients, sixty.
OTHER_SIZES = ((40, 8), (267, 8), (2000, 3))
WITH_COVARIATES = 4
ARMS = (TWO_PHASES, CONSOLIDATION, TWO_ENDPOINTS, TWO_ENDPOINTS, DELAYED)
BEYOND_REPLICATIONS = 100_000


def chosen() -> list[Setting]:
    """Sixty data sets over all cells; none of them is one of the study's own."""
    pairs = scenarios()
    found = [
        Setting(ONE_PHASE, entry, baseline, 86, RATIOS[index % 2], 1)
        for index, (entry, baseline) in enumerate(pairs)
    ]
    others = [(ONE_PHASE, size, count) for size, count in OTHER_SIZES]
    for arm, size, count in (*others, (COVARIATES, 86, WITH_COVARIATES)):
        for index, place in enumerate(np.linspace(0, len(pairs) - 1, count).astype(int)):
            entry, baseline = pairs[place]
            found += [Setting(arm, entry, baseline, size, RATIOS[1 - index % 2], 1)]
    found += [Setting(arm, "", "", 86, RATIOS[index % 2], 1) for index, arm in enumerate(ARMS)]
    return [replace(one, first=BEYOND_REPLICATIONS) for one in found]


def cohort_of(setting: Setting, data: Data) -> tuple[bb.Cohort, bb.Question]:
    """Put a data set into the package's terms."""
    first = next(iter(data.endpoints.values()))
    table = pd.DataFrame(index=pd.Index(first.row, name="id").map(lambda row: f"p{row}"))
    starts = np.where(np.isfinite(first.start), first.start, np.nan)
    phases = {"m": bb.Phase(start="m")}
    question = bb.Question(exposed="m", eligible_from="entry")
    table["m"] = starts[:, -1]
    if setting.arm in (TWO_PHASES, CONSOLIDATION):
        from_entry = setting.arm == TWO_PHASES
        table["c"] = starts[:, 0] if from_entry else first.observed_from
        phases = {"c": bb.Phase(start="c"), **phases}
        question = bb.Question(
            exposed="m",
            eligible_from="entry" if from_entry else "c",
            reference="c" if from_entry else None,
        )
    endpoints = {}
    for name, one in data.endpoints.items():
        place = np.searchsorted(first.row, one.row)
        for column, values, otherwise in (
            ("time", one.stop, first.stop),
            ("event", one.event, first.event),
            ("entry", one.observed_from, np.full(first.row.size, np.nan)),
        ):
            whole = otherwise.copy()
            whole[place] = values
            table[f"{name}_{column}"] = whole
        table[f"{name}_event"] = table[f"{name}_event"].astype(int)
        late = setting.arm != CONSOLIDATION and bool((one.observed_from > 0).any())
        endpoints[name] = bb.Endpoint(
            time=f"{name}_time", event=f"{name}_event", entry=f"{name}_entry" if late else None
        )
    covariates = []
    if setting.arm == COVARIATES:
        covariates = ["first", "second"]
        for name, level in zip(covariates, (first.pattern // 2, first.pattern % 2), strict=True):
            table[name] = np.where(level == 1, "yes", "no")
    cohort = bb.read_cohort(
        table.reset_index(),
        patient="id",
        unit="months",
        phases=bb.Phases(**{name: one.start for name, one in phases.items()}),
        endpoints=endpoints,
        covariates=covariates,
        synthetic=True,
    )
    return cohort, question


def _survival_apart(fit: bb.Fit, endpoint: str, data: Data, arm: Arm, engine: Answer) -> float:
    """Largest difference of posterior mean survival."""
    cuts = new_cuts(data)
    hazard = np.exp(fit.posterior["log_baseline"].sel(endpoint=endpoint).values)
    ratio = np.exp(fit.posterior["log_hazard_ratio"].sel(endpoint=endpoint, effect="m").values)
    unexposed, exposed = (hazard @ spans(cuts, begin).T for begin in (arm.landmark, arm.start))
    means = (
        np.exp(-unexposed).mean(axis=(0, 1)),
        np.exp(-ratio[..., None] * exposed).mean(axis=(0, 1)),
    )
    return float(np.abs(np.stack(means) - np.stack(engine.survival)).max())


def compare(setting: Setting) -> list[dict[str, object]]:
    """The engine's posterior of one data set beside the sampler's, by endpoint."""
    import arviz as az

    arm = setting.kind
    data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(0))
    cohort, question = cohort_of(setting, data)
    fit = bb.fit(cohort, question, seed=SEED_OF_FITS, draws=DRAWS, tune=TUNE, progress=False)
    begin = fit.person_time.table["interval_start"].values
    companion = partial_posterior(
        bb.load_model("primary"), fit.person_time, seed=SEED_OF_FITS, draws=COMPANION_DRAWS
    ).draws
    assert companion is not None
    rows: list[dict[str, object]] = []
    for name, by_method in answers(data, arm).items():
        engine = by_method["default"]
        draws = fit.posterior["log_hazard_ratio"].sel(endpoint=name, effect="m")
        error = float(az.mcse(draws))
        partial = by_method["companion"]
        drawn = companion["log_hazard_ratio"].sel(endpoint=name, effect="m")
        rows.append(
            {
                "arm": setting.arm,
                "patients": setting.patients,
                "same_cuts": bool(
                    begin.size - 1 == new_cuts(data).size
                    and np.allclose(begin[1:], new_cuts(data), rtol=1e-9)
                ),
                "difference": (engine.mean - float(draws.mean())) / engine.sd,
                "error": error / engine.sd,
                "sd_ratio": float(draws.std()) / engine.sd,
                "companion": (partial.mean - float(drawn.mean())) / partial.sd,
                "companion_sd_ratio": float(drawn.std()) / partial.sd,
                # With covariates the package's baseline is that of the most frequent levels.
                "survival": float("nan")
                if setting.arm == COVARIATES
                else _survival_apart(fit, name, data, arm, engine),
            }
        )
    return rows
