"""A study file of stays: what it says arrives, and it can say what Python can."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.cli.application import main
from bayesblina.core.errors import DataError, SpecError
from bayesblina.estimands.regimes import KINDS, Regime, content_of, regime_of
from bayesblina.output.request import request_of
from bayesblina.patients.readers import AdamCourses
from bayesblina.studies.study_file import read_study
from bayesblina.studies.study_sections import QuestionSection, RegimeSection
from bayesblina.studies.table_sections import AdamCoursesSection, CoursesSection

PATIENTS = """id,months,died
a,10,1
b,8,0
c,6,1
"""
# a: blina and tki at once from 2 to 3, a gap of 0.2, a late row; b: a row that ends as it starts.
STAYS = """who,from,to,drug,amount,course
a,1,3,blina,20,1
a,2,4,tki,10,1
a,4.2,6,tki,30,2
a,11,12,blina,5,3
b,1,1,blina,0,1
b,2,,dasatinib,7,1
b,3,5,low blina,8,1
z,1,2,blina,8,1
"""
EVENTS = """id,term,month
a,fever,0.5
a,fever,2.5
a,rash,5
a,rash,7
b,rash,5
b,rash,6
"""
STUDY = """
schema = 1

[data]
file = "patients.csv"
patient = "id"
unit = "months"

[endpoints.os]
time = "months"
event = "died"

[courses]
file = "stays.csv"
patient = "who"
start = "from"
stop = "to"
phase = "drug"
phases = { blina = ["blina", "low blina"], tki = "tki" }
dose = "amount"
cycle = "course"
bridge = 0.25
overlap = { "blina + tki" = "both" }
order = "any"
leave_out = ["strangers", "other phases", "empty", "after"]

[question]
exposed = ["blina", "both"]
eligible_from = "entry"
measure = "cumulative"
steps = [10.0, 20.0]
amount = "dose"

[model]
name = "since_entry"

[curves]
starts = []
regimes = [
  { kind = "from", start = 2 },
  { kind = "between", start = 1, end = 6, dose = 20 },
  { kind = "cycles", start = 1, on = 4, off = 1, times = 2, dose = 9.5 },
  { kind = "with_phases", starts = { blina = 1, tki = 3 } },
]

