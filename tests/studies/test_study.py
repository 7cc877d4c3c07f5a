"""A study file says all, in a closed vocabulary; what is wrong is told at once."""

from pathlib import Path

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.hazards.parts import Commensurate, RandomWalk
from bayesblina.studies.study_file import Study, read_study
from tests.paths import ROOT

TABLE = """id,months,died,entry,c_month,m_month,m_end,sct,age,sex
a,4,1,0,1,2,3,,50,f
b,9,1,1,2,,,8,61,m
c,12,0,,3,5,12,,44,f
"""
STUDY = """
schema = 1
title = "A study"

[data]
file = "data/patients.csv"
patient = "id"
unit = "months"
transplant = "sct"
covariates = ["age", "sex"]
repairs = { zero_times = 0.1 }

[endpoints.os]
time = "months"
event = "died"

[endpoints.rfs]
time = "months"
event = "died"
entry = "entry"

[phases]
consolidation = "c_month"
maintenance = { start = "m_month", end = "m_end" }

[question]
exposed = "maintenance"
eligible_from = "consolidation"
endpoints = ["os"]
landmark = 1
lag = 0.5
phase_end = "ever"
transplant = "censor"

[model]
name = "primary"
priors = { phases = [0.1, 10], covariates = [0.5, 2.0], level = [0.1, 10.0], step = [0.2, 5.0] }

[fit]
cuts = [3, 6.5]
draws = 200
tune = 300
chains = 2
cores = 1
seed = 7

[curves]
landmark = 2
times = [2, 3.5]
starts = [2.0, 4]
thresholds = [0.8]
"""


def write(folder: Path, text: str = STUDY) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "patients.csv").write_text(TABLE)
    path = folder / "study.toml"
    path.write_text(text)
    return path


def read(folder: Path, old: str = "", new: str = "") -> Study:
    assert old in STUDY
    return read_study(write(folder, STUDY.replace(old, new) if old else STUDY))


def test_everything_arrives(tmp_path: Path) -> None:
    study = read(tmp_path)
    cohort = study.cohort()
    assert cohort.patients.tolist() == ["a", "b", "c"]
    assert tuple(cohort.endpoints) == ("os", "rfs")
    assert cohort.phases == ("consolidation", "maintenance")
    assert cohort.phase_ends_known
    assert cohort.transplant is not None
    assert {name: value.kind for name, value in cohort.covariates.items()} == {
        "age": "continuous",
        "sex": "categorical",
    }
    assert not cohort.synthetic
    assert [repair.count for repair in cohort.repairs] == [0]
    assert study.question() == bb.Question(
        exposed="maintenance",
        eligible_from="consolidation",
        endpoints=("os",),
        landmark=1.0,
        lag=0.5,
        phase_end="ever",
        transplant="censor",
    )
    model = study.model()
    assert model.phases.prior.hazard_ratio == (0.1, 10.0)
    assert model.covariates.prior.hazard_ratio == (0.5, 2.0)
    assert isinstance(model.baseline, RandomWalk)
    assert model.baseline.level.hazard_ratio == (0.1, 10.0)
    assert model.baseline.step.hazard_ratio == (0.2, 5.0)
    assert study.content.curves.starts == [2.0, 4.0]
    fit = study.content.fit
    assert (fit.cuts, fit.draws, fit.tune, fit.chains, fit.cores, fit.seed) == (
        [3.0, 6.5],
        200,
        300,
        2,
        1,
        7,
    )
    assert study.content.curves.thresholds == [0.8]


def test_only_the_needful(tmp_path: Path) -> None:
    text = STUDY[: STUDY.index("[model]")].replace('endpoints = ["os"]\n', "")
    study = read_study(write(tmp_path, text))
    assert study.model() == bb.load_model("primary")
    assert study.question().endpoints is None
    assert study.content.curves.starts == []
    assert (study.content.fit.draws, study.content.fit.chains) == (1000, 4)


def test_covariates_with_kinds(tmp_path: Path) -> None:
    kinds = '{ age = "categorical", sex = "categorical" }'
    study = read(tmp_path, '["age", "sex"]', kinds)
    assert {value.kind for value in study.cohort().covariates.values()} == {"categorical"}


