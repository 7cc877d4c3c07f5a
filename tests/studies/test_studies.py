"""The heavy studies, run anew; their stored results are in docs/validation."""

import runpy

import numpy as np
import pandas as pd
import pytest

from tests.paths import STUDIES


@pytest.mark.slow
def test_intervals_cover_the_truth_and_ever_against_never_misleads() -> None:
    study = runpy.run_path(str(STUDIES / "interval_coverage.py"))
    table = study["summary"](study["run"]()).set_index(["analysis", "endpoint"])
    for endpoint in ("os", "rfs"):
        right, wrong = (
            table.loc["time-varying", endpoint],
            table.loc["ever against never", endpoint],
        )
        # 95 % +- 1.96 standard errors of a coverage over 200 cohorts.
        assert 0.91 <= right["coverage of 95 % intervals"] <= 0.98
        assert wrong["bias"] < -5 * wrong["its standard error"]


@pytest.mark.slow
def test_gate_and_default_cuts_at_both_sizes() -> None:
    rows = runpy.run_path(str(STUDIES / "scale.py"))["run"]()
    assert (rows["gate"] == "passed").all()
    assert (rows["divergences"] == 0).all()
    large = rows[rows["eligible"] == 200_000].set_index(["endpoint", "cuts"])
    for endpoint in ("os", "rfs"):
        default, finer = large.loc[endpoint, "default"], large.loc[endpoint, "twice the default"]
        assert abs(float(default["log HR"]) - float(finer["log HR"])) < float(default["sd"])


@pytest.mark.slow
def test_coarse_event_times_are_found_and_days_are_silent() -> None:
    study = runpy.run_path(str(STUDIES / "event_times.py"))
    table = study["cells"](study["run"]()).set_index(["recording", "until_found", "size"])
    day, week, visits, mixed, month, _ = (one.name for one in study["RECORDINGS"])
    for until_found in (True, False):
        for size in study["SIZES"]:
            for silent in (day, week):
                assert table.loc[(silent, until_found, size), ["told", "failed"]].max() <= 0.1
            assert table.loc[(month, until_found, size), "failed"] == 0.0
        for size in (267, 2000):
            assert table.loc[(visits, until_found, size), "failed"] == 1.0
        assert table.loc[(mixed, until_found, 2000), "failed"] == 1.0
    # 20, 70 and 67 % in another such study: exact 99.9 % binomial intervals of 30 sets.
    assert 0.02 <= table.loc[(visits, True, 40), "failed"] <= 0.5
    assert 0.38 <= table.loc[(visits, True, 86), "failed"] <= 0.92
    assert 0.35 <= table.loc[(mixed, True, 267), "failed"] <= 0.9


@pytest.mark.slow
def test_estimands_cover_the_truth_and_the_ladder_leads_to_it() -> None:
    study = runpy.run_path(str(STUDIES / "estimands.py"))
    table = study["summary"](study["run"]()).set_index(["analysis", "what", "endpoint"])
    for endpoint in ("os", "rfs"):
        for estimand in (study["HAZARD_RATIO"], study["SURVIVAL"], study["RMST"]):
            for analysis in ("primary", "flat prior"):
                # 95 % less or more three standard errors of a coverage over 200 cohorts, and what
                # the prior's pull and the smoothed baseline cost.
                assert table.loc[(analysis, estimand, endpoint), "coverage"] >= 0.90
        naive = table.loc[("primary", "ladder: ever against never", endpoint)]
        bayesian = table.loc[("primary", "ladder: Bayesian", endpoint)]
        assert naive["coverage"] < 0.75
        assert bayesian["coverage"] >= 0.90
        assert abs(naive["bias"]) > 3 * abs(bayesian["bias"])


@pytest.mark.slow
def test_the_baseline_does_not_move_the_hazard_ratio() -> None:
    from tests.studies.baseline import simulate
    from tests.studies.baseline_fits import BEYOND_REPLICATIONS, chosen, compare
    from tests.studies.baseline_page import CELL, breaches
    from tests.studies.baseline_patients import TWO_PHASES
    from tests.studies.baseline_settings import ONE_PHASE, Setting

    scenarios = (("early", "step up"), ("clustered", "step down"), ("uniform", "falling"))
    settings = [
        Setting(ONE_PHASE, entry, baseline, 86, ratio, 60, first=BEYOND_REPLICATIONS)
        for entry, baseline in scenarios
        for ratio in (0.5, 1.0)
    ]
    settings += [
        Setting(ONE_PHASE, "early", "rising", 2000, 1.0, 10, first=BEYOND_REPLICATIONS),
        Setting(TWO_PHASES, "", "", 86, 0.5, 60, first=BEYOND_REPLICATIONS),
    ]
    rows = pd.concat([simulate(setting) for setting in settings], ignore_index=True)
    broken = breaches(rows)
    assert not broken[["shift", "share beyond", "coverage", "width"]].any(axis=None), broken
    mean = rows.pivot_table(values="shift", index=CELL, columns="method")
    # What the old default did there, in companion sds.
    assert (mean["old default"].abs() > 0.25).all(), mean
    assert (mean["default"].abs() < 0.2).all(), mean
    # The engine is the package's model: on one data set of each kind, and on average.
    compared = pd.DataFrame([row for setting in chosen()[::8] for row in compare(setting)])
    assert compared["same_cuts"].all()
    assert (compared["difference"].abs() <= 0.03 + 3 * compared["error"]).all(), compared
    error = np.sqrt((compared["error"] ** 2).sum()) / len(compared)
    assert abs(compared["difference"].mean()) <= 0.01 + 3 * error


@pytest.mark.slow
def test_models_of_curves_move_the_hazard_ratio_and_the_gate_says_so() -> None:
    from tests.studies.baseline_fits import BEYOND_REPLICATIONS
    from tests.studies.baseline_settings import ONE_PHASE, Setting
    from tests.studies.family_curves import simulate
    from tests.studies.family_fits import chosen, compare
    from tests.studies.family_page import measures

    step, falling = (
        Setting(ONE_PHASE, entry, baseline, 267, 0.5, 40, first=BEYOND_REPLICATIONS)
        for entry, baseline in (("early", "step up"), ("uniform", "falling"))
    )
    rows = pd.concat([simulate(step), simulate(falling)], ignore_index=True)
    found = measures(rows, ["baseline", "model"])
    assert (found.loc[found.index.get_level_values("model") == "default", "size"] < 0.15).all()
    for model, up in (("smooth", 1.0), ("weibull", 0.6), ("gaussian_process", 0.7)):
        # Means over 40 sets of shifts whose sd is about 0.3: three standard errors.
        for baseline, shift in (("step up", up), ("falling", -0.4)):
            mean = float(found["shift"].to_dict()[baseline, model])
            assert mean == pytest.approx(shift, abs=0.2)
    compared = pd.DataFrame([compare(chosen()[3], model) for model in ("smooth", "weibull")])
    assert (compared["difference"].abs() <= 0.03 + 3 * compared["error"]).all(), compared
    assert (compared["survival"] < 0.005).all()
    assert set(compared["gate"]) <= {"told", "failed", "passed"}
    assert compared["gate"].iloc[0] == "failed"


@pytest.mark.slow
def test_a_cured_fraction_is_found() -> None:
    from tests.studies.family_cure import FRACTION, analyse

    rows = pd.DataFrame([analyse("constant", number) for number in range(1000, 1004)])
    assert rows["converged"].all()
    # Posterior sds are 0.02: four sets, and three standard errors.
    assert rows["mean"].mean() == pytest.approx(FRACTION, abs=0.03)
    assert (rows["gate"] == "not compared").all()
