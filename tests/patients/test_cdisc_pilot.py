"""The public CDISC pilot study, as delivered, against R (``tests/data/cdisc_pilot/golden.R``)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

FOLDER = DATA / "cdisc_pilot"
ADSL, ADTTE, ADEX, ADAE = (FOLDER / f"{name}.csv" for name in ("adsl", "adtte", "adex", "adae"))
PHASES = {"low": "BASELINE", "high": "WEEK 2", "end": "WEEK 24"}


def read(**options: Any) -> Cohort:
    options = {
        "endpoints": {"os": bb.AdamEndpoint(paramcd="OS")},
        "unit": "days",
        "population": "SAFFL",
        "phases": PHASES,
        "cycle": "VISIT",
        "filters": {"ADEX": {"PARAMCD": "DOSE"}},
        "value": "AVAL",
        "value_unit": "days",
        "zero_doses": "count",
        **options,
    }
    return bb.read_adam(ADSL, ADTTE, ADEX, **options)


def events(cohort: Cohort, **options: Any) -> bb.safety.AdverseEvents:
    return bb.safety.adverse_events(
        ADAE,
        cohort,
        patient="USUBJID",
        term="AEDECOD",
        grade="AESEV",
        flags=["TRTEMFL"],
        **options,
    )


def test_patients_and_person_time() -> None:
    cohort = read()
    assert cohort.size == 254
    assert len(cohort.exclusions[0].patients) == 52
    assert np.isfinite(cohort.phase_start).sum(axis=0).tolist() == [254, 226, 111]
    found = events(cohort, start="ASTDY", counted="study days")
    assert found.phases == ("low", "high", "end")
    assert found.person_time.sum(axis=0).tolist() == [3909, 25005, 1652]
    rows = cohort.to_counting_process()
    died = rows.groupby("phase")["event"].sum()
    assert [died[phase] for phase in PHASES] == [1, 2, 0]
    # Dates with the end of the day are what AVAL is.
    dated = read(value="dates", value_unit=None, same_day="end of day")
    np.testing.assert_array_equal(dated.endpoints["os"].time, cohort.endpoints["os"].time)


@pytest.mark.parametrize(
    "options",
    [
        {"start": "ASTDY", "counted": "study days"},
        {"start": "ASTDT", "counted": "dates", "origin": "TRTSDT", "origins": ADSL},
        {
            "start": "AESTDTC",
            "counted": "dates",
            "origin": "TRTSDT",
            "origins": ADSL,
            "partial_dates": "first",
        },
    ],
)
@pytest.mark.parametrize(
    ("severity", "counts"),
    [("MILD", [282, 829, 11]), ("MODERATE", [92, 300, 2]), ("SEVERE", [8, 33, 0])],
)
def test_adverse_events_by_phase(options: dict[str, Any], severity: Any, counts: list[int]) -> None:
    """By study day, by the analysis date, and by the date as collected, completed here."""
    found = events(read(), minimum_grade=severity, **options)
    assert found.table()["events"].tolist() == counts
    assert found.left_out["whose TRTEMFL is not Y"] == 69
    if severity == "MILD":
        assert found.table()["with_event"].tolist() == [101, 192, 9]
        assert found.imputed == (6 if options["start"] == "AESTDTC" else 0)


def test_progression_free_survival_is_mostly_censored_on_the_first_day() -> None:
    """243 of 254 are: by dates that is no time, which is told, and by AVAL a day."""
    pfs = {"pfs": bb.AdamEndpoint(paramcd="PFS")}
    with pytest.raises(DataError, match=r"1 problem in adtte.csv:\n.*times of 0.*243 patients"):
        read(endpoints=pfs, value="dates", value_unit=None, phases={})
    half = read(
        endpoints=pfs, value="dates", value_unit=None, phases={}, same_day="half day", unit="months"
    )
    told = half.account().table.query("step == 'follow-up'")
    assert told["patients"].tolist() == [243, 11]
    assert half.repairs[0].count == 243
    late = bb.Repairs(drop_late_phases=True)
    assert read(endpoints=pfs, repairs=late).endpoints["pfs"].event.sum() == 6


def test_placebo_is_a_dose_of_0() -> None:
    with pytest.raises(DataError, match=r"EXDOSE: doses of 0 \[88 patients"):
        read(zero_doses=None)
    treated = read(zero_doses="leave out")
    assert np.isfinite(treated.phase_start).sum(axis=0).tolist() == [168, 143, 51]


def test_a_wrong_unit_of_aval() -> None:
    with pytest.raises(DataError, match=r"7 times as long, in the median\) \[251 patients"):
        read(value_unit="weeks")


def test_a_partial_date_matters_only_where_dates_are_used(tmp_path: Path) -> None:
    """The month alone of a death: AVAL has the day, and the account says who was not compared."""
    table = pd.read_csv(ADTTE, dtype=str, keep_default_na=False)
    ids = table.loc[table["PARAMCD"] == "OS", "USUBJID"].iloc[:2].tolist()
    table.loc[table["USUBJID"].isin(ids), "ADT"] = "2014-01"
    path = tmp_path / "adtte.csv"
    table.to_csv(path, index=False)

    def cohort(**options: Any) -> Cohort:
        given: dict[str, Any] = {
            "endpoints": {"os": bb.AdamEndpoint(paramcd="OS")},
            "unit": "days",
            "population": "SAFFL",
            "phases": {},
            **options,
        }
        return bb.read_adam(ADSL, path, **given)

    with pytest.raises(DataError, match="ADT: partial dates"):
        cohort(value="dates", same_day="end of day")
    found = cohort(value="AVAL", value_unit="days")
    usual = read(phases={})
    np.testing.assert_array_equal(found.endpoints["os"].time, usual.endpoints["os"].time)
    counted = {one.rule: one.patients for one in found.repairs}
    assert counted["partial ADT, with which AVAL could not be compared"] == tuple(ids)
    assert not any("partial" in one.rule for one in usual.repairs)
    table["ADT"] = "soon"
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match="ADT: values that are not dates"):
        cohort(value="AVAL", value_unit="days")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"grade": "AEDECOD"}, "'AEDECOD' is declared as term and as grade"),
        ({"term": "USUBJID"}, "'USUBJID' is declared as patient and as term"),
        ({"flags": ["TRTEMFL", "AESEV"]}, "'AESEV' is declared as grade and as flag 2"),
        ({"flags": ["TRTEMFL", "TRTEMFL"]}, "as flag 1 and as flag 2"),
        ({"counted": "dates", "origin": "ASTDY"}, "as start of the event and as origin"),
        ({"counted": "dates", "origin": "USUBJID", "origins": ADSL}, "as patient and as origin"),
    ],
)
def test_a_column_of_events_has_one_role(changed: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "patient": "USUBJID", "term": "AEDECOD", "start": "ASTDY", "grade": "AESEV",
        "counted": "study days",
    }  # fmt: skip
    with pytest.raises(SpecError, match=words):
        bb.safety.adverse_events(ADAE, read(phases={}), **{**given, **changed})


def test_a_flag_is_no_start_of_an_event() -> None:
    cohort = read(phases={})
    table = pd.DataFrame({"id": cohort.patients[:6], "term": "x", "had": [0, 1, 0, 1, 1, 0]})
    with pytest.raises(DataError, match="had: a flag"):
        bb.safety.adverse_events(
            table, cohort, patient="id", term="term", start="had", counted="times"
        )
