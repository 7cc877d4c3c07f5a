"""The same patients in every format give the same person-time."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyreadstat
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
ENDPOINTS = {
    "os": bb.Endpoint(time="os_days", event="died"),
    "rfs": bb.Endpoint(time="rfs_days", event="failed", entry="remission_day"),
}
PHASES = bb.Phases(consolidation="cons_day", maintenance="main_day")
COVARIATES = ["age_group", "blasts"]
DAYS = ("os_days", "rfs_days", "remission_day", "cons_day", "main_day", "sct_day")


def table(seed: int = 1, patients: int = 60) -> pd.DataFrame:
    """Days are whole numbers, so that dates can say the same."""
    rng = np.random.default_rng(seed)
    end = rng.integers(100, 900, patients).astype(float)
    remission = np.floor(end * rng.uniform(0.05, 0.3, patients))
    remission[rng.random(patients) < 0.2] = np.nan
    cons = np.where(rng.random(patients) < 0.8, remission + rng.integers(0, 20, patients), np.nan)
    main = np.where(rng.random(patients) < 0.6, cons + rng.integers(1, 60, patients), np.nan)
    sct = np.where(np.isnan(main) & (rng.random(patients) < 0.3), remission + 25, np.nan)
    rfs = np.where(np.isnan(remission), np.nan, np.ceil(remission + 0.7 * (end - remission)))
    died = rng.integers(0, 2, patients)
    return pd.DataFrame(
        {
            "id": [f"S-{number:03d}" for number in range(patients)],
            "os_days": end,
            "died": died,
            "rfs_days": rfs,
            "failed": np.where(np.isnan(remission), np.nan, rng.integers(0, 2, patients)),
            "remission_day": remission,
            "cons_day": cons,
            "main_day": np.where(main < end, main, np.nan),
            "sct_day": np.where(sct < end, sct, np.nan),
            "age_group": rng.choice(["18-34", "35-54", "55+"], patients),
            "blasts": rng.integers(5, 95, patients).astype(float),
        }
    )


def read(source: Any) -> Cohort:
    return bb.read_cohort(
        source,
        patient="id",
        unit="days",
        endpoints=ENDPOINTS,
        phases=PHASES,
        covariates=COVARIATES,
        transplant="sct_day",
    )


def dated(frame: pd.DataFrame, *, seed: int = 2) -> pd.DataFrame:
    """Replace days by dates, with an origin of each patient's own."""
    rng = np.random.default_rng(seed)
    origin = pd.Timestamp("2014-01-01") + pd.to_timedelta(
        rng.integers(0, 700, len(frame)), unit="D"
    )
    out = frame.assign(origin=pd.Series(origin))
    for column in DAYS:
        out[column] = out["origin"] + pd.to_timedelta(out[column], unit="D")
    return out


def read_dates(frame: Any, **more: Any) -> Cohort:
    return bb.read_dated_cohort(
        frame,
        patient="id",
        origin="origin",
        unit="days",
        endpoints={
            "os": bb.DatedEndpoint(date="os_days", event="died"),
            "rfs": bb.DatedEndpoint(date="rfs_days", event="failed", origin="remission_day"),
        },
        phases=PHASES,
        covariates=COVARIATES,
        transplant="sct_day",
        **more,
    )


