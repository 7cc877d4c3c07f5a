"""A masked folder is attacked as a whole: tables, figures, summary, report and Word together."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from docx import Document
from scipy.optimize import linprog

import bayesblina as bb
from bayesblina import tables
from bayesblina.cli.gates import gates
from bayesblina.core.csv_files import to_csv
from bayesblina.core.errors import StorageError
from bayesblina.core.masking import MASK, Masked, mask_account
from bayesblina.core.masking.tables import coarse_times, mask_safety, read_observed, without_counts
from bayesblina.output.report import folder as report_folder
from bayesblina.output.report.hiding import without_few
from bayesblina.output.report.results import Results, read_results
from bayesblina.patients.account import Account
from bayesblina.patients.cohort import Cohort

QUESTION = bb.Question(exposed="m", eligible_from="entry")
MINIMUM = 5
ENDS = ("os", "rfs")
PRIVATE = {"fit.nc", "unmasked.json"}


def cohort(exposed: int, events: int, *, patients: int = 90, seed: int = 5) -> Cohort:
    """Make patients of whom so many enter the later phase, and so many of these die in it.

    Of the other endpoint there are enough events everywhere, but few at risk late.
    """
    generator = np.random.default_rng([seed, exposed, events])
    time = np.round(generator.uniform(6.0, 40.0, patients), 3)
    who = np.arange(patients) < exposed
    start = np.where(who, np.round(time * 0.3, 3), np.nan)
    died = (np.arange(patients) % 2 == 0) & ~who
    died[:events] = True
    sick = np.where(who, np.arange(patients) % 2, np.arange(patients) % 3 > 0).astype(int)
    table = pd.DataFrame(
        {"id": range(patients), "t": time, "d": died.astype(int), "s": sick, "m": start}
    )
    table["r"] = np.round(np.where(who, time * 0.9, time * 0.8), 3)
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="t", event="d"),
            "rfs": bb.Endpoint(time="r", event="s"),
        },
        phases=bb.Phases(m="m"),
    )


def written(folder: Path, patients: Cohort) -> Results:
    """Write a masked folder as the command does."""
    fit = bb.fit(patients, QUESTION, seed=1, draws=60, tune=100, chains=2, progress=False)
    analysis = bb.analyse(
        patients,
        QUESTION,
        fit=fit,
        landmark=8.0,
        landmarks=[12.0],
        starts=[8.0],
        title="Few",
        minimum_count=MINIMUM,
    )
    return read_results(analysis.write(folder))


# Few events in the phase, few patients in it, and a phase with enough of both.
KINDS = {"few events": (30, 3), "few patients": (3, 2), "enough": (36, 12)}


@pytest.fixture(scope="module", params=KINDS)
def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Results]:
    folder = tmp_path_factory.mktemp("few")
    return request.param, folder, written(folder, cohort(*KINDS[request.param]))


def published(folder: Path) -> dict[str, pd.DataFrame]:
    """Read every table that is handed on, as texts."""
    return {
        path.stem: pd.read_csv(path, dtype=str, keep_default_na=False)
        for path in folder.glob("*.csv")
    }


COUNTS = (
    "patients",
    "events",
    "events_exposed",
    "events_reference",
    "with_event",
    "observed",
    "observed_reference",
    "at_risk",
    "evaluated",
    "patients_above_limit",
)


def test_no_small_count_stands_in_any_table(attacked: tuple[str, Path, Results]) -> None:
    _, folder, whole = attacked
    small = 0
    for name, table in published(folder).items():
        for column in set(COUNTS) & set(table):
            cells = [float(cell) for cell in table[column] if cell not in ("", MASK)]
            assert all(cell == 0 or cell >= MINIMUM for cell in cells), (name, column)
            if column in whole.tables[name]:
                small += int(whole.tables[name][column].between(1, MINIMUM - 1).sum())
    assert small > 10


def test_sums_orders_and_numbers_at_risk_leave_all_small_numbers_possible(
    attacked: tuple[str, Path, Results],
) -> None:
    """The adversary's own linear program over account and numbers at risk together."""
    _, folder, whole = attacked
    told = published(folder)
    flow, risk = told["patient_flow"], told["at_risk"]
    names = [f"{i}.{c}" for i in flow.index for c in ("patients", "events") if flow[c][i] != ""]
    names += [f"risk.{i}" for i in risk.index]
    place = {name: index for index, name in enumerate(names)}
    bounds: list[tuple[float, float | None]] = []
    for name in names:
        first, second = name.split(".")
        cell = risk["at_risk"][int(second)] if first == "risk" else flow[second][int(first)]
        # Zero would be shown: what is hidden is at least 1.
        bounds.append((1, None) if cell == MASK else (float(cell), float(cell)))
    equal, less = [], []

    def row(terms: dict[str, float]) -> list[float]:
        values = np.zeros(len(names))
        for name, sign in terms.items():
            values[place[name]] += sign
        return list(values)

    def of(step: str, endpoint: str) -> list[int]:
        return list(flow.index[(flow["step"] == step) & (flow["endpoint"] == endpoint)])

    (read,) = flow.index[flow["step"] == "read"]
    for endpoint in ("os", "rfs"):
        (eligible,) = of("eligible", endpoint)
        inside, left = of("in phase", endpoint), of("left out", endpoint)
        equal.append(
            row(
                {f"{read}.patients": 1, f"{eligible}.patients": -1}
                | {f"{one}.patients": -1.0 for one in left}
            )
        )
        equal.append(row({f"{eligible}.events": 1} | {f"{one}.events": -1.0 for one in inside}))
        for one in inside:
            less.append(row({f"{one}.events": 1, f"{one}.patients": -1}))
            less.append(row({f"{one}.patients": 1, f"{eligible}.patients": -1}))
        own = risk[risk["endpoint"] == endpoint]
        for _, rows in own.groupby(["landmark", "time"]):
            terms = {f"risk.{one}": 1.0 for one in rows.index}
            less.append(row(terms | {f"{eligible}.patients": -1}))
        for index, line in own.iterrows():
            less += [
                row({f"risk.{index}": 1, f"{one}.patients": -1})
                for one in inside
                if flow["phase"][one] == line["group"]
            ]
    # The truth fulfils the adversary's system, or it would prove nothing.
    truth = np.array(
        [
            whole.tables["at_risk"]["at_risk"][int(second)]
            if first == "risk"
            else whole.tables["patient_flow"][second][int(first)]
            for first, second in (name.split(".") for name in names)
        ],
        dtype=float,
    )
    np.testing.assert_allclose(np.array(equal) @ truth, 0)
    assert (np.array(less) @ truth <= 1e-9).all()
    tried = 0
    for index, value in enumerate(truth):
        if not 0 < value < MINIMUM:
            continue
        tried += 1
        ends = []
        for sign in (1.0, -1.0):
            cost = np.zeros(len(names))
            cost[index] = sign
            found = linprog(
                cost,
                A_eq=equal,
                b_eq=np.zeros(len(equal)),
                A_ub=less,
                b_ub=np.zeros(len(less)),
                bounds=bounds,
            )
            ends.append(np.inf if found.fun is None else sign * found.fun)
        assert ends[0] <= 1 + 1e-6, names[index]
        assert abs(ends[1]) >= MINIMUM - 1e-6, names[index]
    assert tried


