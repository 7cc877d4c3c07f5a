"""What is known of patients whose events are found at visits, until when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import StartsUntil

# An event found at 12 after a start at 8; one without a start; no event and a start after the last
# visit; no event.
TABLE = pd.DataFrame(
    {
        "id": ["p", "q", "r", "s"],
        "t": [12.0, 12.0, 10.0, 10.0],
        "e": [1, 1, 0, 0],
        "last": [6.0, 6.0, 6.0, 6.0],
        "m": [8.0, np.nan, 9.0, np.nan],
    }
)


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_known_time_ends_with_the_last_visit_but_where_a_start_proves_more(
    mechanism: StartsUntil,
) -> None:
    """Nobody without an event is known longer for a start that others do not have."""
    cohort = bb.read_cohort(
        TABLE,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        phases=bb.Phases(m="m"),
    )
    question = bb.Question(exposed="m", eligible_from="entry", starts_until=mechanism)
    own = find_episodes(cohort, question)["y"]
    known = list(zip(own.patient.tolist(), own.start.tolist(), own.stop.tolist(), strict=True))
    proven = 8.0 if mechanism == "event" else 6.0
    assert known == [(0, 0.0, proven), (1, 0.0, 6.0), (2, 0.0, 6.0), (3, 0.0, 6.0)]
    assert own.gaps is not None
    parts = list(
        zip(
            own.gaps.patient.tolist(),
            own.gaps.phase.tolist(),
            own.gaps.start.tolist(),
            own.gaps.stop.tolist(),
            strict=True,
        )
    )
    crossing = [(0, 1, 8.0, 12.0), (1, 0, 6.0, 12.0)]
    before = [] if mechanism == "event" else [(0, 0, 6.0, 8.0)]
    assert parts == [*before, *crossing]