def adam(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """ADSL, ADTTE and ADEX; doses of cycles 1, 2 on other days, of later cycles six weeks apart."""
    dates = dated(frame)
    adsl = dates[["id", "origin", "age_group", "blasts", "sct_day"]].rename(
        columns={"id": "USUBJID", "origin": "TRTSDT", "age_group": "AGEGR1", "sct_day": "SCTDT"}
    )
    os = pd.DataFrame(
        {
            "USUBJID": dates["id"],
            "PARAMCD": "OS",
            "STARTDT": dates["origin"],
            "ADT": dates["os_days"],
            "CNSR": 1 - dates["died"],
        }
    )
    seen = frame["remission_day"].notna()
    rfs = pd.DataFrame(
        {
            "USUBJID": dates["id"],
            "PARAMCD": "RFS",
            "STARTDT": dates["remission_day"],
            "ADT": dates["rfs_days"],
            # More than one reason for censoring.
            "CNSR": np.where(dates["failed"] == 1, 0, 2),
        }
    )[seen]
    doses = [
        pd.DataFrame({"USUBJID": dates["id"], "AVISIT": "Cycle 1 Day 1", "ASTDT": dates["origin"]})
    ]
    for column, first in (("cons_day", 3), ("main_day", 6)):
        doses += [
            pd.DataFrame(
                {
                    "USUBJID": dates["id"],
                    "AVISIT": f"CYCLE {first + later:02d}",
                    "ASTDT": dates[column] + pd.to_timedelta(42 * later, unit="D"),
                }
            )[frame[column].notna()]
            for later in range(2)
        ]
    shuffled = pd.concat(doses).sample(frac=1.0, random_state=3)
    return adsl, pd.concat([os, rfs]), shuffled


def read_triple(adsl: Any, adtte: Any, adex: Any, **more: Any) -> Cohort:
    options: dict[str, Any] = {
        "endpoints": {
            "os": bb.AdamEndpoint(paramcd="OS"),
            "rfs": bb.AdamEndpoint(paramcd="RFS", some_patients=True),
        },
        "unit": "days",
        "covariates": ["AGEGR1", "blasts"],
        "transplant": "SCTDT",
    }
    return bb.read_adam(adsl, adtte, adex, **(options | more))


def read_rows(rows: Any) -> Cohort:
    return bb.read_counting_process(
        rows,
        patient="patient",
        start="start",
        stop="stop",
        event="event",
        phase="phase",
        phases=["consolidation", "maintenance"],
        endpoint="endpoint",
        covariates={"age_group": "categorical", "blasts": "continuous"},
        transplant="transplant",
        unit="days",
    )


def iso(frame: pd.DataFrame) -> pd.DataFrame:
    """Dates as ISO 8601 text."""
    out = frame.copy()
    for column in out.columns:
        if pd.api.types.is_datetime64_any_dtype(out[column]):
            out[column] = out[column].dt.strftime("%Y-%m-%d")
    return out


def write_csv(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.csv"
    frame.to_csv(path, index=False)
    return path


def write_bom(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "bom.csv"
    frame.to_csv(path, index=False, encoding="utf-8-sig", lineterminator="\r\n")
    return path


def write_parquet(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.parquet"
    frame.to_parquet(path)
    return path


def write_feather(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.feather"
    pyarrow.feather.write_feather(frame, path)
    return path


def write_xpt(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.xpt"
    short = {name: name[:8] for name in frame.columns}
    pyreadstat.write_xport(frame.rename(columns=short), str(path), file_format_version=8)
    return path


FORMATS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": write_csv,
    "csv with BOM": write_bom,
    "parquet": write_parquet,
    "feather": write_feather,
    "polars": lambda frame, _: pl.from_pandas(frame),
    "arrow": lambda frame, _: pa.Table.from_pandas(frame),
    "pandas with nullable types": lambda frame, _: frame.convert_dtypes(),
}


def same(cohort: Cohort, other: Cohort) -> None:
    for cuts in (None, [90.0, 365.0]):
        first, second = (bb.person_time(one, QUESTION, cuts=cuts) for one in (cohort, other))
        for name in ("table", "people", "episodes"):
            xr.testing.assert_identical(getattr(first, name), getattr(second, name))
        assert first.left_out == second.left_out


@pytest.mark.parametrize("name", FORMATS)
def test_wide_formats(name: str, tmp_path: Path) -> None:
    frame = table()
    same(read(frame), read(FORMATS[name](frame, tmp_path)))


def test_xpt(tmp_path: Path) -> None:
    frame = table().rename(columns={"remission_day": "rem_day", "age_group": "agegr"})
    endpoints = {**ENDPOINTS, "rfs": bb.Endpoint(time="rfs_days", event="failed", entry="rem_day")}
    first, second = (
        bb.read_cohort(
            source,
            patient="id",
            unit="days",
            endpoints=endpoints,
            phases=PHASES,
            covariates=["agegr", "blasts"],
            transplant="sct_day",
        )
        for source in (frame, write_xpt(frame, tmp_path))
    )
    same(first, second)


def test_sas7bdat() -> None:
    # tests/data/formats.R wrote both files.
    folder = DATA
    first, second = (
        bb.read_cohort(
            folder / name,
            patient="id",
            unit="days",
            endpoints={"os": bb.Endpoint(time="days", event="died")},
            phases=bb.Phases(transplantation="transplant_day"),
        )
        for name in ("stanford_jasa1.csv", "stanford_jasa1.sas7bdat")
    )
    question = bb.Question(exposed="transplantation", eligible_from="entry")
    one, two = (bb.person_time(cohort, question) for cohort in (first, second))
    xr.testing.assert_identical(one.table, two.table)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_dates(text: bool, kind: str) -> None:
    frame = table()
    dates = dated(frame)
    dates = iso(dates) if text else dates
    same(read(frame), read_dates(pl.from_pandas(dates) if kind == "polars" else dates))


def test_dates_of_an_xpt_file(tmp_path: Path) -> None:
    frame = table()
    dates = dated(frame).rename(columns={"remission_day": "rem_day", "age_group": "agegr"})
    for column in dates.columns:
        if pd.api.types.is_datetime64_any_dtype(dates[column]):
            dates[column] = [None if pd.isna(day) else day.date() for day in dates[column]]
    pyreadstat.write_xport(dates, str(tmp_path / "dates.xpt"), file_format_version=8)
    cohort = bb.read_dated_cohort(
        tmp_path / "dates.xpt",
        patient="id",
        origin="origin",
        unit="days",
        endpoints={
            "os": bb.DatedEndpoint(date="os_days", event="died"),
            "rfs": bb.DatedEndpoint(date="rfs_days", event="failed", origin="rem_day"),
        },
        phases=PHASES,
        covariates=["agegr", "blasts"],
        transplant="sct_day",
    )
    expected = bb.person_time(read(frame.rename(columns={})), QUESTION)
    found = bb.person_time(cohort, QUESTION)
    for name in ("events", "person_time"):
        np.testing.assert_array_equal(found.table[name], expected.table[name])


@pytest.mark.parametrize("text", [False, True])
def test_adam(text: bool, tmp_path: Path) -> None:
    frame = table()
    triple = adam(frame)
    if text:
        paths = [tmp_path / f"{name}.csv" for name in ("adsl", "adtte", "adex")]
        for one, path in zip(triple, paths, strict=True):
            iso(one).to_csv(path, index=False)
        cohort = read_triple(*paths)
    else:
        cohort = read_triple(*triple)
    renamed = bb.read_cohort(
        frame.rename(columns={"age_group": "AGEGR1"}),
        patient="id",
        unit="days",
        endpoints=ENDPOINTS,
        phases=PHASES,
        covariates=["AGEGR1", "blasts"],
        transplant="sct_day",
    )
    same(renamed, cohort)


def test_counting_process() -> None:
    cohort = read(table())
    rows = cohort.to_counting_process()
    again = read_rows(rows)
    same(cohort, again)
    pd.testing.assert_frame_equal(again.to_counting_process(), rows)
    shuffled = rows.sample(frac=1.0, random_state=1)
    order = pd.Index(again.patients)
    back = read_rows(shuffled).to_counting_process()
    back = back.assign(rank=order.get_indexer(pd.Index(back["patient"]))).sort_values(
        ["endpoint", "rank", "start"], ignore_index=True
    )
    pd.testing.assert_frame_equal(
        back.drop(columns="rank"), rows.sort_values(["endpoint"], kind="stable", ignore_index=True)
    )


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), patients=st.integers(10, 40))
def test_random_cohorts_round_trip(
    tmp_path_factory: pytest.TempPathFactory, seed: int, patients: int
) -> None:
    frame = table(seed, patients)
    folder = tmp_path_factory.mktemp("formats")
    cohort = read(frame)
    others = [read(make(frame, folder)) for make in FORMATS.values()]
    others += [read_dates(dated(frame, seed=seed)), read_dates(iso(dated(frame)))]
    rows = cohort.to_counting_process()
    for other in others:
        pd.testing.assert_frame_equal(other.to_counting_process(), rows)
    pd.testing.assert_frame_equal(read_rows(rows).to_counting_process(), rows)
    triple = read_triple(*adam(frame), covariates=["AGEGR1", "blasts"])
    pd.testing.assert_frame_equal(
        triple.to_counting_process(), rows.rename(columns={"age_group": "AGEGR1"})
    )


def test_rows_split_at_cuts_keep_time_and_events() -> None:
    cohort = read(table())
    whole, cut = (cohort.to_counting_process(cuts=cuts) for cuts in (None, [90.0, 365.0]))
    assert set(cut["interval"]) == {0, 1, 2}
    assert ((cut["start"] >= 365) == (cut["interval"] == 2)).all()
    keys = ["patient", "endpoint", "phase"]
    for frame in (whole, cut):
        frame["time"] = frame["stop"] - frame["start"]
    sums = [frame.groupby(keys, observed=True)[["time", "event"]].sum() for frame in (whole, cut)]
    pd.testing.assert_frame_equal(sums[0], sums[1])


RSCRIPT = shutil.which("Rscript")


@pytest.mark.skipif(RSCRIPT is None, reason="an oracle for developers: needs R with survival")
def test_rows_fit_in_r(tmp_path: Path) -> None:
    cohort = read(table(patients=200))
    path = tmp_path / "rows.csv"
    cohort.to_counting_process(endpoint="os").to_csv(path, index=False)
    code = (
        "library(survival); d <- read.csv(commandArgs(TRUE));"
        "c <- coxph(Surv(start, stop, event) ~ I(phase == 'maintenance'), d, ties='breslow');"
        "cat(c$score)"
    )
    assert RSCRIPT is not None
    out = subprocess.run(
        [RSCRIPT, "-e", code, str(path)], check=True, capture_output=True, text=True
    )
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="ignore")
    tied = bb.mantel_byar(cohort, question)["chi2"].sel(endpoint="os")
    assert float(out.stdout) == pytest.approx(float(tied), rel=0.02)