def test_no_estimate_of_a_withheld_endpoint_is_anywhere(
    attacked: tuple[str, Path, Results],
) -> None:
    """An interval tells its events: in no table, no figure, no sentence does one of them stand."""
    kind, folder, whole = attacked
    withheld = {"few events": {"os"}, "few patients": {"os", "rfs"}, "enough": set()}[kind]
    counts = {"patient_flow", "at_risk", "safety", "diagnostics"}
    for name, table in published(folder).items():
        if name not in counts and "endpoint" in table:
            assert not withheld & set(table["endpoint"]), name
    for endpoint in ("os", "rfs"):
        there = (folder / f"survival_{endpoint}.svg").is_file()
        assert there == (endpoint not in withheld)
    assert (folder / "hazard_ratio.svg").is_file() == (len(withheld) < 2)
    text = (folder / "summary.md").read_text()
    page = (folder / "report.html").read_text(encoding="utf-8")
    # Every hazard ratio, however it is written, as it was computed.
    for row in whole.tables["hazard_ratios"].to_dict("records"):
        words = f"{row['endpoint'].upper()}: hazard ratio"
        assert (words in text) == (row["endpoint"] not in withheld)
        assert (f"/{row['endpoint']}" in page) == (row["endpoint"] not in withheld)
    ladder = published(folder)["bias_ladder"].set_index("method")
    if withheld:
        with pytest.raises(KeyError):
            ladder[ladder["endpoint"] == "os"].loc["time-varying Cox", "estimate"]


