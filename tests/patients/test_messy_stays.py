"""Stays as they come: before the origin, twice, in another unit; and the grace after each."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.courses import Stays, prolong
from bayesblina.core.errors import DataError
from bayesblina.patients.stays import FAR_ENDS
from tests.patients.test_stays import COLUMNS, Row, counted, cycles_of, doses_of, read, stays_of


class TestGrace:
    """Patients count as in a phase for some time after it."""

    # A gap of 2 and one of 5, another phase 1 after the first; one stay that went on.
    ROWS: tuple[Row, ...] = (
        ("p1", 0, 10, "a"),
        ("p1", 12, 15, "a"),
        ("p1", 20, 22, "b"),
        ("p1", 23, 24, "a"),
        ("p2", 5, None, "b"),
        ("p3", 48, 50, "a"),
    )

    def test_by_hand(self) -> None:
        cohort = read(list(self.ROWS), grace=3.0)
        assert stays_of(cohort) == [
            ("p1", "a", 0.0, 10.0),
            ("p1", "a", 10.0, 12.0),  # the next one begins
            ("p1", "a", 12.0, 15.0),
            ("p1", "a", 15.0, 18.0),
            ("p1", "b", 20.0, 22.0),
            ("p1", "b", 22.0, 23.0),  # the next one begins, in another phase
            ("p1", "a", 23.0, 24.0),
            ("p1", "a", 24.0, 27.0),
            ("p2", "b", 5.0, np.inf),
            ("p3", "a", 48.0, 50.0),
            ("p3", "a", 50.0, 53.0),
        ]
        assert counted(cohort, "repaired") == [
            ("", "stays last 3 days longer, or until the next one", 2)
        ]
        assert cohort.stays is not None
        assert cohort.stays.grace == 3.0
        # To come back within the grace period is no other stay.
        assert counted(cohort, "stays") == [
            ("a", "any stay", 2),
            ("a", "more than one stay", 1),
            ("b", "any stay", 2),
        ]
        rows = cohort.to_counting_process()
        first = rows[rows["patient"] == "p1"]
        assert first["stop"].tolist() == [18.0, 20.0, 23.0, 27.0, 30.0]
        assert first["phase"].tolist() == ["a", "off treatment", "b", "a", "off treatment"]
        # Follow-up ends where it did.
        assert rows[rows["patient"] == "p3"]["stop"].tolist() == [48.0, 50.0]

    def test_nothing_is_given_and_no_cycle_begins(self) -> None:
        rows = pd.DataFrame(self.ROWS, columns=COLUMNS).fillna({"to": 40.0})
        cohort = read(rows.assign(mg=[10.0, 3.0, 4.0, 1.0, 7.0, 2.0]), grace=3.0, dose="mg")
        assert doses_of(cohort)[:4] == [10.0, 0.0, 3.0, 0.0]
        assert sum(doses_of(cohort)) == 27.0
        assert sum(cycles_of(cohort)) == 6.0
        cut = {}
        for grace in (0.0, 3.0):
            patients = read(rows.assign(mg=[10.0, 3.0, 4.0, 1.0, 7.0, 2.0]), grace=grace, dose="mg")
            for amount, step in (("dose", 9.0), ("cycles", 1.0), ("time", 11.0)):
                asked = bb.Question(
                    exposed="a",
                    eligible_from="entry",
                    measure="cumulative",
                    amount=amount,  # type: ignore[arg-type]
                    steps=(step,),
                )
                table = bb.person_time(patients, asked, cuts=[]).table["person_time"]
                cut[grace, amount] = float(table.isel(phase=2).sum())
        # From day 9 and from day 12 on, as the drug is given; 11 days of the phase are over on day
        # 13, and with 2 days of grace on day 11.
        assert cut[0.0, "dose"] == cut[3.0, "dose"] == 21.0
        assert cut[0.0, "cycles"] == cut[3.0, "cycles"] == 18.0
        assert (cut[0.0, "time"], cut[3.0, "time"]) == (17.0, 19.0)

    def test_overlaps_are_settled_before(self) -> None:
        rows: list[Row] = [("p1", 0, 10, "a"), ("p1", 5, 10, "b"), ("p2", 0, 6, "a")]
        found = stays_of(read(rows, overlap={"a + b": "both"}, grace=2.0))
        assert found == [
            ("p1", "a", 0.0, 5.0),
            ("p1", "both", 5.0, 10.0),
            ("p1", "both", 10.0, 12.0),
            ("p2", "a", 0.0, 6.0),
            ("p2", "a", 6.0, 8.0),
        ]

    def test_more_of_it_is_as_if_it_were_given_at_once(self) -> None:
        generator = np.random.default_rng(4)
        edges = np.sort(generator.uniform(0.0, 50.0, (100, 8)), axis=1)
        stays = Stays(
            patient=np.repeat(np.arange(100), 4),
            phase=generator.integers(0, 2, 400),
            start=edges[:, ::2].ravel(),
            stop=edges[:, 1::2].ravel(),
            cycles=np.ones(400),
        )
        once, who = prolong(stays, 3.0)
        twice = prolong(prolong(stays, 1.0)[0], 2.0)[0]
        assert (once.grace, twice.grace, who.size) == (3.0, 3.0, 400)
        own = once.cycles == 0
        # By a loop over stays.
        for row in range(400):
            last = row % 4 == 3
            most = np.inf if last else stays.start[row + 1]
            assert once.stop[own][row] == min(stays.stop[row] + 3.0, most)
        for of in (once, twice):
            assert of.stop[of.cycles == 0].max() == once.stop[own].max()
        total = [float((of.stop - of.start).sum()) for of in (once, twice)]
        assert total[0] == pytest.approx(total[1])


class TestBeforeTheOrigin:
    """Stays that start before time 0."""

    ROWS: tuple[Row, ...] = (
        ("p1", -6, 4, "a"),
        ("p1", -9, -7, "a"),
        ("p2", -2, 0, "b"),
        ("p3", -1, None, "b"),
        ("p3", 0, 50, "a"),
    )

    def test_refused(self) -> None:
        with pytest.raises(DataError) as caught:
            read(list(self.ROWS[:4]))
        (problem,) = caught.value.problems
        assert (problem.column, problem.rows) == ("from", (1, 2, 3, 4))
        assert problem.found == "stays that start before the origin"
        assert "before_origin='clip' of Courses cuts off" in problem.expected

    def test_clipped(self) -> None:
        rows = pd.DataFrame(self.ROWS[:4], columns=COLUMNS)
        cohort = read(rows, before_origin="clip")
        assert stays_of(cohort) == [("p1", "a", 0.0, 4.0), ("p3", "b", 0.0, np.inf)]
        assert counted(cohort, "repaired") == [
            ("", "stays that end before the origin were left out", 2),
            ("", "stays that start before the origin were cut there", 2),
        ]
        # 4 of 10 days of the dose; the cycle that was begun is one.
        dosed = read(rows[:3].assign(mg=[5.0, 1.0, 1.0]), before_origin="clip", dose="mg")
        assert doses_of(dosed) == [2.0]
        assert cycles_of(dosed) == [1.0]
        assert stays_of(read(rows[3:], before_origin="clip")) == [("p3", "b", 0.0, np.inf)]

    def test_what_overlaps_after_it_still_does(self) -> None:
        with pytest.raises(DataError, match="stays that overlap with the one before"):
            read(list(self.ROWS[3:]), before_origin="clip")


class TestTwice:
    """Rows that say what another row says."""

    ROWS: tuple[Row, ...] = (
        ("p1", 0, 10, "a"),
        ("p2", 0, None, "b"),
        ("p1", 0, 10, "a"),
        ("p2", 0, None, "b"),
        ("p1", 0, 10, "a"),
    )

    def test_refused(self) -> None:
        rows = pd.DataFrame(self.ROWS, columns=COLUMNS).fillna({"to": 40.0}).assign(mg=1.0)
        for more in ({}, {"overlap": ["a", "b"], "dose": "mg"}):
            with pytest.raises(DataError) as caught:
                read(rows, **more)
            (problem,) = caught.value.problems
            assert (problem.column, problem.rows) == ("from, to", (3, 4, 5))
            assert problem.found == "rows that say what another row says"
            assert "leave_out=['duplicates'] of Courses, which keeps one" in problem.expected

    def test_left_out(self) -> None:
        cohort = read(list(self.ROWS), leave_out=["duplicates"])
        assert stays_of(cohort) == [("p1", "a", 0.0, 10.0), ("p2", "b", 0.0, np.inf)]
        assert counted(cohort, "repaired") == [
            ("", "of rows that say the same twice, one was kept", 2)
        ]
        # Where overlaps are settled they are one stay anyway.
        settled = read(list(self.ROWS), overlap=["a", "b"])
        assert stays_of(settled) == stays_of(cohort)

    def test_another_phase_dose_or_cycle_is_another_row(self) -> None:
        rows = pd.DataFrame([("p1", 0, 10, "a")] * 2, columns=COLUMNS)
        for name, role, values in (("mg", "dose", [1.0, 2.0]), ("no", "cycle", ["1", "2"])):
            with pytest.raises(DataError, match="stays that overlap with the one before"):
                read(rows.assign(**{name: values}), **{role: name})
        # With another phase between two that are the same.
        rows = pd.DataFrame(
            [("p1", 0, 10, "a"), ("p1", 0, 10, "b"), ("p1", 0, 10, "a")], columns=COLUMNS
        )
        with pytest.raises(DataError, match=r"what another row says .*in row 3\]"):
            read(rows)


class TestAnotherUnit:
    """Stays in days beside follow-up in months."""

    @staticmethod
    def read(factor: float, unit: str, **given: Any) -> bb.Cohort:
        generator = np.random.default_rng(2)
        time = generator.uniform(5.0, 60.0, 40)
        start = time * generator.uniform(0.0, 0.5, 40)
        stop = start + (time - start) * generator.uniform(0.3, 1.0, 40)
        ids = np.array([f"p{number}" for number in range(40)])
        stays = pd.DataFrame({"pid": ids, "from": start * factor, "to": stop * factor, "drug": "a"})
        return bb.read_cohort(
            pd.DataFrame({"id": ids, "time": time, "died": 1}),
            patient="id",
            unit=unit,
            endpoints={"os": bb.Endpoint(time="time", event="died")},
            phases=bb.Courses(
                table=stays,
                patient="pid",
                start="from",
                stop="to",
                phase="drug",
                phases=["a"],
                **given,
            ),
        )

    @pytest.mark.parametrize(
        ("factor", "unit", "perhaps"),
        [
            (365.25 / 12, "months", "days"),
            (365.25, "years", "days"),
            (12.0, "years", "months"),
            (7.0, "weeks", "days"),
            (365.25 / 84, "months", "weeks"),
        ],
    )
    def test_named(self, factor: float, unit: str, perhaps: str) -> None:
        with pytest.raises(DataError) as caught:
            self.read(factor, unit)
        assert caught.value.problems[-1].expected == (
            f"Follow-up is in {unit}: give the stays in that unit, too. Perhaps the stays are in "
            f"{perhaps}?"
        )
        cohort = self.read(factor, unit, leave_out=["after"])
        # Of those in days none starts within so many years.
        assert (FAR_ENDS in [what for _, what, _ in counted(cohort, "stays")]) == (factor < 300)

    def test_not_told(self) -> None:
        assert counted(self.read(1.0, "months"), "stays") == [("a", "any stay", 40)]
        rows: list[Row] = [("p1", 51, 60, "a"), ("p2", 1, 2, "a"), ("p3", 1, 2, "a")]
        with pytest.raises(DataError) as caught:
            read(rows)
        assert len(caught.value.problems) == 1
        # Planned ends lie far ahead.
        rows = [("p1", 0, 999, "a"), ("p2", 1, 999, "a"), ("p3", 1, 2, "a")]
        assert counted(read(rows), "stays")[0] == ("", FAR_ENDS, 2)
