"""A first draft of a study file, guessed from a table's columns and marked as a guess."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from bayesblina.cohort import RESERVED_PHASES
from bayesblina.errors import SpecError
from bayesblina.readers.columns import DECIMAL, MOST_LEVELS
from bayesblina.readers.sources import load_table

UNITS = {"day": "days", "week": "weeks", "month": "months", "year": "years"}
CHOOSE = "CHOOSE"

# What `bayesblina.simulate` puts before the number of a simulated patient.
SYNTHETIC_ID = "SYN-"


@dataclass(slots=True)
class _Guess:
    patient: str = ""
    endpoints: list[tuple[str, str, str, str]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    synthetic: bool = False
    transplant: str = ""
    covariates: dict[str, str] = field(default_factory=dict)
    unit: str = ""
    unused: list[str] = field(default_factory=list)


def draft_study(path: str | PathLike[str], *, relative_to: str | PathLike[str] = ".") -> str:
    """Guess a study file from a table with one row per patient.

    Parameters
    ----------
    path
        The table, as for `bayesblina.read_cohort`.
    relative_to
        Folder of the study file, for the path that it gives.

    Returns
    -------
    str
        TOML text with comments. What could not be guessed says ``CHOOSE``, which is no valid
        choice, so that nothing is decided silently.

    Raises
    ------
    DataError
        If the table cannot be read.
    SpecError
        If it has no columns.
    """
    frame, _ = load_table(path)
    if frame.shape[1] == 0:
        raise SpecError(f"'{path}' has no columns.")
    return _write(_guess(frame), _relative(Path(path), Path(relative_to)))


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.resolve().relative_to(folder.resolve(), walk_up=True).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _numbers(series: pd.Series) -> pd.Series | None:
    """Read a column as numbers, NaN where empty; None if it holds anything else."""
    if pd.api.types.is_bool_dtype(series):
        return series.astype("float64")
    if pd.api.types.is_numeric_dtype(series):
        return series.astype("float64")
    text = series.astype("string").str.strip().fillna("")
    if not (text.str.fullmatch(DECIMAL) | (text == "")).all() or (text == "").all():
        return None
    return pd.to_numeric(text.where(text != "")).astype("float64")


def _guess(frame: pd.DataFrame) -> _Guess:
    guess = _Guess()
    columns = [str(name) for name in frame.columns]
    numbers = {name: _numbers(frame[name]) for name in columns}
    unique = [name for name in columns if _is_unique(frame[name])]
    named = [name for name in unique if re.search(r"(^|_)(id|subj|usubjid|patient)", name, re.I)]
    # Numbers that differ between patients are times or measurements, unless they come first.
    other = [name for name in unique if numbers[name] is None or name == columns[0]]
    guess.patient = next(iter([*named, *other]), "")
    if guess.patient:
        ids = frame[guess.patient].astype("string")
        guess.synthetic = bool(ids.str.startswith(SYNTHETIC_ID).all())
    left = [name for name in columns if name != guess.patient]
    events = [
        name
        for name in left
        if (values := numbers[name]) is not None
        and set(values.dropna().unique()) <= {0.0, 1.0}
        and not re.search(r"sex|gender|male|flag|prior|arm", name, re.I)
    ]
    times = [
        name
        for name in left
        if (values := numbers[name]) is not None and name not in events and values.min() >= 0
    ]
    taken: set[str] = set(events)
    for event in events:
        # The time of an endpoint usually stands before its event column.
        before = [name for name in times if columns.index(name) < columns.index(event)]
        time = next((name for name in reversed(before) if name not in taken), "")
        if not time:
            taken.discard(event)
            continue
        taken.add(time)
        values = numbers[time]
        assert values is not None
        entry = next((name for name in times if _is_entry(numbers[name], values, name, taken)), "")
        taken |= {entry} - {""}
        guess.endpoints.append((_endpoint_name(time, event), time, event, entry))
    ends = [numbers[time] for _, time, _, _ in guess.endpoints]
    last = pd.concat([end for end in ends if end is not None], axis=1).max(axis=1) if ends else None
    for name in times:
        values = numbers[name]
        if name in taken or values is None or last is None or not values.isna().any():
            continue
        if (values.dropna() > last[values.notna()] + 1e-9).any() or values.isna().all():
            continue
        taken.add(name)
        if re.search(r"transplant|sct|hsct", name, re.I) and not guess.transplant:
            guess.transplant = name
        else:
            guess.phases.append(name)
    if not guess.phases and guess.transplant:
        # Nothing else is ever entered: the transplant is what is asked about.
        guess.phases.append(guess.transplant)
        guess.transplant = ""
    # A phase that starts later, in those who have both, comes later.
    guess.phases.sort(key=lambda name: float(np.nanmedian(numbers[name])))  # type: ignore[arg-type]
    for name in left:
        if name in taken:
            continue
        values = numbers[name]
        complete = bool((frame[name].notna() & (frame[name].astype(str) != "")).all())
        if complete and values is not None and values.nunique() > 2:
            guess.covariates[name] = "continuous"
        elif complete and frame[name].nunique() <= min(MOST_LEVELS, max(2, len(frame) // 5)):
            guess.covariates[name] = "categorical"
        else:
            guess.unused.append(name)
    found = {
        unit
        for _, time, _, _ in guess.endpoints
        for word, unit in UNITS.items()
        if word in time.lower()
    }
    guess.unit = found.pop() if len(found) == 1 else ""
    return guess


def _is_unique(series: pd.Series) -> bool:
    """Whether every row has a value of its own."""
    text = series.astype("string").str.strip().fillna("")
    return bool((text != "").all() and text.is_unique)


def _is_entry(values: pd.Series | None, time: pd.Series, name: str, taken: set[str]) -> bool:
    """Whether a column is missing exactly where the endpoint's time is, and always before it."""
    if values is None or name in taken or not time.isna().any():
        return False
    both = time.notna()
    return bool((values.notna() == both).all() and (values[both] < time[both]).all())