def test_steps_of_observed_curves_stand_for_no_few_events(
    attacked: tuple[str, Path, Results],
) -> None:
    """Between two bends of a curve there are none or many events, and many are at risk."""
    kind, folder, whole = attacked
    told = pd.read_csv(folder / "simon_makuch.csv")
    assert set(told["at_risk"]) | set(told["events"]) <= {MASK}
    true = whole.tables["simon_makuch"]
    curves = 0
    for (endpoint, landmark, group), rows in told.groupby(["endpoint", "landmark", "group"]):
        curves += 1
        own = true[
            (true["endpoint"] == endpoint)
            & (true["landmark"] == landmark)
            & (true["group"] == group)
        ].sort_values("time")
        last = rows["time"].max()
        assert own.loc[own["time"] <= last, "at_risk"].min() >= MINIMUM
        shown = own.loc[own["time"] <= last, "events"].sum()
        rest = own["events"].sum() - shown
        assert shown == 0 or shown >= MINIMUM
        assert rest == 0 or rest >= MINIMUM
        # Straight lines between points that are many events apart are all there is: nothing else
        # of the true steps is left.
        times = rows["time"].to_numpy()
        seen = np.searchsorted(own["time"], times, side="right") - 1
        events = own["events"].cumsum().to_numpy()[seen]
        bends = [0]
        for index in range(len(times)):
            if events[index] >= events[bends[-1]] + MINIMUM:
                bends.append(index)
        if events[-1] > events[bends[-1]]:
            bends[-1:] = []
        line = np.interp(times, times[[*bends, -1]], own["survival"].to_numpy()[seen[[*bends, -1]]])
        np.testing.assert_allclose(rows["survival"], line, atol=0.00501)
        np.testing.assert_allclose(rows["survival"], rows["survival"].round(2))
    assert bool(curves) == (kind != "few patients")


def test_figures_show_no_small_number_at_risk(attacked: tuple[str, Path, Results]) -> None:
    _, folder, whole = attacked
    for path in folder.glob("survival_*.svg"):
        # matplotlib writes the texts of a figure as comments beside their outlines.
        words = re.findall(r"<!-- (.*?) -->", path.read_text())
        risk = published(folder)["at_risk"]
        own = (risk["endpoint"] == path.stem[len("survival_") :]) & (risk["landmark"] == "8.0")
        assert words.count(MASK) == (risk[own]["at_risk"] == MASK).sum()
        ticks = {f"{one:g}" for one in whole.tables["at_risk"]["time"].unique()}
        numbers = [one for one in words if re.fullmatch(r"\d+", one) and one not in ticks]
        assert numbers
        assert all(int(one) == 0 or int(one) >= MINIMUM for one in numbers), path.name


