"""The program: what all commands share, and how they speak to people and to machines."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bayesblina.core.errors import (
    LARGEST_SEED,
    BayesblinaError,
    ConvergenceError,
    DataError,
    StorageError,
    unquoted,
)
from bayesblina.core.files import readable, reason_of
from bayesblina.output.progress import Progress

ANSWERED, MARKED, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 3, 130
# One of the marks: results are written, and must not be used.
NOT_CONVERGED = MARKED

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as one JSON object.")
]
ShowIds = Annotated[
    bool,
    typer.Option(
        "--show-ids", help="Name patients and quote cells in errors, which else count and number."
    ),
]
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draws, in place of the study's own."),
]


def examples(*lines: str) -> str:
    """Word examples for the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


app = typer.Typer(
    help="Bayesian survival analysis of treatment phases that patients enter later.",
    epilog=examples(
        "bayesblina demo",
        "bayesblina init patients.csv",
        "bayesblina run study.toml --out results",
    )
    + "\n\nExit codes: 0 answered; 1 not converged, or the baseline moves the hazard ratio, or "
    "event times are those of visits (results are written, marked); 2 bad input; 3 a fault in "
    "bayesblina; 130 interrupted, 143 told to end (no results are written).",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner(Progress):
    """How one call of the command line speaks.

    `quiet`: whether only errors are printed.
    `json`: whether the result is one JSON object on standard output; progress stays on standard
    error.
    `show_ids`: whether errors name patients.
    """

    debug: bool = False
    quiet: bool = False
    json: bool = False
    show_ids: bool = False

    @property
    def bars(self) -> bool:
        """Whether bars may move on the terminal."""
        return not self.quiet and not self.json and sys.stdout.isatty()

    def say(self, *texts: str) -> None:
        """Print for people, unless quiet or where the result is for a machine."""
        if not self.quiet and not self.json:
            for text in texts:
                _speak(text)

    def warn(self, *texts: str) -> None:
        """Print on standard error, quiet or not."""
        for text in texts:
            _speak(f"bayesblina: {text}", err=True)

    def give(self, result: Mapping[str, Any]) -> None:
        """Print a result for a machine, if one is asked for; numbers that are none become null."""
        if self.json:
            _speak(json.dumps(_speakable(result), ensure_ascii=False, allow_nan=False))

    @contextmanager
    def stage(self, name: str, *, bar: bool = False) -> Iterator[None]:
        """Take the time of a stage, and say so."""
        before = self.seconds.get(name, 0.0)
        ahead = not self.quiet and not (bar and self.bars)
        if ahead:
            _speak(f"  {name:<16}", err=True, end="")
        try:
            with Progress.stage(self, name):
                yield
        except BaseException:
            if ahead:
                _speak("", err=True)
            raise
        took = self.seconds[name] - before
        if not self.quiet:
            _speak(f"{took:7.1f} s" if ahead else f"  {name:<16}{took:7.1f} s", err=True)


@contextmanager
def reported(
    context: typer.Context,
    *,
    debug: bool,
    quiet: bool,
    as_json: bool = False,
    show_ids: bool = False,
    left: str = "",
) -> Iterator[Manner]:
    """Turn errors into one readable message and an exit code.

    `debug`, `quiet`, `as_json`, `show_ids`: what the command was called with; the same may stand
    before the command.
    """
    above = context.find_root().obj or Manner()
    manner = Manner(
        debug=debug or above.debug,
        quiet=quiet or above.quiet,
        json=as_json or above.json,
        show_ids=show_ids or above.show_ids,
    )
    try:
        with manner.interrupts.noted():
            yield manner
            manner.interrupts.raise_if_any()
    except KeyboardInterrupt:
        words = f"interrupted: {left or 'nothing was written'}."
        _fail(context, manner, manner.interrupts.code, "interrupted", words)
    except (BayesblinaError, OSError) as error:
        code = NOT_CONVERGED if isinstance(error, ConvergenceError) else BAD_INPUT
        words = (
            error.words(show_ids=manner.show_ids) if isinstance(error, DataError) else str(error)
        )
        _fail(context, manner, code, type(error).__name__, words)
    except typer.Exit:
        raise
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        words = (
            f"This needs more memory than there is{reason}. Fewer draws, chains or scenarios at a "
            'time need less; so do patients who stay in a query engine ([data] engine = "duckdb").'
        )
        _fail(context, manner, BAD_INPUT, "MemoryError", words)
    except Warning as error:
        words = (
            f"{type(error).__name__}: {error}\nA library warned of this, and Python was told to "
            "take warnings for errors (-W error, or PYTHONWARNINGS): run it without."
        )
        _fail(context, manner, BAD_INPUT, type(error).__name__, words)
    except Exception as error:
        # What libraries quote may be a cell of the table.
        reason = str(error) if manner.show_ids else unquoted(str(error))
        words = (
            f"{type(error).__name__}: {reason}\nThis is a fault in bayesblina, not in your study. "
            "Please report it with what --debug shows."
        )
        _fail(context, manner, FAULT, type(error).__name__, words)


def _fail(context: typer.Context, manner: Manner, code: int, kind: str, message: str) -> None:
    if manner.debug and kind != "interrupted":
        _speak(traceback.format_exc(), err=True, end="")
    else:
        manner.warn(message)
    manner.give(
        {
            "command": context.info_name,
            "exit_code": code,
            "error": {"kind": kind, "message": message},
        }
    )
    raise typer.Exit(code) from None


# Characters that a terminal may take for commands; names in data may hold any.
# Halves of characters stand for bytes of a path that are no UTF-8, and cannot be printed.
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    r"""Spell out the characters of a text that a terminal may take for commands.

    The same text, which only shows.

    `text`: the text; line ends and tabs stay.

    >>> print(harmless("\x1b[2Jpatient"))
    \x1b[2Jpatient
    """
    return COMMANDS.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _speak(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print; once nobody reads any more, nothing is printed, and work goes on."""
    try:
        typer.echo(f"{harmless(text)}{end}", err=err, nl=False)
    except OSError as error:
        # What could not be written is still in the stream, and would fail again at the end.
        stream = sys.stderr if err else sys.stdout
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            where = "standard error" if err else "standard output"
            raise StorageError(f"Cannot write to {where}: {reason_of(error)}.") from None


def _speakable(value: Any) -> Any:
    """Put a value into what JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): _speakable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_speakable(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def typed(*parts: str | Path) -> str:
    """Word a command as it may be typed again, without the folders of this machine."""
    return shlex.join(
        readable(part.name if part.is_absolute() else part) if isinstance(part, Path) else part
        for part in ("bayesblina", *parts)
    )


@app.callback()
def _options(
    context: typer.Context,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    context.obj = Manner(debug=debug, quiet=quiet, json=as_json, show_ids=show_ids)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    `arguments`: what would stand after ``bayesblina``; by default what the process was started
    with.
    """
    try:
        app(arguments, prog_name="bayesblina")
    except SystemExit as ended:
        return int(ended.code or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    return ANSWERED