def _endpoint_name(time: str, event: str) -> str:
    found = re.search(r"(?i)(?<![a-z])(os|pfs|rfs|efs|dfs|ttp)(?![a-z])", f"{time} {event}")
    return found.group(1).lower() if found else re.sub(r"\W+", "_", event).strip("_").lower()


def _phase_name(column: str) -> str:
    """Drop the words of units and starts from a column's name."""
    words = [
        word
        for word in re.split(r"[\W_]+", column.lower())
        if word and not re.fullmatch(r"(days?|weeks?|months?|years?|start|time|date|on)", word)
    ]
    return "_".join(words) or column


def _free(name: str, taken: Collection[str]) -> str:
    """Find a name that is free: this one, or numbered."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(
        letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in escaped
    )
    return f'"{escaped}"'


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quote(text)


def _write(guess: _Guess, file: str) -> str:
    lines = [
        "# A draft, guessed from the names and the values of the columns: check every line.",
        f"# {CHOOSE} marks what could not be guessed. Then: bayesblina validate <this file>",
        "",
        "schema = 1",
        'title = "Untitled study"',
        "",
        "[data]",
        f"file = {_quote(file)}",
        f"patient = {_quote(guess.patient or CHOOSE)}",
        "# days, weeks, months or years: the unit of all times",
        f"unit = {_quote(guess.unit or CHOOSE)}",
    ]
    if guess.synthetic:
        lines += ["# the ids are those of simulated patients", "synthetic = true"]
    if guess.transplant:
        lines.append(f"transplant = {_quote(guess.transplant)}")
    if guess.covariates:
        kinds = ", ".join(
            f"{_key(name)} = {_quote(kind)}" for name, kind in guess.covariates.items()
        )
        lines += ["# baseline covariates; the first level of a category is its reference"]
        lines += [f"covariates = {{ {kinds} }}"]
    if guess.unused:
        shown = ", ".join(_quote(name) for name in guess.unused)
        lines.append(f"# not used: {shown}")
    endpoints: set[str] = set()
    for guessed, time, event, entry in guess.endpoints or [("os", CHOOSE, CHOOSE, "")]:
        name = _free(guessed or "endpoint", endpoints)
        endpoints.add(name)
        lines += ["", f"[endpoints.{_key(name)}]", f"time = {_quote(time)}"]
        lines += ["# 1 for an event, 0 for censoring", f"event = {_quote(event)}"]
        if entry:
            lines += [
                "# under observation for this endpoint from here on (delayed entry)",
                f"entry = {_quote(entry)}",
            ]
    lines += ["", "# in the order in which patients pass through them", "[phases]"]
    names: dict[str, str] = {}
    for column in guess.phases:
        names[_free(_phase_name(column), {*names, *RESERVED_PHASES})] = column
    lines += [f"{_key(name)} = {_quote(column)}" for name, column in names.items()] or [
        f"{CHOOSE.lower()} = {_quote(CHOOSE)}"
    ]
    order = list(names) or [CHOOSE.lower()]
    lines += [
        "",
        "[question]",
        "# the phase whose effect is asked for",
        f"exposed = {_quote(order[-1])}",
        '# the population: "entry" (everybody) or those who reached a phase, from its start',
        f"eligible_from = {_quote(order[0] if len(order) > 1 else 'entry')}",
    ]
    if guess.transplant:
        lines += [
            '# "censor" at it, a "phase" of its own, or "ignore": decide before looking at results',
            'transplant = "censor"',
        ]
    lines += ["", "[model]", 'name = "primary"', "", "[fit]", "seed = 1", ""]
    return "\n".join(lines)
