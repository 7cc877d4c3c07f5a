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

from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import round_up
from bayesblina.patients.declarations import RESERVED_PHASES
from bayesblina.patients.readers.columns import DECIMAL, MOST_LEVELS
from bayesblina.patients.readers.sources import load_table

UNITS = {"day": "days", "week": "weeks", "month": "months", "year": "years"}
CHOOSE = "CHOOSE"

# Words in the names of columns. A word ends where letters do: "stage" holds no "age".
ENDPOINT = r"os|pfs|rfs|efs|dfs|ttp"
EVENT = rf"died|dead|deaths?|events?|status|relapsed?|recurrence|progress\w*|fail\w*|{ENDPOINT}"
TIME = rf"times?|days?|weeks?|months?|years?|stop|follow\w*|futime|duration|t|{ENDPOINT}"
RELAPSE = r"relaps\w*|recurr\w*|progress\w*|rfs|pfs|efs|dfs|lfs|ttp|ttr"
CENSORED = r"cens\w*|cnsr|alive"
NO_TIME = r"year|score|mscore|mismatch|hla|grade|stage|ecog|dose|weight|height|bmi|blasts?|count"
TRANSPLANT = r"transplant|sct"
# Endpoints of which death is mostly an event, as drafted: numbered from the second on.
INCLUDES_DEATH = r"[rped]fs(_\d+)?"
DISEASE = rf"{RELAPSE}|remission|respon\w*"
# Columns with the last visit at which patients were found without the event.
LAST_VISIT = (
    r"(last|latest)_?(neg\w*|visit|marrow|bma?|assess\w*|eval\w*|exam\w*|scan|disease_free)"
    r"|neg\w*_(visit|marrow|assess\w*|eval\w*|exam\w*|scan)"
)
LATER = r"start|begin|end|exit|entry|respon\w*|remission|complete\w*"
ID = r"(^|_)(id|subj|usubjid|patient)"
DATE = r"\d{4}-\d{2}(-\d{2})?"

# What a draft says of columns that it does not use, and of endpoints.
REPEATED = """\
# {}: patients have several rows here, and one in a study
# file's table; bayesblina.read_counting_process reads such tables in Python"""
LATER_USED = """\
# not used: {}. They may tell what happened later, and a
# covariate must be known at the start"""
REVERSED = """\
# not used: {}. An event is 1 and censoring 0 here; a
# column that says who was censored, or is alive, must be turned round first"""
DATED = """\
# not used: {}. A study file takes times as numbers; from dates,
# bayesblina.read_dated_cohort makes them in Python"""
SYNTHETIC = ("# the ids are those of simulated patients", "synthetic = true")
ENTRY = "# under observation for this endpoint from here on (delayed entry)"
INCLUDES = """\
# if every death is an event of this endpoint too, say so: whoever contradicts it
# is then refused, and only counted without it
# includes = ["os"]"""
RECORDED = """\
# "exact" if the events stand on the days on which they happened; "visits" if on
# those of the visits at which they were found. Each then lies between the last visit
# without it, last_negative here or a table in [visits], and time; and [question]
# says until when phases may start, starts_until"""
LAST_VISITS = '# perhaps of use with "visits": last_negative = {}'

# What `bayesblina.studies.simulate` puts before the number of a simulated patient.
SYNTHETIC_ID = "SYN-"


# Columns of numbers, by name.
Numbers = dict[str, pd.Series]


