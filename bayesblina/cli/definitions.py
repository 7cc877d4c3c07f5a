"""Commands about models: list, show, prior."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from bayesblina.checks import priors
from bayesblina.cli.application import ANSWERED, Debug, Json, Quiet, app, examples, reported
from bayesblina.core import tables
from bayesblina.core.errors import LARGEST_SEED
from bayesblina.core.files import write_text
from bayesblina.output import plots
from bayesblina.output.result_files import require_folder, staged, write_figure

models_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(
    models_app,
    name="models",
    help="List the models, or show one.",
    epilog=examples("bayesblina models", "bayesblina models show primary"),
)


def _names(incomplete: str) -> list[str]:
    """Complete the name of a model without reading any."""
    names = (file.name for file in files("bayesblina.models").iterdir())
    models = (name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return sorted(name for name in models if name.startswith(incomplete))


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A model's name, or a .toml file.", autocompletion=_names),
]


@models_app.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        models_list(context)


@models_app.command("list", epilog=examples("bayesblina models list --json"))
def models_list(context: typer.Context, as_json: Json = False) -> None:
    """List the models that ship with the package."""
    with reported(context, debug=False, quiet=False, as_json=as_json) as manner:
        from bayesblina.hazards.definition import load_model, model_names

        # The default first.
        models = {name: load_model(name) for name in ("primary", *sorted(model_names()))}
        rows = [
            ("name", "for", ""),
            *((name, model.purpose, model.title) for name, model in models.items()),
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        manner.say(
            *(
                f"{name:{widths[0]}}  {purpose:{widths[1]}}  {title}".rstrip()
                for name, purpose, title in rows
            )
        )
        manner.give(
            {
                "command": "models list",
                "exit_code": ANSWERED,
                "models": {
                    name: {"for": model.purpose, "title": model.title}
                    for name, model in models.items()
                },
            }
        )


@models_app.command(
    "show",
    epilog=examples(
        "bayesblina models show primary", "bayesblina models show primary > my_model.toml"
    ),
)
def models_show(
    context: typer.Context, name: Name, debug: Debug = False, as_json: Json = False
) -> None:
    """Show a model's definition, and its mathematics."""
    with reported(context, debug=debug, quiet=False, as_json=as_json) as manner:
        from bayesblina.hazards.definition import load_model
        from bayesblina.hazards.mathematics import mathematics

        definition = load_model(name)
        shipped = files("bayesblina.models").joinpath(f"{name}.toml")
        text = (Path(name) if Path(name).suffix == ".toml" else shipped).read_text("utf-8")
        formulas = mathematics(definition)
        # Comments, so that the whole stays a model file.
        comments = [f"# {line}".rstrip() for line in formulas.splitlines()]
        manner.say("\n".join([text.rstrip(), "", *comments]))
        manner.give(
            {
                "command": "models show",
                "exit_code": ANSWERED,
                "definition": definition.model_dump(mode="json", by_alias=True),
                "mathematics": formulas,
            }
        )


@models_app.command(
    "prior",
    epilog=examples(
        "bayesblina models prior primary",
        "bayesblina models prior primary --study study.toml --out prior",
    ),
)
def models_prior(
    context: typer.Context,
    name: Name,
    study: Annotated[
        Path | None, typer.Option(help="Study file: its patients, question and covariates.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for prior.csv and the figure.")] = None,
    baseline: Annotated[
        Literal["pooled", "prior"],
        typer.Option(
            metavar="pooled|prior",
            help="Curves given the pooled hazard, or with the baseline's own prior.",
        ),
    ] = "pooled",
    draws: Annotated[int, typer.Option(min=100, help="Draws from the prior.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the draws.")] = 1,
    debug: Debug = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw the curves and hazard ratios that a model's priors imply, given the pooled hazard."""
    with reported(context, debug=debug, quiet=quiet, as_json=as_json) as manner:
        if out is not None:
            require_folder(out)
        from bayesblina.estimands.summaries import prior_table
        from bayesblina.hazards.definition import change_priors, load_model
        from bayesblina.inference.model_data import person_time_for
        from bayesblina.studies.calibration import synthetic_setting
        from bayesblina.studies.study_file import read_study

        if study is None:
            definition, person_time = synthetic_setting(name)
            manner.say("Patients, cut points and units of the SYNTHETIC study; see --study.")
        else:
            content, definition = read_study(study), load_model(name)
            # The study's own priors and covariates, as far as this model has them.
            given = {k: prior for k, prior in content.priors().items() if k in definition.priors}
            roles = content.model().roles.items()
            known = {role: key for role, key in roles if key and role in definition.roles}
            definition = change_priors(definition, given, where="model.priors.")
            definition = definition.with_covariates(**known)
            person_time = person_time_for(definition, content.cohort(), content.question())
        prior = priors.prior_predictive(
            definition, person_time, seed=seed, draws=draws, baseline=baseline
        )
        table = prior_table(prior)
        manner.say(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        if out is not None:
            with staged(out, manner.interrupts) as stage:
                write_text(stage / "prior.csv", tables.to_csv(table))
                write_figure(plots.prior_predictive(prior), stage, "prior")
        manner.give(
            {
                "command": "models prior",
                "exit_code": ANSWERED,
                "model": definition.name,
                "synthetic": study is None or person_time.synthetic,
                "baseline": baseline,
                "prior": table.to_dict("records"),
                "out": out,
            }
        )
