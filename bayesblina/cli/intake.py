"""Commands about study files and their patients: validate, init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayesblina.cli.application import app
from bayesblina.cli.manner import (
    ANSWERED,
    Debug,
    Json,
    Quiet,
    ShowIds,
    examples,
    reported,
)
from bayesblina.core.errors import SpecError


@app.command(
    epilog=examples(
        "bayesblina validate study.toml",
        "bayesblina validate other_patients.csv --study study.toml",
    )
)
def validate(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="STUDY|DATA", help="A study file; or, with --study, a table.")
    ],
    study: Annotated[
        Path | None, typer.Option(help="The study file, when DATA is another table than its own.")
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Check a study file, its data and its question, without fitting; account for all patients."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        from bayesblina.output.request import request_of
        from bayesblina.patients.account import Account
        from bayesblina.patients.cohort import Cohort
        from bayesblina.person_time.follow_up import account_of, find_episodes, roles_of
        from bayesblina.studies.study_file import read_study

        read = read_study(path if study is None else study)
        request = request_of(read, table=None if study is None else path)
        cohort, question, model = request.cohort, request.question, request.model
        cuts = request.sampling["cuts"]
        valid = {
            "command": "validate",
            "exit_code": ANSWERED,
            "valid": True,
            "patients": cohort.size,
            "synthetic": cohort.synthetic,
            "estimand": question.estimand(),
            "model": model.name,
        }
        if not isinstance(cohort, Cohort):
            manner.say(f"{path} is valid.\n  patients: {cohort!r}\n")
            manner.say(repr(cohort.account()))
            manner.give(valid)
            return
        # The study's events are those of its own patients.
        safety = read.adverse_events(cohort) if study is None else None
        flow = [
            line
            for episodes in find_episodes(cohort, question).values()
            for line in account_of(episodes, cohort.patients, roles_of(episodes.phases, question))
        ]
        account = cohort.account(cuts=cuts or ()) + Account(lines=tuple(flow), unit=cohort.unit)
        manner.say(f"{path} is valid.")
        manner.say(f"  patients: {cohort!r}")
        for attribute, words in question.estimand().items():
            manner.say(f"  {attribute}: {words}")
        manner.say(f"  model: {model.name} ({model.title})\n")
        manner.say(repr(account))
        if safety is not None:
            manner.say(f"\n  adverse events: {safety!r}\n")
            manner.say(safety.account().to_string(index=False))
        lines = [
            {name: getattr(line, name) for name in ("step", "endpoint", "phase", "what")}
            | {"patients": line.size, "events": line.events, "person_time": line.person_time}
            for line in account.lines
        ]
        events = None if safety is None else safety.account().to_dict("records")
        manner.give({**valid, "account": lines, "adverse_events": events})


@app.command(
    epilog=examples("bayesblina init patients.csv", "bayesblina init adsl.xpt --out s.toml")
)
def init(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table, one row per patient.")],
    out: Annotated[Path, typer.Option(help="The study file to write.")] = Path("study.toml"),
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
    show_ids: ShowIds = False,
) -> None:
    """Write a first study file, guessed from the columns of a table, with comments."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json, show_ids=show_ids) as manner:
        from bayesblina.core.files import write_text
        from bayesblina.patients.drafting import draft_study

        if out.exists():
            raise SpecError(f"'{out}' exists: give another file with --out.")
        write_text(out, draft_study(data, relative_to=out.parent))
        manner.say(f"{out}: a draft; check every line, then: bayesblina validate {out}")
        manner.give({"command": "init", "exit_code": ANSWERED, "study": out})
