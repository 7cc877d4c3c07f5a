"""What the gates of a fit say, for people and for machines; nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bayesblina.inference.fitting import Fit
    from bayesblina.output.report.hiding import Shown


def failures_in_words(fit: Fit) -> list[str]:
    """Say which gates a fit failed, why, and what to do."""
    words = []
    if not fit.converged:
        words.append(
            f"NOT CONVERGED: {'; '.join(fit.convergence.failures())}. Sample longer ([fit] draws, "
            "tune) before using them."
        )
    if not fit.gate.passed:
        words.append(
            f"THE BASELINE MOVES THE HAZARD RATIO: {'; '.join(fit.gate.failures())}. Give more cut "
            "points ([fit] cuts) about the times at which patients enter the phases, or use the "
            "default ones; the answer without a baseline stands beside the other."
        )
    if fit.event_times is not None and not fit.event_times.passed:
        failed = "; ".join(fit.event_times.messages)
        words.append(f"EVENT TIMES ARE THOSE OF VISITS: {failed}.")
    return words


def gates(left: Shown) -> dict[str, Any]:
    """Say how the gates other than convergence came out, for a machine: as it may be shown."""
    from bayesblina.output.report.hiding import about_others
    from bayesblina.output.report.wording import event_times_in_words

    fit = left.whole.fit
    exact = fit.event_times
    # Shares of events, with their number, are counts.
    found = [] if exact is None else event_times_in_words(fit, coarse=left.coarse)
    told = found[: 0 if exact is None else len(exact.messages)]
    state = "not looked at" if exact is None else "passed" if exact.passed else "failed"
    return {
        "baseline": fit.gate.state,
        "baseline_gate": left.gate.to_dict("records"),
        "event_times": state,
        "event_times_found": list(about_others(told, left.withheld)),
    }


def marked_scenarios(table: pd.DataFrame) -> list[str]:
    """Name the scenarios whose numbers are marked, and why."""
    words = {
        "baseline": "THE BASELINE MOVES THE HAZARD RATIO",
        "event_times": "EVENT TIMES ARE THOSE OF VISITS",
    }
    return [
        f"{row['scenario']}, {row['endpoint']}: {said}"
        for row in table.to_dict("records")
        for name, said in words.items()
        if row[name] == "failed"
    ]