def test_no_hash_lets_guesses_be_tried(attacked: tuple[str, Path, Results]) -> None:
    """Whoever knows all but one cell of a table would find it by the table's hash."""
    _, folder, whole = attacked
    record = json.loads((folder / "results.json").read_text())
    known = set(record["sha256"].values()) | {record["cohort_sha256"]}
    for name, table in whole.tables.items():
        digest = hashlib.sha256(to_csv(table).encode()).hexdigest()
        same = (folder / f"{name}.csv").read_text() == to_csv(table)
        assert same or digest not in known, name
    content = (folder / "unmasked.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() not in known
    seal = json.loads(content)["seal"]
    for path in folder.iterdir():
        if path.name in PRIVATE:
            assert path.stat().st_mode & 0o777 == 0o600
        elif path.suffix != ".png":
            assert seal not in path.read_text(encoding="utf-8")
    summary = (folder / "summary.md").read_text()
    assert "Not to be handed on: fit.nc, unmasked.json" in summary


def test_a_folder_is_masked_again_from_what_it_keeps(
    attacked: tuple[str, Path, Results],
) -> None:
    kind, folder, whole = attacked
    if kind != "enough":
        pytest.skip("one kind of folder shows it")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    bb.write_report(folder, minimum_count=20)
    assert (published(folder)["at_risk"]["at_risk"] == MASK).sum() > (
        pd.read_csv(folder / "at_risk.csv").shape[0] // 3
    )
    bb.write_report(folder, minimum_count=1)
    assert not (folder / "unmasked.json").exists()
    shown = read_results(folder)
    for name, table in whole.tables.items():
        pd.testing.assert_frame_equal(shown.tables[name], table)
    bb.write_report(folder, minimum_count=MINIMUM)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert [name for name in before if after[name] != before[name]] == []


def test_what_a_masked_folder_keeps_is_needed_and_checked(
    attacked: tuple[str, Path, Results], tmp_path: Path
) -> None:
    kind, folder, _ = attacked
    if kind != "few patients":
        pytest.skip("one kind of folder shows it")
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    kept = tmp_path / "unmasked.json"
    content = json.loads(kept.read_text())
    content["tables"]["patient_flow"] = content["tables"]["patient_flow"].replace("90", "91")
    kept.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=r"unmasked\.json' was changed after the analysis"):
        read_results(tmp_path)
    kept.write_text("{")
    with pytest.raises(StorageError, match=r"unmasked\.json' is damaged"):
        read_results(tmp_path)
    kept.unlink()
    with pytest.raises(StorageError, match=r"unmasked\.json' is missing, which belongs"):
        read_results(tmp_path)


# Word.


def cells(path: Path) -> list[list[str]]:
    (table,) = Document(str(path)).tables
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_word_tables_tell_no_small_count(tmp_path: Path) -> None:
    patients = cohort(30, 3)
    ladder = bb.bias_ladder(patients, QUESTION, landmarks=[8.0])
    tables.bias_ladder(ladder, minimum=MINIMUM).write(tmp_path / "ladder.docx")
    rows = cells(tmp_path / "ladder.docx")
    # Of os 3 die in the phase: no rung is left. Of rfs there are enough on both sides.
    shown = {name: [" to " in " ".join(row) for row in rows if row[0] == name] for name in ENDS}
    assert not any(shown["os"])
    assert all("–" in row for row in rows if row[0] == "os")
    assert any(shown["rfs"])
    few = ladder[ladder["events_exposed"].between(1, 4)]["endpoint"].unique()
    assert list(few) == ["os"]
    events = pd.DataFrame(
        {
            "phase": ["c", "m", "n"],
            "patients": [90, 30, 4],
            "with_event": [50, 3, 4],
            "share": [50 / 90, 0.1, 1.0],
            "events": [80, 3, 7],
            "person_time": [900.0, 301.5, 11.5],
        }
    )
    tables.adverse_events(events, unit="months", minimum=MINIMUM).write(tmp_path / "ae.docx")
    adverse = cells(tmp_path / "ae.docx")[1:]
    assert adverse[0][1:5] == ["90", "50", "55.6", "80"]
    assert adverse[1][1:5] == ["30", MASK, "–", MASK]
    assert adverse[2][1:] == [MASK, MASK, "–", MASK, MASK]


@pytest.mark.parametrize("wrong", [0, True, 2.5])
def test_word_tables_take_a_whole_minimum(wrong: int) -> None:
    row = {"phase": "m", "patients": 9, "with_event": 5, "share": 0.5, "events": 8}
    with pytest.raises(bb.errors.SpecError, match="minimum must be at least 1"):
        tables.adverse_events(pd.DataFrame([row]), unit="months", minimum=wrong)


# Parts.


def test_numbers_at_risk_are_audited_with_the_account() -> None:
    """43 less those eligible, of whom 39 are at risk later, are at most 4 who were left out."""
    rows = [
        ("read", "", "", "patients", 43, None),
        ("left out", "os", "", "never reached c", 3, None),
        ("eligible", "os", "", "at risk", 40, 20),
    ]
    columns = ["step", "endpoint", "phase", "what", "patients", "events"]
    table = pd.DataFrame(rows, columns=columns).assign(person_time=float("nan"))
    table["events"] = table["events"].astype("Int64")
    risk = pd.DataFrame(
        {"endpoint": "os", "group": ["m", "no m"], "landmark": 0.0, "time": 2.0}
    ).assign(at_risk=[14, 25])
    alone = mask_account(table, minimum=5)
    assert alone.masked.hidden == {"1.patients", "2.patients"}
    both = mask_account(table, minimum=5, at_risk=risk)
    # One of the two is hidden as well, or the number read: else 4 would be the most.
    assert both.masked.hidden & {"0.at_risk", "1.at_risk", "0.patients"}


