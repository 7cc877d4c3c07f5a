"""What happened to every patient: counts against R's tmerge, and ids behind them."""

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.episodes import POSITIONS
from bayesblina.patients.account import Account
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

STANFORD = DATA / "stanford_jasa1.csv"
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


def stanford(entry: float | None = None, until: float = np.inf) -> Cohort:
    table = pd.read_csv(STANFORD)
    if entry is not None:
        table = table[table["days"] > entry].assign(entry=entry)
    late = table["transplant_day"] > until
    table["days"] = table["days"].clip(upper=until)
    endpoints = {
        "os": bb.Endpoint(time="days", event="died", entry=None if entry is None else "entry")
    }
    if late.any():
        # A second endpoint that was followed longer lets a phase lie after this one's end.
        table["longer"] = pd.read_csv(STANFORD)["days"]
        endpoints["longer"] = bb.Endpoint(time="longer", event="died")
    return bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints=endpoints,
        phases=bb.Phases(transplantation="transplant_day"),
    )


# R 4.2, survival 3.5-3: attr(tmerge(...), "tcount"), tests/data/tmerge.R
@pytest.mark.parametrize(
    ("cohort", "cuts", "counts"),
    [
        (stanford(), (), {"within": 67, "leading": 2}),
        (
            stanford(),
            (30, 60, 90, 180, 365, 730),
            {"within": 65, "boundary": 2, "leading": 2},
        ),
        (stanford(entry=5), (), {"early": 12, "within": 55, "leading": 1}),
        (stanford(until=100), (), {"late": 4, "within": 63, "leading": 2}),
    ],
)
def test_phase_starts_are_counted_as_by_tmerge(
    cohort: Cohort, cuts: tuple[float, ...], counts: dict[str, int]
) -> None:
    table = cohort.account(cuts=cuts).table
    rows = table[(table["step"] == "phase start") & (table["endpoint"] == "os")]
    found = dict(zip(rows["what"], rows["patients"], strict=True))
    assert found == {POSITIONS[position]: count for position, count in counts.items()}


def synthetic() -> Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1).cohort


def test_every_patient_is_accounted_for() -> None:
    cohort = synthetic()
    person_time = bb.person_time(cohort, QUESTION)
    account = cohort.account() + person_time.account()
    assert set(account.patients(step="read")) == set(cohort.patients.tolist())
    for name in cohort.endpoints:
        out = account.patients(step="left out", endpoint=name)
        eligible = account.patients(step="eligible", endpoint=name)
        assert not set(out) & set(eligible)
        assert set(out) | set(eligible) == set(cohort.patients.tolist())
        table = account.table
        rows = table[table["endpoint"] == name].set_index("step")
        in_phase, at_risk = rows.loc[["in phase"]], rows.loc[["eligible"]].iloc[0]
        assert in_phase["events"].sum() == at_risk["events"]
        assert in_phase["person_time"].sum() == pytest.approx(at_risk["person_time"])
        assert rows.loc[["observed"]].iloc[0]["events"] == cohort.endpoints[name].event.sum()
    exposed = table[(table["step"] == "in phase") & (table["phase"] == "maintenance")]
    assert exposed["patients"].tolist() == [36, 36]
    assert exposed["what"].tolist() == ["exposed", "exposed"]


def test_repairs_and_exclusions_carry_ids() -> None:
    adsl = pd.DataFrame(
        {
            "USUBJID": ["a", "b", "c"],
            "TRTSDT": ["2015-01-01"] * 3,
            "SAFFL": ["Y", "N", "Y"],
            "M": ["2015-03", "", "2015-02-01"],
        }
    )
    adtte = pd.DataFrame(
        {
            "USUBJID": ["a", "b", "c"],
            "PARAMCD": "OS",
            "STARTDT": "2015-01-01",
            "ADT": "2015-06-01",
            "CNSR": [0, 1, 1],
        }
    )
    cohort = bb.read_adam(
        adsl,
        adtte,
        endpoints={"os": bb.AdamEndpoint(paramcd="OS")},
        unit="days",
        phases={"maintenance": "M"},
        population="SAFFL",
        repairs=bb.Repairs(partial_dates="last"),
    )
    account = cohort.account()
    assert account.patients(step="read") == ("a", "c", "b")
    assert account.patients(step="excluded", what="SAFFL is not Y") == ("b",)
    assert account.patients(step="repaired") == ("a",)
    assert (
        cohort.phase_start[0, 0] == (pd.Timestamp("2015-03-31") - pd.Timestamp("2015-01-01")).days
    )


def test_shown_without_ids() -> None:
    cohort = synthetic()
    person_time = bb.person_time(cohort, QUESTION)
    account = cohort.account() + person_time.account()
    for value in (cohort, person_time, QUESTION, account):
        for text in (repr(value), value._repr_html_()):
            assert "SYN-" not in text
            assert len(text) < 6_000
    assert "synthetic patients" in account._repr_html_()
    assert repr(account).startswith("synthetic patients\n")
    assert account.to_markdown().splitlines()[0].startswith("| step | endpoint | phase | what |")
    assert account.to_markdown().count("\n") == len(account.lines) + 1


def test_html_is_escaped() -> None:
    account = Account(lines=(), unit="<script>")
    assert "<script>" not in account._repr_html_()
