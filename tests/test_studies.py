"""The heavy studies, run anew; their stored results are in docs/validation."""

import runpy
from pathlib import Path

import pytest

STUDIES = Path(__file__).parent / "studies"


@pytest.mark.slow
def test_intervals_cover_the_truth_and_ever_against_never_misleads() -> None:
    study = runpy.run_path(str(STUDIES / "interval_coverage.py"))
    table = study["summarise"](study["run"]()).set_index(["analysis", "endpoint"])
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