def test_observed_curves_are_read_where_enough_events_have_come() -> None:
    """20 patients, one event a month from 1 to 12: read at 5 and 10, which takes the last two."""
    time = np.arange(13.0)
    survival = np.cumprod(np.r_[1.0, 1 - 1 / (20.0 - np.arange(12))])
    rows = pd.DataFrame(
        {"time": time, "survival": survival, "at_risk": 20 - np.r_[0, np.arange(12)]}
    ).assign(events=np.r_[0, np.ones(12)])
    at, values = read_observed(rows, time, minimum=5)
    # 8 to 12: at least 5 at the end, and 7 of the 12 in the second part.
    assert at.tolist() == time.tolist()
    expected = np.interp(time, [0.0, 5.0, 12.0], survival[[0, 5, 12]]).round(2)
    np.testing.assert_array_equal(values, expected)
    # With 3 events in all there is nothing to read; with none a line.
    few = rows[rows["time"] <= 3]
    assert read_observed(few, time, minimum=5)[0].size == 0
    flat = rows.assign(events=0.0, survival=1.0)
    assert read_observed(flat, time, minimum=5)[1].tolist() == [1.0] * 13
    # 4 events after the 9th month are few: the curve ends where they and 5 more are left.
    at, _ = read_observed(rows.assign(at_risk=np.where(time > 9, 3, 9)), time, minimum=5)
    assert at[-1] == 7.0


def test_words_keep_no_small_count_and_no_exact_time() -> None:
    few = Masked(minimum=5, hidden=frozenset(), values=frozenset({33}))
    words = "os2: 2 of 33 patients (12 events, 0.36, 1,204 rows) until 35.70473, from 8 on"
    assert without_counts(words, few) == (
        f"os2: {MASK} of {MASK} patients (12 events, 0.36, 1,204 rows) until 35.7, from 8 on"
    )


def test_times_of_curves_are_nobodys_own() -> None:
    table = pd.DataFrame({"time": [365.25, 35.70473], "horizon": [35.70473, 2.0]})
    shown = coarse_times(table, landmarks=[365.25])
    assert shown["time"].tolist() == [365.25, 35.7]
    assert shown["horizon"].tolist() == [35.7, 2.0]


def test_person_time_of_a_hidden_phase_does_not_follow_from_safety() -> None:
    """A phase's person-time that the account hides, with its rate, is not in the other table."""
    row = {"phase": "c", "patients": 86, "with_event": 71, "share": 0.826, "events": 169}
    row |= {"person_time": 510.01, "rate_per_year_median": 3.98}
    shown = mask_safety(
        pd.DataFrame([row]),
        Masked(minimum=5, hidden=frozenset(), values=frozenset()),
        timeless={"c"},
    ).iloc[0]
    assert shown["person_time"] == MASK
    assert np.isnan(shown["rate_per_year_median"])
    assert shown["events"] == 169


def test_an_account_of_nobody_hides_nothing() -> None:
    empty = Account(lines=(), unit="months").table
    assert mask_account(empty, minimum=5).masked.hidden == frozenset()


