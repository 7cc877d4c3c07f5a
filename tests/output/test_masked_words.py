"""Tables for Word of few patients tell no small count."""

from pathlib import Path

import pandas as pd
import pytest
from docx import Document

import bayesblina as bb
from bayesblina import tables
from bayesblina.core.masking import MASK
from tests.output.few import MINIMUM, QUESTION, cohort

ENDS = ("os", "rfs")


def cells(path: Path) -> list[list[str]]:
    (table,) = Document(str(path)).tables
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_word_tables_tell_no_small_count(tmp_path: Path) -> None:
    patients = cohort(30, 3)
    ladder = bb.classical.bias_ladder(patients, QUESTION, landmarks=[8.0])
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
    with pytest.raises(bb.errors.SpecError, match="minimum must be a whole number from 1 on"):
        tables.adverse_events(pd.DataFrame([row]), unit="months", minimum=wrong)
