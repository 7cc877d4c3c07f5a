"""Few patients, and small models of every structure whose density is written by hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.hazards.build import BuiltModel, build_model


def cohort_of(seed: int, *, covariates: list[str]) -> bb.Cohort:
    generator = np.random.default_rng(seed)
    size = 80
    time = generator.exponential(10, size) + 0.1
    start = generator.uniform(0, 12, size)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "time": time,
            "event": generator.integers(0, 2, size),
            "start": np.where(start < time, start, np.nan),
            "arm": generator.choice(["a", "b", "c"], size),
            "age": generator.normal(50, 10, size),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=covariates,
    )


def small(seed: int, *, cuts: list[float], covariates: list[str]) -> BuiltModel:
    cohort = cohort_of(seed, covariates=covariates)
    question = bb.Question(exposed="late", eligible_from="entry")
    return build_model(bb.load_model("primary"), bb.person_time(cohort, question, cuts=cuts))


STRUCTURES: dict[str, Callable[[], BuiltModel]] = {
    "walk, covariates": lambda: small(1, cuts=[2.0, 5.0, 9.0], covariates=["arm", "age"]),
    "walk, no covariates": lambda: small(2, cuts=[3.0, 8.0], covariates=[]),
    "constant, covariates": lambda: small(3, cuts=[], covariates=["arm"]),
    "constant, no covariates": lambda: small(4, cuts=[], covariates=[]),
}
