"""Counts of patients are printed without what would tell few."""

from __future__ import annotations

import pandas as pd
import pytest

from bayesblina import tables
from bayesblina.core.errors import SpecError
from bayesblina.patients.account import Account, Line


def test_account_masks_small_counts() -> None:
    account = Account(
        unit="months",
        synthetic=True,
        lines=(
            Line(step="read", what="patients", patients=("A-1",) * 50),
            Line(
                step="in phase",
                endpoint="os",
                phase="maintenance",
                what="exposed",
                patients=("A-1",) * 12,
                events=3,
                person_time=123.456,
            ),
            Line(step="left out", endpoint="os", what="never", patients=("A-1",) * 2),
        ),
    )
    plainly = tables.account(account.table, unit="months", synthetic=account.synthetic)
    assert plainly.head[-3:] == ("patients", "events", "person-months")
    assert [row[-3:] for row in plainly.rows] == [
        ("50", "", ""),
        ("12", "3", "123.5"),
        ("2", "", ""),
    ]
    assert plainly.notes == (tables.SYNTHETIC,)
    masked = tables.account(account.table, unit="months", minimum=5)
    assert [row[-3:] for row in masked.rows] == [("50", "", ""), ("12", "*", "*"), ("*", "", "")]
    assert "A-1" not in plainly.to_html()
    # 40 less 37 are 3: another count goes with them, and none of the two is a small one.
    rows = [("eligible", "", "at risk", 60, 40), ("in phase", "m", "exposed", 30, 3)]
    rows.append(("in phase", "c", "reference", 60, 37))
    columns = ["step", "phase", "what", "patients", "events"]
    sums = pd.DataFrame(rows, columns=columns).assign(endpoint="os", person_time=9.0)
    sums = sums[["step", "endpoint", *columns[1:], "person_time"]]
    cells = [row[-2] for row in tables.account(sums, unit="months", minimum=5).rows]
    assert cells == ["40", "*", "*"]
    with pytest.raises(SpecError, match="minimum must be a whole number from 1 on"):
        tables.account(account.table, unit="months", minimum=0)
