"""Every combination of eligibility, landmark, lag, phase end and transplant, computed by hand.

One patient: consolidation at 3, maintenance from 6 to 9, transplant at 12, death at 15.
Relapse-free survival: remission at 1, relapse at 10.
"""

import itertools

import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import find_episodes

NAMES = {
    "before consolidation": "before",
    "consolidation": "cons",
    "maintenance": "main",
    "off treatment": "off",
    "transplant": "sct",
}
# Time in each state when at risk from 0, from 3 (consolidation) and from 4 (the landmark).
# Keyed by lag, phase_end and transplant; then the state of the death, "" where it is censored.
OS: dict[tuple[float, str, str], tuple[dict[str, tuple[int, int, int]], str]] = {
    (0, "ever", "ignore"): ({"before": (3, 0, 0), "cons": (3, 3, 2), "main": (9, 9, 9)}, "main"),
    (0, "ever", "censor"): ({"before": (3, 0, 0), "cons": (3, 3, 2), "main": (6, 6, 6)}, ""),
    (0, "ever", "phase"): (
        {"before": (3, 0, 0), "cons": (3, 3, 2), "main": (6, 6, 6), "sct": (3, 3, 3)},
        "sct",
    ),
    (0, "current", "ignore"): (
        {"before": (3, 0, 0), "cons": (3, 3, 2), "main": (3, 3, 3), "off": (6, 6, 6)},
        "off",
    ),
    (0, "current", "censor"): (
        {"before": (3, 0, 0), "cons": (3, 3, 2), "main": (3, 3, 3), "off": (3, 3, 3)},
        "",
    ),
    (0, "current", "phase"): (
        {
            "before": (3, 0, 0),
            "cons": (3, 3, 2),
            "main": (3, 3, 3),
            "off": (3, 3, 3),
            "sct": (3, 3, 3),
        },
        "sct",
    ),
    (2, "ever", "ignore"): ({"before": (3, 0, 0), "cons": (5, 5, 4), "main": (7, 7, 7)}, "main"),
    (2, "ever", "censor"): ({"before": (3, 0, 0), "cons": (5, 5, 4), "main": (4, 4, 4)}, ""),
    (2, "ever", "phase"): (
        {"before": (3, 0, 0), "cons": (5, 5, 4), "main": (4, 4, 4), "sct": (3, 3, 3)},
        "sct",
    ),
    (2, "current", "ignore"): (
        {"before": (3, 0, 0), "cons": (5, 5, 4), "main": (1, 1, 1), "off": (6, 6, 6)},
        "off",
    ),
    (2, "current", "censor"): (
        {"before": (3, 0, 0), "cons": (5, 5, 4), "main": (1, 1, 1), "off": (3, 3, 3)},
        "",
    ),
    (2, "current", "phase"): (
        {
            "before": (3, 0, 0),
            "cons": (5, 5, 4),
            "main": (1, 1, 1),
            "off": (3, 3, 3),
            "sct": (3, 3, 3),
        },
        "sct",
    ),
}
# The same for relapse-free survival, at risk from 1, 3 and 4; the relapse precedes the transplant.
RFS: dict[tuple[float, str], tuple[dict[str, tuple[int, int, int]], str]] = {
    (0, "ever"): ({"before": (2, 0, 0), "cons": (3, 3, 2), "main": (4, 4, 4)}, "main"),
    (0, "current"): (
        {"before": (2, 0, 0), "cons": (3, 3, 2), "main": (3, 3, 3), "off": (1, 1, 1)},
        "off",
    ),
    (2, "ever"): ({"before": (2, 0, 0), "cons": (5, 5, 4), "main": (2, 2, 2)}, "main"),
    (2, "current"): (
        {"before": (2, 0, 0), "cons": (5, 5, 4), "main": (1, 1, 1), "off": (1, 1, 1)},
        "off",
    ),
}
COLUMN = {("entry", None): 0, ("consolidation", None): 1, ("entry", 4): 2, ("consolidation", 4): 2}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    table = pd.DataFrame(
        {
            "id": ["p"],
            "os": [15.0],
            "died": [1],
            "remission": [1.0],
            "rfs": [10.0],
            "relapsed": [1],
            "c": [3.0],
            "m": [6.0],
            "m_end": [9.0],
            "sct": [12.0],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="relapsed", entry="remission"),
        },
        phases=bb.Phases(consolidation="c", maintenance=bb.Phase(start="m", end="m_end")),
        transplant="sct",
    )


@pytest.mark.parametrize(("choice", "where"), list(itertools.product(OS, COLUMN)))
def test_combination(
    cohort: Cohort, choice: tuple[float, str, str], where: tuple[str, int | None]
) -> None:
    lag, phase_end, transplant = choice
    question = bb.Question(
        exposed="maintenance",
        eligible_from=where[0],
        landmark=where[1],
        lag=lag,
        phase_end=phase_end,  # type: ignore[arg-type]
        transplant=transplant,  # type: ignore[arg-type]
    )
    for endpoint, (times, state) in (("os", OS[choice]), ("rfs", RFS[lag, phase_end])):
        found = find_episodes(cohort, question)[endpoint]
        spent = {
            NAMES[found.phases[phase]]: float(stop - start)
            for phase, start, stop in zip(found.phase, found.start, found.stop, strict=True)
        }
        by_hand = {name: spans[COLUMN[where]] for name, spans in times.items()}
        assert spent == {name: span for name, span in by_hand.items() if span > 0}
        events = [NAMES[found.phases[phase]] for phase in found.phase[found.event]]
        assert events == ([state] if state else [])
