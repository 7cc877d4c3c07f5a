"""Studies and partial likelihoods written out: what tests of companions share."""

from collections.abc import Callable

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import make_design
from bayesblina.inference.companion import Companion, partial_models
from bayesblina.person_time.cells import PersonTime

PRIMARY = bb.load_model("primary")

SD = PRIMARY.phases.prior.sd

QUESTION = bb.Question(exposed="b", reference="a", eligible_from="entry")


def read(table: pd.DataFrame, covariates: tuple[str, ...] = (), **more: object) -> bb.Cohort:
    """Read a table with phases a and b, and c where it has one."""
    phases = {name: name for name in ("a", "b", "c") if name in table}
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="entry")}
        | {name: bb.Endpoint(time=f"{name}_time", event=name, entry="entry") for name in more},
        phases=bb.Phases(**phases),
        covariates=list(covariates),
    )


def study(patients: int, seed: int) -> pd.DataFrame:
    """Patients with delayed entry, ties, two later phases, and covariates."""
    rng = np.random.default_rng(seed)
    entry = np.round(rng.uniform(0.0, 2.0, patients), 1)
    time = np.round(entry + np.ceil(10.0 * rng.exponential(9.0, patients)) / 10.0, 1)
    begun = entry + rng.uniform(0.0, 8.0, patients)
    later = begun + rng.uniform(1.0, 8.0, patients)
    end = np.minimum(time, 20.0)
    return pd.DataFrame(
        {
            "id": np.arange(patients),
            "entry": entry,
            "time": end,
            "died": (time <= 20.0) & (rng.random(patients) < 0.8),
            "a": entry,
            "b": np.where((begun < end) & (rng.random(patients) < 0.7), begun, np.nan),
            "c": np.where(later < end, later, np.nan),
            "x": rng.normal(size=patients),
            "site": rng.choice(["n", "s"], patients),
        }
    )


def naive(
    table: pd.DataFrame,
    linear: Callable[[pd.Series, str], float],
    *,
    weight: Floats | None = None,
    stratum: str | None = None,
) -> float:
    """Log partial likelihood by loops over events and over those at risk at their times."""
    total = 0.0
    weights = np.ones(len(table)) if weight is None else weight
    patients = [row for _, row in table.iterrows()]
    for person, own in zip(patients, weights, strict=True):
        if not person.died:
            continue
        now = person.time
        at_risk = 0.0
        for other, weighted in zip(patients, weights, strict=True):
            apart = stratum is not None and other[stratum] != person[stratum]
            if other.entry < now <= other.time and not apart:
                state = "a"
                for phase in ("b", "c"):
                    if phase in table and other[phase] < now:
                        state = phase
                at_risk += weighted * np.exp(linear(other, state))
                if other.id == person.id:
                    mine = linear(other, state)
        total += own * (mine - np.log(at_risk))
    return total


def value_of(
    definition: ModelDefinition, person_time: PersonTime, parameters: list[float], endpoint: int = 0
) -> float:
    """Log partial likelihood of the companion."""
    (model,) = [
        one
        for one in partial_models(definition, person_time, make_design(person_time, definition))
        if one.members[0].endpoint == endpoint
    ]
    return float(model.problem.likelihood.value(np.array([parameters]))[0])


def moments(found: Companion, name: str = "log_hazard_ratio") -> tuple[Floats, Floats]:
    """Means and sds of the draws."""
    assert found.draws is not None, found.reason
    values = found.draws[name]
    return values.mean(("chain", "draw")).values, values.std(("chain", "draw")).values


def weighted(values: Floats, log_density: Floats) -> tuple[float, float]:
    """Mean and sd on the nodes of a quadrature."""
    share = np.exp(log_density - log_density.max())
    share = share / share.sum()
    mean = float((share * values).sum())
    return mean, float(np.sqrt((share * (values - mean) ** 2).sum()))


NAMES = ("log_hazard_ratio", "coefficient")