def account_of(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Make an account without person-time."""
    columns = ["step", "endpoint", "phase", "what", "patients", "events"]
    table = pd.DataFrame(rows, columns=columns).assign(person_time=float("nan"))
    table["events"] = table["events"].astype("Int64")
    return table


def test_transitions_add_up_to_the_events_of_their_endpoints() -> None:
    """57 events of relapse-free survival less 54 relapses are 3 deaths in remission."""
    table = account_of(
        ("read", "", "", "patients", 120, None),
        ("observed", "os", "", "under observation", 120, 30),
        ("observed", "rfs", "", "under observation", 120, 57),
        ("order", "os", "", "followed after an event of rfs", 54, 27),
        ("eligible", "relapse", "", "at risk", 120, 54),
        ("eligible", "death in remission", "", "at risk", 120, 3),
        ("eligible", "death after relapse", "", "at risk", 54, 27),
    )
    hidden = mask_account(table, minimum=5).masked.hidden
    # One way is rfs less relapses, the other os less deaths after relapse: both are closed.
    assert "5.events" in hidden
    assert hidden & {"2.events", "4.events"}
    assert hidden & {"1.events", "6.events"}
    # And deaths after relapse stand a second time, among those who are followed after it.
    assert ("6.events" in hidden) == ("3.events" in hidden) or "1.events" in hidden


def test_those_who_lie_so_to_an_event_have_it() -> None:
    """Of 33 deaths 30 came to those censored for relapse: at most 3 followed a relapse."""
    rows = [
        ("read", "", "", "patients", 90, None),
        ("observed", "os", "", "under observation", 90, 33),
        ("observed", "rfs", "", "under observation", 90, 55),
        ("order", "os", "", "followed after an event of rfs (includes: not declared)", 55, 2),
        ("order", "rfs", "", "censored before an event of os (includes: not declared)", 30, 0),
    ]
    hidden = mask_account(account_of(*rows), minimum=5).masked.hidden
    assert "3.events" in hidden
    assert hidden & {"1.events", "4.patients"}
    # With fewer who are censored 2 may as well be 5, and nothing else need be hidden.
    rows[4] = (*rows[4][:4], 20, 0)
    assert mask_account(account_of(*rows), minimum=5).masked.hidden == {"3.events"}


def test_person_time_is_told_of_phases_whose_starts_alone_are_hidden() -> None:
    """Starts have no person-time: those that are hidden hide none of adverse events."""
    folder_table = account_of(
        ("read", "", "", "patients", 90, None),
        ("phase start", "os", "c", "during follow-up", 3, None),
        ("eligible", "os", "", "at risk", 90, 33),
        ("in phase", "os", "c", "reference", 90, 33),
    )
    found = mask_account(folder_table, minimum=5)
    assert 1 in found.times
    assert not {2, 3} & found.times


def test_what_a_machine_is_told_of_the_gate_leaves_out_withheld_endpoints(
    attacked: tuple[str, Path, Results],
) -> None:
    """The sd of a log hazard ratio tells its events: 1 / sd² less the prior's precision."""
    kind, _, whole = attacked
    left = without_few(whole, minimum=MINIMUM)
    told = gates(whole.fit, withheld=left.withheld)["baseline_gate"]
    withheld = {"few events": {"os"}, "few patients": {"os", "rfs"}, "enough": set()}[kind]
    assert {row["endpoint"] for row in told} == {"os", "rfs"} - withheld


def test_what_follows_anyway_does_not_tell_a_hidden_number() -> None:
    """90 less 83 are 7: a mask there would say that 7 and 3 are the 10 events not in c."""
    table = account_of(
        ("read", "", "", "patients", 90, None),
        ("left out", "os", "", "never reached c", 7, None),
        ("eligible", "os", "", "at risk", 83, 35),
        ("in phase", "os", "c", "reference", 83, 25),
        ("in phase", "os", "m", "exposed", 30, 7),
        ("in phase", "os", "l", "reference", 8, 3),
    )
    masked = mask_account(table, minimum=5).masked
    assert masked.hidden == {"4.events", "5.events"}
    # In a sentence 7 tells of the one as of the other.
    assert not masked.shows(7)


def test_a_folder_that_is_killed_while_it_is_masked_again_stays_whole(
    attacked: tuple[str, Path, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is touched until all is written; what is left over goes with the next."""
    kind, folder, _ = attacked
    if kind != "few patients":
        pytest.skip("one kind of folder shows it")
    place = tmp_path / "results"
    shutil.copytree(folder, place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(report_folder, "write_figure", killed)
        patched.setattr(report_folder, "seal_record", killed)
        for minimum in (1, 20):
            with pytest.raises(KeyboardInterrupt):
                bb.write_report(place, minimum_count=minimum)
            assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    bb.write_report(place, minimum_count=1)
    assert not (place / "unmasked.json").exists()
    assert {path.name for path in place.iterdir() if path.name.startswith(".")} == set()
    assert (read_results(place).tables["at_risk"]["at_risk"] > 0).any()
