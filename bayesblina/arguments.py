"""Arguments of the wrong kind are told at once, with the function that makes the right one."""

from __future__ import annotations

from types import UnionType

# The protocol that both kinds of cohorts fulfil has a name that nobody calls.
NAMES = {"Enrolled": "Cohort"}
# What to call for a value of each kind.
MADE_BY = {
    "Account": "cohort.account()",
    "AdverseEvents": "bayesblina.adverse_events",
    "Cohort": "bayesblina.read_cohort",
    "CohortScan": "bayesblina.scan_cohort",
    "DataTree": "bayesblina.power_scaling_draws",
    "Dataset": "bayesblina.hazard_ratio or another of the estimands",
    "Exposure": "bayesblina.expose",
    "Fit": "bayesblina.fit",
    "ModelDefinition": "bayesblina.load_model",
    "Prediction": "bayesblina.leave_one_out",
    "Mapping": "bayesblina.fit or bayesblina.leave_one_out, by name,",
    "Question": "bayesblina.Question",
    "Sensitivity": "bayesblina.sensitivity",
    "StudyDesign": "bayesblina.StudyDesign",
    "tuple": "bayesblina.scenarios",
    "Weighted": "bayesblina.starting_weights",
}


def require_kind(value: object, kind: type | UnionType, argument: str) -> None:
    """Refuse an argument of the wrong kind.

    Parameters
    ----------
    value
        What was given.
    kind
        What is expected: a type, or several.
    argument
        The argument's name.

    Raises
    ------
    TypeError
        If it is of another kind; says what to call first.

    Examples
    --------
    >>> require_kind("text", int, "count")
    Traceback (most recent call last):
    TypeError: count: expected int, got str.
    """
    if isinstance(value, kind):
        return
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    names = [NAMES.get(one.__name__, one.__name__) for one in kinds]
    first = [MADE_BY[name] for name in names if name in MADE_BY]
    hint = f": call {' or '.join(first)} first" if first else ""
    raise TypeError(f"{argument}: expected {' or '.join(names)}, got {type(value).__name__}{hint}.")
