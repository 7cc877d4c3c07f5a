"""Models whose effects, baselines or groups vary, on patients whose truth varies in that way.

Each data set is fitted by the package's sampler with few draws, and held against the truth and the
model's own companion, which shares its priors and has no baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from tests.studies.baseline_patients import (
    CENSORED,
    FAR,
    NEVER,
    Hazard,
    entry_times,
    event_times,
    hazard_of,
)

Labels = NDArray[np.str_]

SEED = 20_261_202
SIZES = (86, 267)
SETTINGS = SamplerSettings(draws=250, tune=300, chains=2, cores=1)
QUESTION = bb.Question(exposed="m", eligible_from="entry")
STEP_UP = ("clustered", "step up")
RATIO = 0.5
# Over time: this ratio up to this month, and 1 from then on.
EARLY_RATIO, EARLY_MONTHS, LATEST_START = 0.4, 6.0, 6.0
# Since entry: 1 for the first months and then the ratio, or the other way round.
DELAY, WANING = 2.0, 6.0
BY_SUBGROUP = {"a": 0.4, "b": 0.8, "c": 1.2}
SITES, SITE_SD = 10, 0.5
RELAPSE, IN_REMISSION, AFTER_RELAPSE = "relapse", "death in remission", "death after relapse"
TRANSITION_HAZARDS = {
    RELAPSE: Hazard(begin=np.array([0.0, 3.5, 12.0]), rate=np.array([0.02, 0.08, 0.03])),
    IN_REMISSION: Hazard(begin=np.array([0.0, 6.0]), rate=np.array([0.015, 0.008])),
    AFTER_RELAPSE: Hazard(begin=np.array([0.0, 12.0]), rate=np.array([0.12, 0.09])),
}
TRANSITION_RATIOS = {RELAPSE: 0.5, IN_REMISSION: 1.0, AFTER_RELAPSE: 0.7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One log hazard ratio, or sd, that is asked for.

    Attributes
    ----------
    name
        In words.
    variable, endpoint
        Of the posterior.
    at
        Label or time at which it is read; None for the exposed phase's effect, or a sd.
    truth
        Its value; a log hazard ratio or a sd.
    """

    name: str
    variable: str
    endpoint: str
    at: str | float | None
    truth: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """A kind of data set, the model that it is analysed with, and what is asked.

    Attributes
    ----------
    model, role
        The model's name; the part that the covariate ``"level"`` plays in it, if any.
    simulate
        Makes a table of patients from their number and a generator.
    endpoints
        Columns of the endpoints.
    quantities
        What is held against the truth.
    """

    model: str
    role: str
    simulate: Callable[[int, np.random.Generator], pd.DataFrame]
    endpoints: dict[str, bb.Endpoint]
    quantities: tuple[Quantity, ...]


def _table(
    times: Floats, start: Floats, random: np.random.Generator, level: Labels | None = None
) -> pd.DataFrame:
    """End follow-up at an independent time; columns of a table of patients."""
    censored = random.uniform(*CENSORED, times.size)
    stop = np.minimum(times, censored)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(times.size)],
            "m": np.where(start < stop, start, np.nan),
            "time": stop,
            "event": (times <= censored).astype(int),
        }
    )
    return table if level is None else table.assign(level=level)


def _at_once(
    hazard: Hazard,
    start: Floats,
    log_ratio: list[float],
    relative: Floats,
    random: np.random.Generator,
) -> Floats:
    """Times of events from time 0 on; effects of the states that columns of `start` begin."""
    return event_times(
        hazard, start, np.zeros(start.shape[0]), np.array([0.0, *log_ratio]), relative, random
    )


def over_time(count: int, random: np.random.Generator) -> pd.DataFrame:
    """A ratio up to a month of follow-up, and none from then on."""
    start = random.uniform(0.0, LATEST_START, count)
    start = np.where(random.random(count) < 0.75, start, NEVER)
    later = np.maximum(start, EARLY_MONTHS)
    both = np.stack([start, later], axis=1)
    effects = [float(np.log(EARLY_RATIO)), 0.0]
    times = _at_once(hazard_of("late", "step up"), both, effects, np.ones(count), random)
    return _table(times, start, random)


