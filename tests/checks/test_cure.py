"""What the cured fraction rests on: follow-up and draws that are written down."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks.posterior import cure_identifiability
from bayesblina.core.errors import EstimandError
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
MODEL = bb.load_model("mixture_cure")


def cohort_of() -> Cohort:
    """a dies at 4 in `late`, b at 9 outside it; c, d and e are alive at 12, 15 and 9.

    Only a, c and d are ever in `late`, d from 6 and c from 11. f is seen from 10 to 13, and relapse
    not at all.
    """
    table = pd.DataFrame(
        {
            "id": list("abcdef"),
            "os": [4.0, 9.0, 12.0, 15.0, 9.0, 13.0],
            "died": [1, 1, 0, 0, 0, 0],
            "rfs": [4.0, 5.0, 12.0, 7.0, 3.0, 13.0],
            "failed": [1, 1, 0, 0, 1, 0],
            "entry": [0.0, 0.0, 0.0, 0.0, 0.0, 10.0],
            "remission": [0.0, 0.0, 0.0, 0.0, 0.0, None],
            "late": [2.0, None, 11.0, 6.0, None, None],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died", entry="entry"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="remission"),
        },
        phases=bb.Phases(late="late"),
        synthetic=True,
    )


def fit_of(means: tuple[float, float] = (0.0, 0.0), sds: tuple[float, float] = (1.0, 1.0)) -> Fit:
    """Draws of the log odds with just these means and sds, in two chains."""
    unit = np.array([-1.0, 1.0, 0.5, -0.5])
    draws = unit[:, None] / unit.std(ddof=1) * np.array(sds) + np.array(means)
    posterior = xr.Dataset(
        {"cured_log_odds": (("chain", "draw", "endpoint"), draws.reshape(2, 2, 2))},
        coords={"endpoint": ["os", "rfs"]},
    )
    person_time = bb.person_time(cohort_of(), QUESTION, cuts=[6.0])
    return written_fit(person_time, QUESTION, MODEL, posterior)


def test_follow_up_after_the_last_event() -> None:
    found = cure_identifiability(fit_of())
    assert found["endpoint"].tolist() == ["os", "rfs"]
    rows: Any = found.to_dict("records")
    counted = [
        "patients",
        "events",
        "last_event",
        "followed_after",
        "time_after",
        "last_event_exposed",
        "events_after",
        "exposed_after",
    ]
    # Survival: c, d and f are followed after 9, f from 10 on: 3 + 6 + 3. Death in `late` at 4; b's
    # at 9 after it; c and d are in `late` later.
    assert [rows[0][name] for name in counted] == [6, 2, 9.0, 3, 12.0, 4.0, 1, 2]
    # Relapse: c and d after 5: 7 + 2; e's relapse at 3 is before a's death at 4, b's at 5 after it.
    assert [rows[1][name] for name in counted] == [5, 3, 5.0, 2, 9.0, 4.0, 1, 2]
    assert found.attrs == {
        "model": "mixture_cure",
        "converged": 1,
        "synthetic": 1,
        "unit": "months",
    }


def test_what_the_data_took_away_of_the_prior() -> None:
    assert MODEL.cure is not None
    prior = MODEL.cure.fraction
    sds = (0.5 * prior.sd, 0.9 * prior.sd)
    found = cure_identifiability(fit_of((prior.mean + prior.sd, prior.mean - 0.5), sds))
    np.testing.assert_allclose(found["prior_sd"], prior.sd)
    np.testing.assert_allclose(found["posterior_sd"], sds)
    np.testing.assert_allclose(found["contraction"], [0.75, 0.19])
    np.testing.assert_allclose(found["shift"], [1.0, -0.5 / prior.sd])
    assert found["identified"].tolist() == [True, False]


@pytest.mark.parametrize(("share", "identified"), [(0.4999, True), (0.5001, False)])
def test_half_of_the_variance_identifies(share: float, identified: bool) -> None:
    assert MODEL.cure is not None
    sd = np.sqrt(share) * MODEL.cure.fraction.sd
    found = cure_identifiability(fit_of(sds=(sd, sd)))
    assert found["identified"].tolist() == [identified] * 2


def test_without_follow_up_after_the_last_event_nothing_is_identified() -> None:
    """However narrow the draws; and without an event in the exposed phase there is no time of one.

    Then no event comes after it, and nobody is in the phase after it.
    """
    fit = fit_of(sds=(0.01, 0.01))
    people = fit.person_time.patients().people
    event = people["event"].copy()
    # d, who is followed longest, dies too, and a does not.
    event.loc[{"endpoint": "os", "patient": "d"}] = True
    event.loc[{"endpoint": "rfs", "patient": "a"}] = False
    people["event"] = event
    found = cure_identifiability(fit)
    assert found["followed_after"].tolist() == [0, 2]
    assert found["time_after"].tolist() == [0.0, 9.0]
    assert found["identified"].tolist() == [False, True]
    # d dies in the phase; then nobody's relapse is in it.
    assert found["last_event_exposed"].tolist()[0] == 15.0
    assert np.isnan(found["last_event_exposed"].tolist()[1])
    assert found["events_after"].tolist() == [0, 0]
    assert found["exposed_after"].tolist() == [0, 0]


def test_only_models_with_cured_patients() -> None:
    fit = fit_of()
    other = written_fit(fit.person_time, QUESTION, bb.load_model("primary"), fit.posterior)
    with pytest.raises(EstimandError, match="'primary' has no cured patients"):
        cure_identifiability(other)
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got str"):
        cure_identifiability("fit")  # type: ignore[arg-type]
    assert (
        cure_identifiability(
            written_fit(fit.person_time, QUESTION, MODEL, fit.posterior, converged=False)
        ).attrs["converged"]
        == 0
    )
