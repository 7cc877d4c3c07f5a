"""The study of power-scaling: its density, its counts, and its page."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.hazards.baseline import matern_density
from bayesblina.hazards.build import build_model
from bayesblina.inference.fitting import Fit
from tests.studies import power_scaling as study
from tests.studies.baseline_fits import cohort_of


@cache
def data_set() -> tuple[bb.Cohort, bb.Question]:
    setting = next(study.settings())
    data = setting.kind.simulate(setting.patients, setting.log_ratio, setting.generator(0))
    return cohort_of(setting, data)


def fitted(case: study.Case) -> Fit:
    cohort, question = data_set()
    cuts = [2.0, 3.0, 6.0, 12.0]
    return bb.fit(
        cohort,
        question,
        model=case.definition,
        cuts=cuts,
        seed=2,
        draws=30,
        tune=100,
        chains=2,
        progress=False,
    )


def graph_density(fit: Fit, draws: int) -> NDArray[np.float64]:
    """The density that PyMC has of the baseline's variables, in standard normals for deviations."""
    model = build_model(fit.definition, fit.person_time).model
    names = [one.name for one in model.free_RVs if one.name != "log_hazard_ratio"]
    given = [model[name] for name in names]
    density = pytensor.function(
        given, sum(pm.logp(one, one).sum() for one in given), mode="FAST_COMPILE"
    )
    found = []
    for draw in range(draws):
        one = fit.posterior.isel(chain=0, draw=draw)
        total = float(density(*(one[name].values for name in names)))
        # Densities of coordinates, and of a length scale instead of its logarithm.
        if "process_sd" in names:
            squared = model["squared_frequency"].get_value()
            spectrum = matern_density(one["length_scale"].values[:, None], squared)
            wide = one["process_sd"].values[:, None] * np.sqrt(spectrum)
            wide = wide * model["process_root"].get_value()
            total += float(np.log(one["length_scale"].values).sum())
        elif "walk_sd" in names:
            wide = one["walk_sd"].values[:, None] * model["inverse_roughness"].get_value()
        else:
            wide = np.zeros(1)
        found.append(total + 0.5 * np.log1p(wide**2).sum())
    return np.array(found)


@pytest.mark.parametrize(
    "case",
    [
        study.CASES[0],
        pytest.param(study.CASES[3], marks=pytest.mark.slow),
        pytest.param(study.CASES[4], marks=pytest.mark.slow),
        pytest.param(study.CASES[5], marks=pytest.mark.slow),
    ],
    ids=lambda case: case.model,
)
def test_the_whole_prior_of_the_baseline_is_scaled(case: study.Case) -> None:
    """Against the graph's own density: level, steps, slopes, sds and what they multiply."""
    fit = fitted(case)
    ours = study.baseline_density(fit).values[0, :8]
    difference = ours - graph_density(fit, 8)
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)
    assert np.ptp(ours) > 1.0


def rows(shift: float, index: float, count: int) -> list[dict[str, object]]:
    one = {"model": "primary", "prior": "step", "upper": 1.25, "setting": ""}
    return [{**one, "shift": shift, "index": index}] * count


def test_counts_by_hand() -> None:
    """19 of the first 20 moved sets flagged, 3 of 20 still ones; others do not count."""
    table = pd.DataFrame(
        rows(-0.6, 0.06, 19)
        + rows(0.51, 0.04, 1)
        + rows(0.3, 0.5, 7)
        + rows(0.09, 0.05, 3)
        + rows(-0.02, 0.01, 17)
        + rows(2.0, 0.01, 5)
    )
    (found,) = study.summary(table).to_dict("records")
    counts = {name: found[name] for name in ("sets", "moved", "flagged", "still", "wrongly")}
    assert counts == {"sets": 52, "moved": 20, "flagged": 19, "still": 20, "wrongly": 3}
    # 25 moved sets by 20 still ones: 19 x 20, 1 x 17, and no pair of the last five is higher.
    assert found["auc"] == pytest.approx((19 * 20 + 17) / 500)
    assert found["separates"] is False
    fewer = table.copy()
    fewer.loc[27, "index"] = 0.01
    assert study.summary(fewer)["separates"].tolist() == [True]
    text = study.page(table, seconds=60.0)
    assert "| `primary` | 0.80 to 1.25 | 52 | 19 of 20 | 3 of 20 | 79% | no |" in text


def test_the_page_is_of_this_study() -> None:
    text = study.PAGE.read_text(encoding="utf-8")
    assert text.count("| `") == len(study.CASES)
    # Were every row a yes, the baseline could be scaled after all.
    assert "| no |" in text