def _since_entry(months: float, effects: list[float]) -> Callable[..., pd.DataFrame]:
    """One effect for some months since entry, another from then on."""

    def simulate(count: int, random: np.random.Generator) -> pd.DataFrame:
        start, _ = entry_times("clustered", count, random)
        both = np.stack([start, start + months], axis=1)
        times = _at_once(hazard_of(*STEP_UP), both, effects, np.ones(count), random)
        return _table(times, start, random)

    return simulate


def _by_subgroup(ratios: Mapping[str, float]) -> Callable[..., pd.DataFrame]:
    """Levels of equal size, each with an effect of its own."""

    def simulate(count: int, random: np.random.Generator) -> pd.DataFrame:
        start, _ = entry_times("clustered", count, random)
        level = random.choice(np.array(list(ratios)), count)
        times = np.empty(count)
        for name, ratio in ratios.items():
            own = level == name
            effects = [float(np.log(ratio))]
            times[own] = _at_once(
                hazard_of(*STEP_UP), start[own, None], effects, np.ones(int(own.sum())), random
            )
        return _table(times, start, random, level)

    return simulate


def stratified(count: int, random: np.random.Generator) -> pd.DataFrame:
    """Two strata: in one the hazard steps up where patients enter, in the other it falls."""
    start, _ = entry_times("clustered", count, random)
    level = random.choice(np.array(["a", "b"]), count)
    times = np.empty(count)
    for name, baseline in (("a", "step up"), ("b", "falling")):
        own = level == name
        times[own] = _at_once(
            hazard_of("clustered", baseline),
            start[own, None],
            [float(np.log(RATIO))],
            np.ones(int(own.sum())),
            random,
        )
    return _table(times, start, random, level)


def frailty(count: int, random: np.random.Generator) -> pd.DataFrame:
    """Sites of equal size on average, whose log hazards differ at random."""
    start, _ = entry_times("clustered", count, random)
    effect = random.normal(0.0, SITE_SD, SITES)
    site = random.integers(0, SITES, count)
    times = _at_once(
        hazard_of(*STEP_UP),
        start[:, None],
        [float(np.log(RATIO))],
        np.exp(effect[site]),
        random,
    )
    return _table(times, start, random, np.array([f"s{one}" for one in site]))


def course(planned: Floats, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """When maintenance starts, remission ends and life ends; follow-up is from remission.

    Who relapses or dies before maintenance never starts it.
    """
    alike = np.ones(planned.size)
    logs = {name: float(np.log(ratio)) for name, ratio in TRANSITION_RATIOS.items()}
    relapsed, died = (
        _at_once(TRANSITION_HAZARDS[name], planned[:, None], [logs[name]], alike, random)
        for name in (RELAPSE, IN_REMISSION)
    )
    first = np.minimum(relapsed, died)
    start = np.where(planned < first, planned, NEVER)
    late = event_times(
        TRANSITION_HAZARDS[AFTER_RELAPSE],
        start[:, None],
        np.minimum(first, FAR),
        np.array([0.0, logs[AFTER_RELAPSE]]),
        alike,
        random,
    )
    return start, first, np.where(relapsed < died, late, died)


def illness_death(count: int, random: np.random.Generator) -> pd.DataFrame:
    """A course from remission: maintenance starts about month 3, just before relapses set in."""
    planned, _ = entry_times("clustered", count, random)
    start, first, end = course(planned, random)
    censored = random.uniform(*CENSORED, count)
    stop = np.minimum(first, censored)
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(count)],
            "m": np.where(start < stop, start, np.nan),
            "rfs_time": stop,
            "rfs_event": (first <= censored).astype(int),
            "os_time": np.minimum(end, censored),
            "os_event": (end <= censored).astype(int),
        }
    )


ONE = {"y": bb.Endpoint(time="time", event="event")}
TWO = {name: bb.Endpoint(time=f"{name}_time", event=f"{name}_event") for name in ("os", "rfs")}
AVERAGE = "log_hazard_ratio"
INTERVAL, PIECE, SUBGROUP = (f"{AVERAGE}_by_{part}" for part in ("interval", "piece", "subgroup"))
LOG_EARLY, LOG_RATIO = float(np.log(EARLY_RATIO)), float(np.log(RATIO))