@dataclass(slots=True)
class _Guess:
    patient: str = ""
    endpoints: list[tuple[str, str, str, str]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    synthetic: bool = False
    transplant: str = ""
    covariates: dict[str, str] = field(default_factory=dict)
    unit: str = ""
    start: float | None = None
    unused: list[str] = field(default_factory=list)
    reversed: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    later: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    last_visits: list[str] = field(default_factory=list)


def draft_study(path: str | PathLike[str], *, relative_to: str | PathLike[str] = ".") -> str:
    """Guess a study file from a table with one row per patient.

    TOML text with comments. What could not be guessed says ``CHOOSE``, which is no valid choice, so
    that nothing is decided silently.
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
    if pd.api.types.is_numeric_dtype(series):
        return series.astype("float64")
    text = _texts(series)
    return pd.to_numeric(text).astype("float64") if _all_match(text, DECIMAL) else None


def _texts(series: pd.Series) -> pd.Series:
    """Take a column as texts without blanks around them; missing where there is none."""
    text = series.astype("string").str.strip()
    return text.where(text != "")


def _all_match(text: pd.Series, pattern: str) -> bool:
    """Whether all texts of a column match, and there is any."""
    return bool(text.notna().any() and text.dropna().str.fullmatch(pattern).all())


def _guess(frame: pd.DataFrame) -> _Guess:
    """Guess what each column is, in the order in which one tells of the next."""
    guess = _Guess()
    columns = [str(name) for name in frame.columns]
    numbers = {name: values for name in columns if (values := _numbers(frame[name])) is not None}
    _find_patient(guess, frame, columns, numbers)
    left = [name for name in columns if name != guess.patient]
    guess.dates = [
        name
        for name in left
        if name not in numbers
        and (
            pd.api.types.is_datetime64_any_dtype(frame[name])
            or _all_match(_texts(frame[name]), DATE)
        )
    ]
    binary = [
        name
        for name in left
        if name in numbers and set(numbers[name].dropna().unique()) <= {0.0, 1.0}
    ]
    # 1 for censored, or alive, would turn every answer round.
    guess.reversed = [name for name in binary if _says(name, CENSORED)]
    events = [
        name
        for name in binary
        if name not in guess.reversed
        and not re.search(r"sex|gender|male|flag|prior|arm", name, re.I)
    ]
    times = [
        name
        for name in left
        if name in numbers
        and name not in events
        and numbers[name].min() >= 0
        and not _says(name, "age")
        and not (_says(name, NO_TIME) and not _says(name, TIME))
    ]
    # Missing where there was none, they would be taken for a start.
    guess.last_visits = [name for name in times if _says(name, LAST_VISIT)]
    times = [name for name in times if name not in guess.last_visits]
    taken: set[str] = {*events, *guess.reversed, *guess.last_visits}
    _find_endpoints(guess, events, times, taken, numbers)
    _find_phases(guess, times, taken, numbers)
    kept = [name for name in left if name not in {*taken, *guess.dates, *guess.repeated}]
    _find_covariates(guess, frame, kept, numbers)
    units = {
        unit
        for _, time, _, _ in guess.endpoints
        for word, unit in UNITS.items()
        if word in time.lower()
    }
    guess.unit = units.pop() if len(units) == 1 else ""
    return guess


def _find_patient(guess: _Guess, frame: pd.DataFrame, columns: list[str], numbers: Numbers) -> None:
    """Find the column of ids: unique, and named so if one is; or columns that repeat them."""
    texts = {name: _texts(frame[name]) for name in columns}
    unique = [name for name, text in texts.items() if text.notna().all() and text.is_unique]
    named = [name for name in unique if re.search(ID, name, re.I)]
    # Numbers that differ between patients are times or measurements, unless they come first.
    other = [name for name in unique if name not in numbers or name == columns[0]]
    guess.patient = next(iter([*named, *other]), "")
    if guess.patient:
        ids = frame[guess.patient].astype("string")
        guess.synthetic = bool(ids.str.startswith(SYNTHETIC_ID).all())
    else:
        guess.repeated = [
            name for name in columns if re.search(ID, name, re.I) and frame[name].duplicated().any()
        ]


def _find_phases(guess: _Guess, times: list[str], taken: set[str], numbers: Numbers) -> None:
    """Take times that some lack, and that end no later than follow-up, for starts of phases."""
    if not guess.endpoints:
        return
    last = pd.concat([numbers[time] for _, time, _, _ in guess.endpoints], axis=1).max(axis=1)
    starts = [
        name
        for name in times
        if name not in taken
        and 0 < numbers[name].count() < len(last)
        and not (numbers[name] > last + 1e-9).any()
        # What the disease does is no treatment.
        and not _says(name, DISEASE)
    ]
    taken.update(starts)
    # A phase that starts later, in those who have both, comes later.
    starts.sort(key=lambda name: np.nanmedian(numbers[name]))
    # In a study of other phases, a transplant ends or changes what is compared.
    transplant = next((name for name in times if name in starts and _is_transplant(name)), "")
    others = [name for name in starts if name != transplant]
    guess.phases, guess.transplant = (others, transplant) if others else (starts, "")
    if starts:
        guess.start = round_up(float(np.nanmedian(numbers[guess.phases[-1]])))


def _is_transplant(name: str) -> bool:
    return re.search(TRANSPLANT, name, re.I) is not None


def _find_covariates(
    guess: _Guess, frame: pd.DataFrame, names: list[str], numbers: Numbers
) -> None:
    """Sort what is left into covariates, what tells of later, and what is not used."""
    for name in names:
        values = numbers.get(name)
        complete = bool((frame[name].notna() & (frame[name].astype(str) != "")).all())
        if _tells_the_future(name, values, [numbers[phase] for phase in guess.phases]):
            guess.later.append(name)
        elif complete and values is not None and values.nunique() > 2:
            guess.covariates[name] = "continuous"
        elif complete and frame[name].nunique() <= min(MOST_LEVELS, max(2, len(frame) // 5)):
            guess.covariates[name] = "categorical"
        else:
            guess.unused.append(name)


def _find_endpoints(
    guess: _Guess, events: list[str], times: list[str], taken: set[str], numbers: Numbers
) -> None:
    """Pair events with times; what is paired is taken, and an event without a time is not."""
    order = list(numbers)
    for event in events:
        known = numbers[event].notna()
        # The time of an endpoint usually stands before its event column, and is known for the
        # same patients.
        before = (
            name
            for name in reversed(times)
            if name not in taken
            and order.index(name) < order.index(event)
            and (numbers[name].notna() == known).all()
            and (_says(event, EVENT) or _says(name, TIME))
        )
        time = next(before, "")
        if not time:
            taken.discard(event)
            continue
        taken.add(time)
        unread = (name for name in times if name not in taken)
        entry = next((name for name in unread if _is_entry(numbers[name], numbers[time])), "")
        taken |= {entry} - {""}
        guess.endpoints.append((_endpoint_name(time, event), time, event, entry))


def _says(name: str, words: str) -> bool:
    """Whether a column's name holds one of the words, as in os_event, OSEvent or "OS event"."""
    return re.search(rf"(?i)(?<![a-z])({words})(?![a-z])", _apart(name)) is not None


def _apart(name: str) -> str:
    """Set an underscore where a capital begins a word: OS_Event."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)


def _tells_the_future(name: str, values: pd.Series | None, starts: list[pd.Series]) -> bool:
    """Whether a column may hold what was not known at the start: no covariate, then."""
    if any(values is not None and (values == start.notna()).all() for start in starts):
        return True
    if _says(name, "age") or _says(name, NO_TIME):
        return False
    return _says(name, f"{EVENT}|{TIME}|{CENSORED}|{LATER}") or _is_transplant(name)


def _is_entry(values: pd.Series, time: pd.Series) -> bool:
    """Whether a column is missing exactly where the endpoint's time is, and always before it."""
    both = time.notna()
    same = not both.all() and (values.notna() == both).all()
    return bool(same and (values[both] < time[both]).all())


def _endpoint_name(time: str, event: str) -> str:
    known = re.search(rf"(?i)(?<![a-z])({ENDPOINT})(?![a-z])", _apart(f"{time} {event}"))
    if known is None and re.fullmatch(r"(?i)(died|dead|deaths?)", event):
        return "os"
    return known.group(1).lower() if known else re.sub(r"\W+", "_", event).strip("_").lower()


def _phase_name(column: str) -> str:
    """Drop the words of units and starts from a column's name."""
    words = [
        word
        for word in re.split(r"[\W_]+", column.lower())
        if word and not re.fullmatch(r"(days?|weeks?|months?|years?|start|time|date|on)", word)
    ]
    name = "_".join(words) or column
    # As a phase's name, "transplant" has a meaning of its own.
    return "transplantation" if name == "transplant" else name


def _free(name: str, taken: Collection[str]) -> str:
    """Find a name that is free: this one, or numbered."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    letters = (letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in escaped)
    return f'"{"".join(letters)}"'


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quote(text)


def _write(guess: _Guess, file: str) -> str:
    """Write the draft, section by section."""
    names: dict[str, str] = {}
    for column in guess.phases:
        names[_free(_phase_name(column), {*names, *RESERVED_PHASES})] = column
    order = list(names) or [CHOOSE.lower()]
    transplant = [
        '# "censor" at it, a "phase" of its own, or "ignore": decide before looking at results',
        'transplant = "censor"',
    ]
    curves = [
        f"# curves: survival never in {_quote(order[-1])}, and in it from each start on, in",
        "# those event-free at the landmark; guessed: when half of all starts had been made",
        "[curves]",
        f"landmark = {guess.start}",
        f"starts = [{guess.start}]",
        "",
    ]
    lines = [
        "# A draft, guessed from the names and the values of the columns: check every line.",
        f"# {CHOOSE} marks what could not be guessed. Then: bayesblina validate <this file>",
        "",
        "schema = 1",
        'title = "Untitled study"',
        "",
        *_data_section(guess, file),
        *_endpoint_sections(guess),
        "",
        "# in the order in which patients pass through them",
        "[phases]",
        *(f"{_key(name)} = {_quote(names.get(name, CHOOSE))}" for name in order),
        "",
        "[question]",
        "# the phase whose effect is asked for",
        f"exposed = {_quote(order[-1])}",
        '# the population: "entry" (everybody) or those who reached a phase, from its start',
        f"eligible_from = {_quote(order[0] if len(order) > 1 else 'entry')}",
        *(transplant if guess.transplant else []),
        *("", "[model]", 'name = "primary"', "", "[fit]", "seed = 1", ""),
        *([] if guess.start is None else curves),
    ]
    return "\n".join(lines)


def _data_section(guess: _Guess, file: str) -> list[str]:
    """Write where the patients are, and which columns are not used."""
    kinds = [f"{_key(name)} = {_quote(kind)}" for name, kind in guess.covariates.items()]
    covariates = [
        "# baseline covariates; the first level of a category is its reference",
        f"covariates = {{ {', '.join(kinds)} }}",
    ]
    not_used = (
        (guess.repeated, REPEATED),
        (guess.later, LATER_USED),
        (guess.unused, "# not used: {}"),
        (guess.reversed, REVERSED),
        (guess.dates, DATED),
    )
    return [
        "[data]",
        f"file = {_quote(file)}",
        f"patient = {_quote(guess.patient or CHOOSE)}",
        "# days, weeks, months or years: the unit of all times",
        f"unit = {_quote(guess.unit or CHOOSE)}",
        *(SYNTHETIC if guess.synthetic else ()),
        *([f"transplant = {_quote(guess.transplant)}"] if guess.transplant else []),
        *(covariates if kinds else []),
        *(words.format(", ".join(map(_quote, names))) for names, words in not_used if names),
    ]


def _recorded(guess: _Guess) -> list[str]:
    """Write what has to be decided of events that may have been found at visits."""
    named = [LAST_VISITS.format(_quote(name)) for name in guess.last_visits]
    return [RECORDED, *named, f"recorded = {_quote(CHOOSE)}"]


def _endpoint_sections(guess: _Guess) -> list[str]:
    """Write the endpoints, each with what has to be decided of it."""
    deaths = any(guessed == "os" for guessed, *_ in guess.endpoints)
    taken: set[str] = set()
    lines: list[str] = []
    for guessed, time, event, entry in guess.endpoints or [("os", CHOOSE, CHOOSE, "")]:
        name = _free(guessed or "endpoint", taken)
        taken.add(name)
        relapse = _says(f"{name} {time} {event}", RELAPSE)
        lines += [
            "",
            f"[endpoints.{_key(name)}]",
            f"time = {_quote(time)}",
            "# 1 for an event, 0 for censoring",
            f"event = {_quote(event)}",
            *([ENTRY, f"entry = {_quote(entry)}"] if entry else []),
            *([INCLUDES] if deaths and re.fullmatch(INCLUDES_DEATH, name) else []),
            *(_recorded(guess) if relapse else []),
        ]
    return lines