def test_own_model_beside_the_study(tmp_path: Path) -> None:
    source = ROOT / "models" / "primary.toml"
    text = source.read_text().replace('name = "primary"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(text)
    assert read(tmp_path, 'name = "primary"', 'file = "mine.toml"').model().name == "mine"
    with pytest.raises(SpecError, match="No model file"):
        read(tmp_path, 'name = "primary"', 'file = "none.toml"').model()
    with pytest.raises(SpecError, match=r"expected a \.toml file"):
        read(tmp_path, 'name = "primary"', 'file = "primary"').model()
    with pytest.raises(SpecError, match="not both"):
        read(tmp_path, 'name = "primary"', 'name = "primary"\nfile = "mine.toml"')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", r"schema: Input should be 1"),
        ("schema = 1", "", r"schema: Field required"),
        ("[fit]", "[fitt]", r"fitt: unknown key. Nearest: fit"),
        ("draws = 200", "draw = 200", r"fit.draw: unknown key. Nearest: draws"),
        ("draws = 200", "draws = 200.5", r"fit.draws"),
        ("draws = 200", "draws = true", r"fit.draws"),
        ("seed = 7", "seed = -7", r"fit.seed"),
        ('unit = "months"', 'unit = "month"', r"data.unit.*'months'"),
        ('file = "data/patients.csv"', "", r"data.file: Field required"),
        ("zero_times = 0.1", "zero_time = 0.1", r"data.repairs.zero_time: .*zero_times"),
        ('["age", "sex"]', '["age", "age"]', r"data.covariates: a column stands twice"),
        ('["age", "sex"]', "[1]", r"data.covariates: expected column names"),
        ('["age", "sex"]', '{ age = "number" }', r"data.covariates.age.*'continuous'"),
        ('entry = "entry"', 'entri = "entry"', r"endpoints.rfs.entri: .*entry"),
        ('end = "m_end"', 'stop = "m_end"', r"phases.maintenance.stop: .*start, end"),
        ("lag = 0.5", "lag = inf", r"question.lag"),
        ('exposed = "maintenance"', "", r"question.exposed: Field required"),
        ('transplant = "censor"', 'transplant = "drop"', r"question.transplant.*'ignore'"),
        ("phases = [0.1, 10]", "phases = [10, 0.1]", r"lower < upper"),
        ("phases = [0.1, 10]", "phases = [10]", r"model.priors.phases"),
        ("step = [0.2, 5.0]", "step = [0, 5.0]", r"model.priors.step"),
        ("starts = [2.0, 4]", "starts = [-1]", r"curves.starts.0"),
        ("starts = [2.0, 4]", "start = [1]", r"curves.start: unknown key. Nearest: starts"),
        ("schema = 1", "schema =", r"not valid TOML"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(tmp_path, old, new)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = STUDY.replace("draws", "draw").replace("starts", "start")
    with pytest.raises(SpecError, match=r"2 problems in study\.toml"):
        read_study(write(tmp_path, text))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No study file"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="is a folder"):
        read_study(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(SpecError, match="not UTF-8"):
        read_study(tmp_path / "latin.toml")


def test_data_are_checked_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"months2: no such column. Nearest: months"):
        read(
            tmp_path, 'time = "months"\nevent = "died"\n\n', 'time = "months2"\nevent = "died"\n\n'
        ).cohort()
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path, "data/patients.csv", "data/none.csv").cohort()


def test_what_external_patients_may_differ_in(tmp_path: Path) -> None:
    text = STUDY.replace(
        'name = "primary"', 'name = "commensurate"\nsource = "sex"\ncovers = ["baseline", "shape"]'
    )
    borrowing = read_study(write(tmp_path, text)).model().borrowing
    assert isinstance(borrowing, Commensurate)
    assert (borrowing.source, borrowing.covers) == ("sex", ("baseline", "shape"))
    with pytest.raises(SpecError, match=r"model\.covers\.0"):
        read_study(write(tmp_path, text.replace('["baseline", "shape"]', '["level"]')))
    with pytest.raises(SpecError, match="no external patients who may differ"):
        read(tmp_path, 'name = "primary"', 'name = "primary"\ncovers = ["baseline"]').model()


ADAM = """
schema = 1

[adam]
adsl = "adsl.csv"
adtte = "adtte.csv"
adex = "adex.csv"
unit = "days"
covariates = ["SEX"]
population = "SAFFL"
transplant = "SCTDT"
filters = { ADTTE = { ANL01FL = "Y" }, ADEX = { PARAMCD = ["DOSE"] } }
value = "AVAL"
value_unit = "days"
date_format = "%d%b%Y"
zero_doses = "leave out"
repairs = { partial_dates = "first" }

[adam.endpoints.os]
paramcd = "OS"
recorded = "exact"

[adam.phases]
maintenance = 3

[question]
exposed = "maintenance"
eligible_from = "entry"
transplant = "phase"

[adverse_events]
file = "adae.csv"
patient = "USUBJID"
term = "AEDECOD"
start = "ASTDT"
counted = "dates"
origin = "TRTSDT"
origins = "adsl.csv"
date_format = "%d%b%Y"
partial_dates = "first"
grade = "AESEV"
minimum_grade = "MODERATE"
flags = ["TRTEMFL"]
leave_out = ["before", "strangers"]
"""
DATASETS = {
    "adsl": """USUBJID,TRTSDT,SAFFL,SEX,SCTDT
A,01JAN2015,Y,F,
B,01FEB2015,Y,M,2015-03-10
C,,N,F,
""",
    "adtte": """USUBJID,PARAMCD,STARTDT,ADT,AVAL,CNSR,ANL01FL
A,OS,01JAN2015,10APR2015,100,0,Y
A,OS,01JAN2015,11APR2015,101,0,
B,OS,01FEB2015,11MAY2015,100,1,Y
""",
    "adex": """USUBJID,AVISIT,ASTDT,EXDOSE,PARAMCD
A,Cycle 3 Day 1,20JAN2015,0,DOSE
A,Cycle 3 Day 8,2015-02,15,DOSE
B,Cycle 1 Day 1,01FEB2015,15,DOSE
B,Cycle 3 Day 1,02FEB2015,15,PLDOSE
""",
    "adae": """USUBJID,AEDECOD,ASTDT,AESEV,TRTEMFL
A,FEVER,31JAN2015,SEVERE,Y
A,FEVER,01FEB2015,MODERATE,Y
B,RASH,10MAR2015,SEVERE,Y
B,RASH,31JAN2015,SEVERE,Y
B,RASH,2015,MILD,Y
B,RASH,soon,SEVERE,
C,RASH,soon,SEVERE,Y
""",
}


def write_adam(folder: Path, text: str = ADAM) -> Path:
    for name, table in DATASETS.items():
        (folder / f"{name}.csv").write_text(table)
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_a_study_of_adams_datasets(tmp_path: Path) -> None:
    """Every key of [adam] and [adverse_events] reaches its function."""
    study = read_study(write_adam(tmp_path))
    assert [path.name for path in study.files()] == [
        "adsl.csv",
        "adtte.csv",
        "adex.csv",
        "adae.csv",
        "adsl.csv",
    ]
    cohort = study.cohort()
    assert cohort.patients.tolist() == ["A", "B"]
    assert cohort.endpoints["os"].time.tolist() == [100, 100]
    assert cohort.endpoints["os"].recorded == "exact"
    np.testing.assert_array_equal(cohort.phase_start, [[31], [np.nan]])
    np.testing.assert_array_equal(cohort.transplant, [np.nan, 37])
    assert list(cohort.covariates) == ["SEX"]
    study.require_adverse_events()
    events = study.adverse_events(cohort)
    assert events is not None
    assert [events.phases[phase] for phase in events.phase] == [
        "before maintenance",
        "maintenance",
        "transplant",
    ]
    assert dict(events.left_out) == {
        "whose TRTEMFL is not Y": 1,
        "of patients who are not in the cohort": 1,
        "below severity MODERATE": 1,
        "that start before observation begins": 1,
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('value = "AVAL"', "", "has both ADT and AVAL"),
        ('zero_doses = "leave out"', "", r"EXDOSE: doses of 0"),
        ('value = "AVAL"', 'value = "AVAL"\nsame_day = "half day"', "same_day is for dates"),
        ('minimum_grade = "MODERATE"', "minimum_grade = 2", "two scales are not translated"),
        ('transplant = "phase"', "", "records transplants: say transplant="),
        ('counted = "dates"', "", "counted='dates' needs origin="),
    ],
)
def test_what_must_be_said_of_adam(tmp_path: Path, old: str, new: str, message: str) -> None:
    study = read_study(write_adam(tmp_path, ADAM.replace(old, new)))
    with pytest.raises((DataError, SpecError), match=message):
        study.adverse_events(study.cohort())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[question]", '[endpoints.os]\ntime = "t"\nevent = "e"\n\n[question]', "has patients"),
        ('value_unit = "days"', 'value_unit = "moons"', r"adam.value_unit"),
        ("maintenance = 3", "maintenance = 3.5", r"adam.phases.maintenance"),
        ('recorded = "exact"', 'recorded = "visits"', r"needs to know since when.*\[visits\]"),
        ('leave_out = ["before", "strangers"]', 'leave_out = ["late"]', "leave_out"),
        ("{ ANL01FL", "{ ANL01FL = 1, ANL02FL", r"filters"),
    ],
)
def test_what_adam_cannot_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_study(write_adam(tmp_path, ADAM.replace(old, new)))


def test_patients_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('schema = 1\n[question]\nexposed = "m"\neligible_from = "entry"\n')
    with pytest.raises(SpecError, match=r"\[data\] is missing; .* have \[adam\]"):
        read_study(path)


def test_validate_accounts_for_adverse_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bayesblina.cli.application import main

    assert main(["validate", str(write_adam(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "AdverseEvents(3 events of 2 terms, severity >= MODERATE in 2 patients" in printed
    assert "left out: whose TRTEMFL is not Y" in printed
    assert "ADEX doses of 0 are left out (1 rows)" in printed
    assert main(["validate", str(tmp_path / "study.toml"), "--json"]) == 0
    assert '"left out: below severity MODERATE"' in capsys.readouterr().out
