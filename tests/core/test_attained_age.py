"""Age as the time scale: follow-up is from entry to exit, not from birth."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.core.masking import MASK
from bayesblina.output.report.hiding import account
from bayesblina.patients.scan import scan_cohort

COLUMNS: dict[str, Any] = {
    "patient": "id",
    "unit": "years",
    "endpoints": {"os": bb.Endpoint(time="exit", event="died", entry="entry")},
    "phases": bb.Phases(maintenance="start"),
}


def ages() -> pd.DataFrame:
    """40 patients by formula, all ages at least 55 years."""
    row = np.arange(40)
    entry = 55 + (row * 7 % 23) + 0.25
    length = 1 + (row * 13 % 17) / 2
    start = entry + 0.5 + (row * 5 % 11) / 2
    return pd.DataFrame(
        {
            "id": [f"p{one}" for one in row],
            "entry": entry,
            "exit": entry + length,
            "died": (row % 3 != 0).astype(int),
            "start": np.where(start < entry + length, start, np.nan),
        }
    )


def test_follow_up_is_from_entry_to_exit() -> None:
    """Person-years of ``survival::pyears``, the Cox model of ``coxph``, by R 4.2.

    d2 <- tmerge(d, d, id=id, tstart=entry, tstop=exit, os=event(exit, died), m=tdc(start))
    coef(summary(coxph(Surv(tstart, tstop, os) ~ m, d2)))
    pyears(Surv(tstart, tstop, os) ~ m, d2, scale=1)$pyears
    """
    cohort = bb.read_cohort(ages(), **COLUMNS)
    question = bb.Question(exposed="maintenance", eligible_from="entry")
    account = bb.person_time(cohort, question).account().table.set_index("what")
    assert account.loc["reference", "person_time"] == pytest.approx(104.5)
    assert account.loc["exposed", "person_time"] == pytest.approx(92.5)
    (row,) = bb.cox(cohort, question).to_dict("records")
    assert row["estimate"] == pytest.approx(2.026942251, rel=1e-6)


def test_in_a_query_engine(tmp_path: Path) -> None:
    path = tmp_path / "ages.parquet"
    ages().to_parquet(path)
    cohort = bb.read_cohort(path, **COLUMNS)
    question = bb.Question(exposed="maintenance", eligible_from="entry")
    here = bb.person_time(cohort, question).table
    there = bb.person_time(scan_cohort(path, **COLUMNS), question).table
    for name in ("events", "person_time"):
        np.testing.assert_allclose(there[name].values, here[name].values, rtol=1e-9)


@pytest.mark.parametrize("read", [bb.read_cohort, scan_cohort])
def test_a_wrong_unit_is_seen_in_the_length_of_follow_up(read: Any, tmp_path: Path) -> None:
    """Ages in days called years, and years called days."""
    path = tmp_path / "ages.parquet"
    table = ages().assign(start=np.nan)
    length = table["exit"] - table["entry"]  # 5 in the median, at most 9
    entry = table["entry"] - 54
    for factor, unit, found in ((12.0, "years", "60 years"), (0.1, "days", "0.5 days")):
        table.assign(entry=entry, exit=entry + factor * length).to_parquet(path)
        with pytest.raises(DataError) as caught:
            read(path, **{**COLUMNS, "unit": unit})
        (problem,) = caught.value.problems
        assert problem.column == "exit"
        assert problem.found == f"a median follow-up of {found}"


@pytest.mark.parametrize("read", [bb.read_cohort, scan_cohort])
def test_most_censored_at_randomisation_is_told(read: Any, tmp_path: Path) -> None:
    """Progression-free survival of patients who mostly have no scan after the first day."""
    path = tmp_path / "pfs.parquet"
    table = pd.DataFrame(
        {
            "id": [f"p{one}" for one in range(9)],
            "entry": 0.0,
            "exit": [0.01] * 6 + [2.0, 3.0, 6.0],
            "died": [0] * 6 + [1, 1, 0],
            "start": [None] * 8 + [1.0],
        }
    )
    table.to_parquet(path)
    cohort = read(path, **{**COLUMNS, "unit": "months"})
    assert cohort.size == 9
    told = cohort.account().table.query("step == 'follow-up'")
    assert told["what"].tolist() == [
        "followed up for less than a day, as most are: check the unit",
        "followed up for a day or longer",
    ]
    assert told["patients"].tolist() == [6, 3]
    assert set(told["endpoint"]) == set(cohort.endpoints)
    # No more than half of them, of those ever under observation: nothing is told.
    half = table.assign(entry=[0.0] * 4 + [np.nan] + [0.0] * 4, exit=[0.01] * 4 + [2.0] * 5)
    half.to_parquet(path)
    steps = set(read(path, **{**COLUMNS, "unit": "months"}).account().table["step"])
    assert "follow-up" not in steps
    if isinstance(cohort, bb.Cohort):
        # Of a masked report nobody can tell how many the few others are.
        shown = account(cohort.account().table, exposed="maintenance", minimum=5)
        assert {row["patients"] for row in shown.rows if row["step"] == "follow-up"} == {MASK}
        assert "follow-up" not in set(bb.read_cohort(ages(), **COLUMNS).account().table["step"])