[adverse_events]
file = "events.csv"
patient = "id"
term = "term"
start = "month"
counted = "times"
"""
REGIMES = (
    bb.From(2.0),
    bb.Between(1.0, 6.0, dose=20.0),
    bb.Cycles(start=1.0, on=4.0, off=1.0, times=2, dose=9.5),
    bb.WithPhases({"blina": 1.0, "tki": 3.0}),
)


def write(folder: Path, old: str = "", new: str = "") -> Path:
    tables = {"patients": PATIENTS, "stays": STAYS, "events": EVENTS}
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(table)
    assert old in STUDY
    path = folder / "study.toml"
    path.write_text(STUDY.replace(old, new, 1) if old else STUDY)
    return path


# The same of a question that any cohort of stays can answer.
CURRENT = ('measure = "cumulative"\nsteps = [10.0, 20.0]\namount = "dose"', 'measure = "current"')


def test_everything_arrives(tmp_path: Path) -> None:
    study = read_study(write(tmp_path))
    cohort, stays = study.cohort(), study.cohort().stays
    assert stays is not None
    assert cohort.phases == ("blina", "tki", "both")
    assert dict(cohort.combinations) == {"both": ("blina", "tki")}
    assert not cohort.ordered
    # Of a: blina to 2, both to 3, tki to 4 and over the gap to 6; of b: low blina.
    assert stays.patient.tolist() == [0, 0, 0, 0, 1]
    assert stays.phase.tolist() == [0, 2, 1, 1, 0]
    np.testing.assert_allclose(stays.start, [1, 2, 3, 4.2, 3])
    np.testing.assert_allclose(stays.stop, [2, 3, 4.2, 6, 5])
    # 20 of blina and 10 of tki, evenly over 2 months each.
    assert stays.dose is not None
    np.testing.assert_allclose(stays.dose, [10, 15, 5, 30, 8])
    assert stays.cycles.tolist() == [1, 1, 0, 1, 1]
    own = bb.read_cohort(
        tmp_path / "patients.csv",
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=bb.Courses(
            table=tmp_path / "stays.csv",
            patient="who",
            start="from",
            stop="to",
            phase="drug",
            phases={"blina": ["blina", "low blina"], "tki": "tki"},
            dose="amount",
            cycle="course",
            bridge=0.25,
            overlap={"blina + tki": "both"},
            order="any",
            leave_out=["strangers", "other phases", "empty", "after"],
        ),
    )
    assert own.stays is not None
    for item in dataclasses.fields(stays):
        np.testing.assert_array_equal(getattr(stays, item.name), getattr(own.stays, item.name))
    assert study.question() == bb.Question(
        exposed=["blina", "both"],
        eligible_from="entry",
        measure="cumulative",
        steps=(10.0, 20.0),
        amount="dose",
    )
    assert [path.name for path in study.files()] == ["patients.csv", "stays.csv", "events.csv"]
    digest = hashlib.sha256((tmp_path / "stays.csv").read_bytes()).hexdigest()
    assert cohort.file_hashes["stays.csv (stays)"] == digest


def test_regimes_arrive(tmp_path: Path) -> None:
    path = write(tmp_path, STUDY[STUDY.index("measure =") : STUDY.index("[model]")], "")
    path.write_text(path.read_text().replace("[model]", 'measure = "current"\n\n[model]', 1))
    text = path.read_text().replace('name = "since_entry"', 'name = "primary"')
    path.write_text(text)
    request = request_of(read_study(path))
    assert request.curves.regimes == (bb.Never(), *REGIMES)
    for regime in REGIMES:
        written = json.loads(json.dumps(content_of(regime)))
        assert regime_of(written) == regime


def test_a_regime_that_is_named_twice_is_one_curve() -> None:
    from bayesblina.output.request import Curves

    curves = Curves(starts=(2.0,), further=(bb.From(2.0), bb.Between(2.0, 4.0)))
    assert curves.regimes == (bb.Never(), bb.From(2.0), bb.Between(2.0, 4.0))


def test_python_and_the_study_file_take_the_same() -> None:
    """What one of them can say the other can, by the same name."""

    def fields(value: Any) -> set[str]:
        return {item.name for item in dataclasses.fields(value)}

    assert set(CoursesSection.model_fields) - {"file"} == fields(bb.Courses) - {"table"}
    assert set(AdamCoursesSection.model_fields) == fields(AdamCourses)
    assert set(QuestionSection.model_fields) == fields(bb.Question)
    assert {bb.Never, *KINDS.values()} == set(get_args(Regime))
    sections = get_args(get_args(RegimeSection)[0])
    assert {section.model_fields["kind"].default for section in sections} == set(KINDS)
    for section in sections:
        regime = KINDS[section.model_fields["kind"].default]
        assert set(section.model_fields) - {"kind"} == fields(regime)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bridge = 0.25", "bridges = 0.25", r"courses\.bridges: unknown key\. Nearest: bridge"),
        ("bridge = 0.25", "bridge = -1", r"courses\.bridge: .*greater than or equal to 0"),
        ("bridge = 0.25", 'before_origin = "cut"', r"courses\.before_origin: .*'clip'"),
        ('file = "stays.csv"\n', "", r"courses\.file: Field required"),
        ('"any"', '"some"', r"courses\.order: Input should be 'listed' or 'any'"),
        ('"after"]', '"late"]', r"courses\.leave_out\.3: .*'after'"),
        ('tki = "tki" }', "tki = 3 }", r"courses\.phases\.tki: .*valid string; or: .*valid list"),
        ('"both" }', "2 }", r"courses\.overlap\.blina \+ tki: Input should be a valid string\."),
        ('["blina", "both"]', '["blina", "all"]', r"question\.exposed: .*no phase 'all'.*both"),
        ('["blina", "both"]', '["blina", 2]', r"question\.exposed\.1: Input should be a valid str"),
        ('["blina", "both"]', "2", r"question\.exposed: .*valid string; or: .*valid list"),
        ('"cumulative"', '"dose"', r"question\.measure: .*'cumulative' or 'episode'"),
        ("[10.0, 20.0]", "[0.0]", r"question\.steps\.0: .*greater than 0"),
        ("end = 6", "stop = 6", r"curves\.regimes\.1\.stop: unknown key.*kind, start, end, dose"),
        ('"between"', '"until"', r"curves\.regimes\.1: .*'from', 'between', 'cycles'"),
        ("times = 2", "times = 0", r"curves\.regimes\.2\.times: .*greater than or equal to 1"),
        ("[question]", '[phases]\nm = "m"\n[question]', r"\[courses\] takes the place of \[phases"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_study(write(tmp_path, old, new))


def test_grace_arrives(tmp_path: Path) -> None:
    stays = read_study(write(tmp_path, "bridge =", "grace =")).cohort().stays
    assert stays is not None
    assert stays.grace == 0.25
    # What follows the stays of `test_everything_arrives`: of a none that goes on in another phase.
    added = stays.cycles + np.where(stays.dose == 0, 0, 1) == 0
    np.testing.assert_allclose(stays.start[added], [4, 6, 5])
    np.testing.assert_allclose(stays.stop[added], [4.2, 6.25, 5.25])
    with pytest.raises(SpecError, match="bridge and grace are two answers to one question"):
        read_study(write(tmp_path, "bridge =", "grace = 0.5\nbridge =")).cohort()


def test_what_only_the_tables_tell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)1 problem in stays\.csv.*'b'|rows? 5"):
        read_study(write(tmp_path, '"empty", ', "")).cohort()
    with pytest.raises(DataError, match=r"no such file"):
        read_study(write(tmp_path, '"stays.csv"', '"none.csv"')).cohort()
    with pytest.raises(SpecError, match="nothing is known of doses"):
        request_of(read_study(write(tmp_path, 'dose = "amount"\n', "")))


def test_the_account_says_what_became_of_every_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, *CURRENT)
    path.write_text(path.read_text().replace('"since_entry"', '"primary"'))
    assert main(["validate", str(path), "--json"]) == 0
    valid = json.loads(capsys.readouterr().out)
    counts = {line["what"]: line["patients"] for line in valid["account"]}
    for words in (
        "stays of patients who are not in the cohort were left out",
        "stays in phases that are not listed were left out",
        "stays that end as they start were left out",
        "stays that start after the end of follow-up were left out",
        "overlapping stays are in one of their combinations: both",
        "gaps of up to 0.25 months are none, which looks ahead: nobody has the event in one",
    ):
        assert counts[words] == 1, words
    assert main(["validate", str(path)]) == 0
    assert "gaps of up to 0.25 months are none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("measure", "phases"),
    [
        # While in it; a's gap is bridged, and she is off treatment from 6, b from 5 on.
        ("current", ["before any phase", "both", "tki", "off treatment", "blina", "off treatment"]),
        # In it until another phase.
        ("ever", ["before any phase", "both", "tki", "tki", "blina", "blina"]),
    ],
)
def test_adverse_events_belong_to_the_state_at_their_time(
    tmp_path: Path, measure: str, phases: list[str]
) -> None:
    study = read_study(write(tmp_path, CURRENT[0], f'measure = "{measure}"'))
    events = study.adverse_events(study.cohort())
    assert events is not None
    if measure == "current":
        # b's last stay ends at 5: an event at that moment is after it.
        phases = [*phases[:4], "off treatment", "off treatment"]
    assert [events.phases[phase] for phase in events.phase] == phases
    times = dict(zip(events.phases, events.person_time.sum(axis=0), strict=True))
    assert times["before any phase"] == pytest.approx(1 + 3 + 6)
    off = {"current": 4 + 3, "ever": 0}[measure]
    assert times.get("off treatment", 0) == pytest.approx(off)
    assert times["tki"] == pytest.approx({"current": 3, "ever": 7}[measure])
