"""The examples run, and say what the documentation says they do."""

import re
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

import bayesblina as bb

ROOT = Path(__file__).parents[1]
HEART = ROOT / "examples" / "stanford_heart.py"
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_heart_table_gives_the_published_comparison() -> None:
    # R 4.2, survival 3.5-3, the table `heart`.
    cohort = bb.read_cohort(
        runpy.run_path(str(HEART))["one_row_per_patient"]().reset_index(),
        patient="patient",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
    )
    question = bb.Question(exposed="transplantation", eligible_from="entry")
    result = bb.mantel_byar(cohort, question).isel(endpoint=0)
    golden = {
        "observed": "45",
        "observed_reference": "30",
        "expected": "43.59582",
        "expected_reference": "31.40418",
        "variance": "11.2615",
        "chi2": "0.17509",
        "peto_odds_ratio": "1.13280",
        "peto_lower": "0.632",
        "peto_upper": "2.031",
        "pike_odds_ratio": "1.08052",
    }
    for name, text in golden.items():
        last_digit = 10.0 ** -len(text.partition(".")[2])
        assert float(result[name]) == pytest.approx(float(text), abs=0.51 * last_digit), name


def test_heart_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["stanford_heart.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(HEART), run_name="__main__")
    assert ended.value.code == 0
    ratio = pd.read_csv(tmp_path / "hazard_ratios.csv").iloc[0]
    assert ratio["converged"]
    quoted = re.search(
        r"hazard ratio (\d\.\d\d) \(95 % interval (\d\.\d\d) to (\d\.\d\d)\)", README
    )
    assert quoted is not None
    # Monte-Carlo errors of a 2.5 % and 97.5 % quantile are about three times that of the mean.
    for name, number, errors in zip(
        ("median", "lower", "upper"), quoted.groups(), (5, 15, 15), strict=True
    ):
        assert ratio[name] == pytest.approx(float(number), abs=0.005 + errors * ratio["mcse"]), name
    assert (tmp_path / "survival_os.png").read_bytes().startswith(b"\x89PNG")