def _asked(variable: str, unit: str, *values: tuple[float, float]) -> tuple[Quantity, ...]:
    return tuple(
        Quantity(name=f"{unit} {at:g}", variable=variable, endpoint="y", at=at, truth=truth)
        for at, truth in values
    )


def _levels(ratios: Mapping[str, float]) -> tuple[Quantity, ...]:
    return tuple(
        Quantity(
            name=f"level {name} (HR {ratio:g})",
            variable=SUBGROUP,
            endpoint="y",
            at=name,
            truth=float(np.log(ratio)),
        )
        for name, ratio in ratios.items()
    )


def _common(truth: float) -> Quantity:
    return Quantity(name="log HR", variable=AVERAGE, endpoint="y", at=None, truth=truth)


KINDS = {
    "over_time": Kind(
        model="over_time",
        role="",
        simulate=over_time,
        endpoints=ONE,
        quantities=_asked(INTERVAL, "month", (4.0, LOG_EARLY), (12.0, 0.0), (18.0, 0.0)),
    ),
    "since_entry, delay": Kind(
        model="since_entry",
        role="",
        simulate=_since_entry(DELAY, [0.0, LOG_EARLY]),
        endpoints=ONE,
        quantities=_asked(PIECE, "months since entry", (1.0, 0.0), (8.0, LOG_EARLY)),
    ),
    "since_entry, waning": Kind(
        model="since_entry",
        role="",
        simulate=_since_entry(WANING, [LOG_EARLY, 0.0]),
        endpoints=ONE,
        quantities=_asked(PIECE, "months since entry", (3.0, LOG_EARLY), (12.0, 0.0)),
    ),
    "by_subgroup": Kind(
        model="by_subgroup",
        role="subgroup",
        simulate=_by_subgroup(BY_SUBGROUP),
        endpoints=ONE,
        quantities=_levels(BY_SUBGROUP),
    ),
    "stratified": Kind(
        model="stratified",
        role="stratum",
        simulate=stratified,
        endpoints=ONE,
        quantities=(_common(LOG_RATIO),),
    ),
    "illness_death": Kind(
        model="illness_death",
        role="",
        simulate=illness_death,
        endpoints=TWO,
        quantities=tuple(
            Quantity(
                name=f"{name} (HR {ratio:g})",
                variable=AVERAGE,
                endpoint=name,
                at=None,
                truth=float(np.log(ratio)),
            )
            for name, ratio in TRANSITION_RATIOS.items()
        ),
    ),
    "frailty": Kind(
        model="frailty",
        role="group",
        simulate=frailty,
        endpoints=ONE,
        quantities=(
            _common(LOG_RATIO),
            Quantity(name="sd of sites", variable="group_sd", endpoint="y", at=None, truth=SITE_SD),
        ),
    ),
}


# The same models where the effect does not vary: what a wide prior costs.
CONSTANT = {
    f"constant, {name}": replace(
        KINDS[name],
        simulate=_since_entry(DELAY, [LOG_RATIO, LOG_RATIO]),
        quantities=tuple(replace(one, truth=LOG_RATIO) for one in KINDS[name].quantities),
    )
    for name in ("over_time", "since_entry, delay")
}
CONSTANT["constant, by_subgroup"] = replace(
    KINDS["by_subgroup"],
    simulate=_by_subgroup(dict.fromkeys(BY_SUBGROUP, RATIO)),
    quantities=_levels(dict.fromkeys(BY_SUBGROUP, RATIO)),
)
# Priors of how far an effect varies.
CHANGES = {
    "0.2 to 5": bb.SpreadPrior(hazard_ratio=(0.2, 5.0), known=False),
    "0.05 to 20": bb.SpreadPrior(hazard_ratio=(0.05, 20.0), known=False),
    "0.2 to 5, sd known": bb.SpreadPrior(hazard_ratio=(0.2, 5.0), known=True),
    "0.05 to 20, sd known": bb.SpreadPrior(hazard_ratio=(0.05, 20.0), known=True),
}


def definition_of(kind: Kind) -> bb.ModelDefinition:
    """The shipped model, with the covariate in its place."""
    model = bb.load_model(kind.model)
    return model.with_covariates(**{kind.role: "level"}) if kind.role else model


