"""Whether there is anything to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bayesblina.core.errors import DataError, Problem
from bayesblina.person_time.follow_up import Episodes, roles_of
from bayesblina.person_time.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What there is to compare for one endpoint.

    `patients`, `events`: how many contribute.
    `visited`: roles of the states in which anybody has time at risk.
    """

    patients: int
    events: float
    visited: frozenset[str]


def require_comparison(episodes: Mapping[str, Episodes], question: Question) -> None:
    """Check that there is something to compare."""
    require_contents(
        {
            name: Contents(
                patients=int(np.unique(found.persons_of(patient)).size),
                events=float(found.events),
                visited=frozenset(
                    np.asarray(roles_of(found.phase_names, question))[phase].tolist()
                ),
            )
            for name, found in episodes.items()
            for patient, phase, *_ in [found.whole]
        },
        question,
    )


def require_contents(contents: Mapping[str, Contents], question: Question) -> None:
    """Check that there is something to compare, where it is counted already."""
    against = question.reference
    outside = f"time outside {question.exposure}" if against is None else f"time in {against}"
    beyond = f" beyond the lag of {question.lag:g}" if question.lag else ""
    too_long = (
        f" With a lag only time later than that after a start counts, and no time at risk in "
        f"{question.exposure} lasts as long, if there is any: ask for a shorter lag."
        if question.lag
        else ""
    )
    problems = []
    for name, found in contents.items():
        checks = (
            (found.patients > 0, "no patient is ever eligible"),
            (found.patients > 1, "only one patient is eligible"),
            (found.events > 0, "no event among the eligible patients"),
            (
                "exposed" in found.visited,
                f"no eligible patient has time in {question.exposure}{beyond}",
            ),
            ("reference" in found.visited, f"no eligible patient has {outside}"),
        )
        failed = next((message for passed, message in checks if not passed), None)
        if failed is not None:
            hint = too_long if beyond and failed.endswith(beyond) else ""
            problems.append(
                Problem(
                    column=name,
                    found=failed,
                    expected="There is nothing to compare: check the endpoint's columns and "
                    f"the Question's eligible_from, landmark, lag and reference.{hint}",
                )
            )
    if problems:
        raise DataError(problems, source="the question asked of this cohort")