def cohort_of(kind: Kind, table: pd.DataFrame) -> bb.Cohort:
    """Put a table into the package's terms."""
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        phases=bb.Phases(m="m"),
        endpoints=kind.endpoints,
        covariates=["level"] if "level" in table else [],
        synthetic=True,
    )


def _read(draws: xr.Dataset, asked: Quantity, person_time: bb.PersonTime) -> Floats | None:
    """Draws of one quantity, flat; None where the data do not reach it."""
    if asked.variable not in draws:
        return None
    values = draws[asked.variable].sel(endpoint=asked.endpoint)
    if asked.variable == INTERVAL:
        assert isinstance(asked.at, float)
        values = values.isel(interval=int(np.searchsorted(person_time.cuts, asked.at)))
    elif asked.variable == PIECE:
        assert isinstance(asked.at, float)
        since = person_time.table["since"].values[person_time.table["role"].values == "exposed"]
        values = values.isel(piece=int(np.searchsorted(since, asked.at, side="right")) - 1)
    elif asked.variable == SUBGROUP:
        values = values.sel(subgroup=asked.at)
    elif asked.variable == AVERAGE:
        values = values.sel(effect="m")
    return np.asarray(values.values.ravel())


def analyse(
    name: str, size: int, replication: int, settings: SamplerSettings = SETTINGS
) -> list[dict[str, object]]:
    """One data set: one row for each quantity."""
    kind = KINDS[name]
    seed = [SEED, list(KINDS).index(name), size, replication]
    definition = definition_of(kind)
    cohort = cohort_of(kind, kind.simulate(size, np.random.default_rng(seed)))
    person_time = person_time_for(definition, cohort, QUESTION)
    fit = fit_person_time(
        definition,
        person_time,
        QUESTION,
        seed=replication,
        settings=settings,
        complete=False,
        compared=True,
    )
    criteria = fit.convergence.criteria.set_index("criterion")["value"]
    rows: list[dict[str, object]] = []
    for asked in kind.quantities:
        own = _read(fit.posterior, asked, person_time)
        assert own is not None
        other = (
            None if fit.companion.draws is None else _read(fit.companion.draws, asked, person_time)
        )
        row: dict[str, object] = {
            "kind": name,
            "patients": size,
            "replication": replication,
            "quantity": asked.name,
            "truth": asked.truth,
            "events": int(fit.person_time.table["events"].sum()),
            "mean": own.mean(),
            "sd": own.std(),
            "covered": bool(np.quantile(own, 0.025) <= asked.truth <= np.quantile(own, 0.975)),
            "r_hat": float(criteria["largest R-hat"]),
            "divergences": int(criteria["divergences"]),
            "gate": fit.gate.state,
            "companion_mean": np.nan,
            "companion_sd": np.nan,
            "companion_covered": np.nan,
        }
        if other is not None:
            row |= {
                "companion_mean": other.mean(),
                "companion_sd": other.std(),
                "companion_covered": float(
                    np.quantile(other, 0.025) <= asked.truth <= np.quantile(other, 0.975)
                ),
            }
        rows.append(row)
    return rows


def by_change(name: str, size: int, replication: int) -> list[dict[str, object]]:
    """Companions of one data set under other priors of how far the effect varies."""
    kinds = {**KINDS, **CONSTANT}
    kind = kinds[name]
    seed = [SEED, len(kinds) + list(kinds).index(name), size, replication]
    shipped = definition_of(kind)
    cohort = cohort_of(kind, kind.simulate(size, np.random.default_rng(seed)))
    person_time = person_time_for(shipped, cohort, QUESTION)
    rows: list[dict[str, object]] = []
    for words, prior in CHANGES.items():
        definition = shipped.with_priors(phase_change=prior)
        draws = partial_posterior(definition, person_time, seed=replication).draws
        assert draws is not None
        for asked in kind.quantities:
            own = _read(draws, asked, person_time)
            assert own is not None
            lower, upper = np.quantile(own, [0.025, 0.975])
            rows.append(
                {
                    "kind": name,
                    "patients": size,
                    "replication": replication,
                    "quantity": asked.name,
                    "truth": asked.truth,
                    "change": words,
                    "mean": own.mean(),
                    "covered": bool(lower <= asked.truth <= upper),
                }
            )
    return rows
