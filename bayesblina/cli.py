"""The command line: one function for each subcommand, no statistics.

Only typer and the errors are imported here; each command imports what it needs, so that help
comes at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayesblina.errors import BayesblinaError, ConvergenceError, SpecError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from bayesblina.cohort import Cohort
    from bayesblina.fitting import Fit
    from bayesblina.study import Study

ANSWERED, NOT_CONVERGED, BAD_INPUT, FAULT = 0, 1, 2, 3
RESULTS = frozenset(
    {
        "hazard_ratios.csv",
        "survival.csv",
        "diagnostics.csv",
        "classical.csv",
        "fit.nc",
        "summary.md",
    }
)
AT_RISK_TIMES = 7
DEMO_MARK = "# The synthetic study of `bayesblina demo`; never patient data.\n"

app = typer.Typer(
    help="Bayesian survival analysis of treatment phases that patients enter later.",
    epilog="Exit codes: 0 answered, 1 not converged (results are written, marked), 2 bad input, "
    "3 a fault in bayesblina.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(models_app, name="models", help="List the models, or show one.")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]


@dataclass(frozen=True, slots=True)
class _Manner:
    debug: bool = False
    quiet: bool = False

    def say(self, text: str) -> None:
        """Print unless quiet."""
        if not self.quiet:
            typer.echo(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        What would stand after ``bayesblina``; by default what the process was started with.

    Returns
    -------
    int
        The exit code.
    """
    try:
        app(arguments, prog_name="bayesblina")
    except SystemExit as ended:
        return int(ended.code or 0)
    return ANSWERED


@app.callback()
def _options(context: typer.Context, debug: Debug = False, quiet: Quiet = False) -> None:
    context.obj = _Manner(debug, quiet)


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the study and of the draws.")] = 1,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Analyse the synthetic study, end to end; leaves its data and its study file there too."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.study import read_study

        _make_folder(out)
        _write_demo(out, seed=seed)
        code = _run(read_study(out / "study.toml"), out, manner)
    raise typer.Exit(code)


@app.command()
def run(
    context: typer.Context,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Fit a study and write hazard ratios, curves, diagnostics, figures and a summary."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.study import read_study

        read = read_study(study)
        code = _run(read, out, manner)
    raise typer.Exit(code)


@app.command()
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
) -> None:
    """Check a study file, its data and its question, without fitting; account for all patients."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.account import Account
        from bayesblina.follow_up import account_of, find_episodes, roles_of
        from bayesblina.study import read_study

        read = read_study(path if study is None else study)
        question, model = read.question(), read.model()
        cohort = read.cohort(None if study is None else path)
        _require_curves(read, cohort)
        episodes = find_episodes(cohort, question)
        before = cohort.account(cuts=read.content.fit.cuts or ())
        flow = [
            line
            for found in episodes.values()
            for line in account_of(found, cohort.patients, roles_of(found.phases, question))
        ]
        manner.say(f"{path} is valid.")
        manner.say(f"  patients: {cohort!r}")
        for attribute, words in question.estimand().items():
            manner.say(f"  {attribute}: {words}")
        manner.say(f"  model: {model.name} ({model.title})\n")
        manner.say(repr(before + Account(lines=tuple(flow), unit=cohort.unit)))


@app.command()
def sensitivity(
    context: typer.Context,
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if missing.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what an earlier run left in the folder.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; dask: an existing cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The cluster's scheduler.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local processes; by default one for each core.")
    ] = None,
    keep_draws: Annotated[
        bool, typer.Option("--keep-draws", help="Keep draws of the log hazard ratios, too.")
    ] = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Run the scenarios of a study's section [sensitivity]; a killed run can be resumed."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.study import read_study

        read = read_study(study)
        if engine not in ("local", "dask"):
            raise SpecError(f"--engine must be local or dask, got '{engine}'.")
        code = _sensitivity(
            read,
            out,
            manner,
            {
                "resume": resume,
                "engine": engine,
                "scheduler": scheduler,
                "workers": workers,
                "keep_draws": keep_draws,
            },
        )
    raise typer.Exit(code)


@app.command()
def design(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="DESIGN", help="A design file (TOML).")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; made if missing.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the grid that an earlier run left.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes for the grid; by default one each core.")
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a planned study: bias, coverage, power or assurance, sample size, grids."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.design_file import read_design
        from bayesblina.files import write_text
        from bayesblina.planning import operating_characteristics, sample_size
        from bayesblina.what_if import design_grid

        read = read_design(path)
        planned, asked = read.study_design(), read.analysis
        _make_folder(out)
        same: dict[str, Any] = {
            "seed": asked.seed,
            "replications": asked.replications,
            "success": asked.success,
            "prior": read.prior,
            "effect": read.effect,
        }
        table = operating_characteristics(planned, analysis=asked.method, model=asked.model, **same)
        write_text(out / "operating_characteristics.csv", _to_csv(table))
        row = table.iloc[0]
        what = "Assurance" if read.effect else "Probability of success"
        manner.say(
            f"{planned.patients} patients, {row['events']:.0f} events, {row['exposed']:.0f} "
            f"exposed on average.\n{what}: {row['success']:.1%} (Monte-Carlo error "
            f"{row['success_mcse']:.1%}); bias of the log hazard ratio {row['bias']:+.3f}, "
            f"coverage {row['coverage']:.1%}, in {asked.replications} simulated cohorts."
        )
        if read.sample_size is not None:
            sizes = sample_size(planned, power=read.sample_size.power, **same)
            write_text(out / "sample_size.csv", _to_csv(sizes))
            enough = sizes[sizes["success"] >= read.sample_size.power]["patients"].iloc[0]
            manner.say(f"{read.sample_size.power:.0%} is reached with {enough} patients.")
        if read.grid:
            grid = design_grid(
                planned,
                read.grid,
                out=out / "grid",
                resume=resume,
                workers=workers,
                analysis=asked.method,
                model=asked.model,
                **same,
            )
            write_text(out / "grid.csv", _to_csv(grid))
        manner.say(f"Results: the tables in {out}.")
    raise typer.Exit(ANSWERED)


@app.command()
def init(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table, one row per patient.")],
    out: Annotated[Path, typer.Option(help="The study file to write.")] = Path("study.toml"),
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a first study file, guessed from the columns of a table, with comments."""
    with _reported(context, debug=debug, quiet=quiet) as manner:
        from bayesblina.drafting import draft_study
        from bayesblina.files import write_text

        if out.exists():
            raise SpecError(f"'{out}' exists: give another file with --out.")
        write_text(out, draft_study(data, relative_to=out.parent))
        manner.say(f"{out}: a draft; check every line, then: bayesblina validate {out}")


@models_app.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _list_models()


@models_app.command("list")
def models_list() -> None:
    """List the models that ship with the package."""
    _list_models()


@models_app.command("show")
def models_show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or a .toml file.")],
    debug: Debug = False,
) -> None:
    """Show a model's definition, and its mathematics."""
    with _reported(context, debug=debug, quiet=False):
        from importlib.resources import files

        from bayesblina.hazards.definition import load_model
        from bayesblina.hazards.mathematics import mathematics

        definition = load_model(name)
        source = Path(name)
        if source.suffix == ".toml":
            text = source.read_text(encoding="utf-8")
        else:
            text = files("bayesblina.models").joinpath(f"{name}.toml").read_text(encoding="utf-8")
        typer.echo(text.rstrip())
        # Comments, so that the whole stays a model file.
        typer.echo()
        for line in mathematics(definition).splitlines():
            typer.echo(f"# {line}".rstrip())


@models_app.command("prior")
def models_prior(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or a .toml file.")],
    study: Annotated[
        Path | None, typer.Option(help="Study file: its patients, question and covariates.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for prior.csv and the figure.")] = None,
    draws: Annotated[int, typer.Option(min=100, help="Draws from the prior.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 1,
    debug: Debug = False,
) -> None:
    """Draw the curves and hazard ratios that a model's priors imply, before any data."""
    with _reported(context, debug=debug, quiet=False):
        if out is not None:
            _make_folder(out)
        from bayesblina.checks.calibration import synthetic_setting
        from bayesblina.files import write_text
        from bayesblina.fitting import expose_for
        from bayesblina.hazards.definition import load_model
        from bayesblina.predictive import prior_predictive
        from bayesblina.study import read_study
        from bayesblina.summaries import prior_table

        if study is None:
            definition, exposure = synthetic_setting(name)
            typer.echo("Patients, cut points and units of the SYNTHETIC study; see --study.")
        else:
            content = read_study(study)
            named = {role: name for role, name in content.model().roles.items() if name}
            definition = load_model(name)
            known = {role: one for role, one in named.items() if role in definition.roles}
            definition = definition.with_covariates(**known)
            exposure = expose_for(definition, content.cohort(), content.question())
        prior = prior_predictive(definition, exposure, seed=seed, draws=draws)
        table = prior_table(prior)
        typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        if out is not None:
            from bayesblina import plots

            write_text(out / "prior.csv", _to_csv(table))
            _write_figure(plots.prior_predictive(prior), out, "prior")


def _list_models() -> None:
    from bayesblina.hazards.definition import load_model, model_names

    # The default first.
    names = sorted(model_names(), key=lambda name: (name != "primary", name))
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {load_model(name).title}")


@contextmanager
def _reported(context: typer.Context, *, debug: bool, quiet: bool) -> Iterator[_Manner]:
    """Turn errors into one readable message and an exit code."""
    above = context.find_root().obj or _Manner()
    manner = _Manner(debug or above.debug, quiet or above.quiet)
    try:
        yield manner
    except (BayesblinaError, OSError) as error:
        if manner.debug:
            typer.echo(traceback.format_exc(), err=True, nl=False)
        else:
            typer.echo(f"bayesblina: {error}", err=True)
        code = NOT_CONVERGED if isinstance(error, ConvergenceError) else BAD_INPUT
        raise typer.Exit(code) from None
    except Exception as error:
        if manner.debug:
            typer.echo(traceback.format_exc(), err=True, nl=False)
        else:
            typer.echo(
                f"bayesblina: {type(error).__name__}: {error}\nThis is a fault in bayesblina, not "
                "in your study. Please report it with what --debug shows.",
                err=True,
            )
        raise typer.Exit(FAULT) from None


def _make_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise SpecError(f"--out '{out}' is a file; expected a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"Cannot make the folder '{out}': {error.strerror}.") from error


def _write_demo(out: Path, *, seed: int) -> None:
    from bayesblina.files import write_text
    from bayesblina.simulate import blinatumomab_table

    study = out / "study.toml"
    ours = study.is_file() and study.read_text("utf-8", errors="replace").startswith(DEMO_MARK)
    for name in ("patients.csv", "study.toml"):
        if (out / name).exists() and not ours:
            raise SpecError(
                f"'{out / name}' exists and is not the demo's: give another folder with --out."
            )
    write_text(study, DEMO_MARK + DEMO_STUDY.format(seed=seed))
    write_text(out / "patients.csv", _to_csv(blinatumomab_table(seed)))


def _run(study: Study, out: Path, manner: _Manner) -> int:
    """Fit a study and write all results; return the exit code."""
    data = study.path.parent / study.content.data.file
    for path in (study.path, data):
        if path.resolve().parent == out.resolve() and path.name in RESULTS:
            raise SpecError(f"'{path}' would be overwritten by a result: give another --out.")
    question, model, regimes = study.question(), study.model(), study.regimes()
    cohort = study.cohort()
    _require_curves(study, cohort)
    _make_folder(out)
    _remove_results(out, question.endpoints or tuple(cohort.endpoints))
    manner.say(f"{cohort!r}")

    from bayesblina.classical import mantel_byar
    from bayesblina.estimands import hazard_ratio, survival
    from bayesblina.files import write_text
    from bayesblina.fitting import fit
    from bayesblina.storage import save
    from bayesblina.summaries import summarise

    asked, curves_asked = study.content.fit, study.content.curves
    fitted = fit(
        cohort,
        question,
        model=model,
        seed=asked.seed,
        cuts=asked.cuts,
        phase_cuts=asked.phase_cuts,
        draws=asked.draws,
        tune=asked.tune,
        chains=asked.chains,
        cores=asked.cores,
        progress=not manner.quiet and sys.stdout.isatty(),
    )
    save(fitted, out / "fit.nc")
    ratios = hazard_ratio(fitted)
    table = summarise(ratios, thresholds=tuple(dict.fromkeys([1.0, *curves_asked.thresholds])))
    write_text(out / "hazard_ratios.csv", _to_csv(table))
    write_text(out / "diagnostics.csv", _to_csv(_diagnostics(fitted)))
    curves = survival(
        fitted, regimes=regimes, times=curves_asked.times, landmark=curves_asked.landmark
    )
    write_text(out / "survival.csv", _to_csv(summarise(curves)))
    comparison = mantel_byar(cohort, question).to_dataframe().reset_index()
    write_text(out / "classical.csv", _to_csv(comparison))
    _write_figures(fitted, cohort, ratios, curves, out)
    sentences = [_sentence(row, fitted) for row in table.to_dict("records")]
    write_text(out / "summary.md", _summary(study, fitted, cohort, sentences, table))
    for sentence in sentences:
        manner.say(sentence)
    if not fitted.converged:
        failures = "; ".join(fitted.convergence.failures())
        typer.echo(
            f"bayesblina: NOT CONVERGED: {failures}. The results in {out} are marked; sample "
            "longer ([fit] draws, tune) before using them.",
            err=True,
        )
    manner.say(f"Results: {out / 'summary.md'} and the files beside it.")
    return ANSWERED if fitted.converged else NOT_CONVERGED


def _sensitivity(study: Study, out: Path, manner: _Manner, how: dict[str, Any]) -> int:
    """Run a study's scenarios and write table and figures; return the exit code."""
    cohort = study.cohort()
    what_if = study.scenarios(cohort)
    manner.say(f"{cohort!r}\n{len(what_if)} scenarios")

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bayesblina import plots
    from bayesblina.files import write_text
    from bayesblina.what_if import sensitivity as run_all

    asked = study.content.fit
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeRemainingColumn(),
    )
    shown = not manner.quiet and sys.stdout.isatty()
    with Progress(*columns, transient=True, disable=not shown) as bar:
        task = bar.add_task("scenarios", total=len(what_if))
        found = run_all(
            cohort,
            what_if,
            out=out,
            seed=asked.seed,
            draws=asked.draws,
            tune=asked.tune,
            chains=asked.chains,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **how,
        )
    write_text(out / "scenarios.csv", _to_csv(found.table))
    complete = bool((found.table["status"] == "converged").all())
    for name in found.table["endpoint"].dropna().unique():
        rows = found.table[found.table["endpoint"] == name]
        if not (rows["status"] == "converged").any():
            continue
        _write_figure(
            plots.specification_curve(found, str(name)), out, f"specification_{_file_name(name)}"
        )
        effects = found.effects(str(name))
        write_text(out / f"effects_{_file_name(name)}.csv", _to_csv(effects))
        if len(effects):
            figure = plots.tornado(found, str(name))
            _write_figure(figure, out, f"tornado_{_file_name(name)}")
        manner.say(str(found.holds(str(name))))
    if not complete:
        silent = found.table[found.table["status"] != "converged"].drop_duplicates("key")
        for row in silent.to_dict("records"):
            typer.echo(
                f"bayesblina: {row['scenario']}: {str(row['status']).upper()}: {row['reason']}",
                err=True,
            )
    manner.say(f"Results: {out / 'scenarios.csv'} and the files beside it.")
    return ANSWERED if complete else NOT_CONVERGED


def _require_curves(study: Study, cohort: Cohort) -> None:
    """Refuse what could only fail after sampling: cuts, regimes, landmark, times, file names."""
    from bayesblina.follow_up import find_episodes, require_comparison
    from bayesblina.hazards.definition import IllnessDeath, require_roles
    from bayesblina.intervals import validate_cuts
    from bayesblina.regimes import observation, require_curves
    from bayesblina.transitions import find_transitions

    question, asked, cuts = study.question(), study.content.curves, study.content.fit.cuts
    if cuts is not None:
        validate_cuts(cuts)
    episodes = find_episodes(cohort, question)
    require_comparison(episodes, question)
    require_curves(
        observation(episodes, unit=cohort.unit),
        question,
        regimes=tuple(study.regimes()),
        landmark=asked.landmark,
        times=asked.times,
    )
    definition = study.model()
    levels = {
        name: one.levels for name, one in cohort.covariates.items() if one.kind == "categorical"
    }
    require_roles(definition, levels)
    if isinstance(definition.endpoints, IllnessDeath):
        joint = definition.endpoints
        find_transitions(cohort, question, death=joint.death, relapse_free=joint.relapse_free)
    by_file: dict[str, str] = {}
    for name in episodes:
        other = by_file.setdefault(_file_name(name).lower(), name)
        if other != name:
            raise SpecError(
                f"The endpoints '{other}' and '{name}' would share a figure's file: rename one."
            )


def _remove_results(out: Path, endpoints: Sequence[str]) -> None:
    """Remove an earlier run's results: none must stand beside those of this one."""
    figures = ["hazard_ratio", *(f"survival_{_file_name(name)}" for name in endpoints)]
    names = [f"{name}.{suffix}" for name in figures for suffix in ("png", "svg")]
    for name in [*RESULTS, *names]:
        (out / name).unlink(missing_ok=True)


def _to_csv(table: pd.DataFrame) -> str:
    from bayesblina.tables import to_csv

    return to_csv(table)


def _diagnostics(fit: Fit) -> pd.DataFrame:
    """Join the criteria and every parameter's diagnostics in one table."""
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {
            "kind": "criterion",
            "name": row["criterion"],
            "value": row["value"],
            "limit": row["limit"],
            "passed": row["passed"],
        }
        for row in fit.convergence.criteria.to_dict("records")
    ]
    rows += [
        {"kind": "parameter", "name": row["parameter"]}
        | {name: row[name] for name in ("r_hat", "ess_bulk", "ess_tail")}
        for row in fit.convergence.table.to_dict("records")
    ]
    columns = ["kind", "name", "value", "limit", "passed", "r_hat", "ess_bulk", "ess_tail"]
    return pd.DataFrame(rows, columns=columns).assign(converged=fit.converged)


def _write_figures(
    fit: Fit, cohort: Cohort, ratios: xr.Dataset, curves: xr.Dataset, out: Path
) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    from bayesblina import plots
    from bayesblina.classical import numbers_at_risk, simon_makuch

    start, end = float(curves.attrs["landmark"]), float(curves["time"].max())
    observed = simon_makuch(cohort, fit.question, landmark=start)
    ticks = np.asarray(MaxNLocator(AT_RISK_TIMES).tick_values(start, end))
    ticks = ticks[(ticks >= start) & (ticks <= end)]
    at_risk = numbers_at_risk(cohort, fit.question, ticks)
    for name in map(str, curves["endpoint"].values):
        figure = plots.survival(curves, endpoint=name, observed=observed, at_risk=at_risk)
        _write_figure(figure, out, f"survival_{_file_name(name)}")
    prior = fit.definition.phases.prior
    figure = plots.hazard_ratio(ratios, prior=(prior.mean, prior.sd))
    _write_figure(figure, out, "hazard_ratio")


def _write_figure(figure: Figure, out: Path, name: str) -> None:
    from io import BytesIO

    import matplotlib as mpl

    from bayesblina.files import write_bytes

    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        buffer = BytesIO()
        # A fixed salt and no date: the same results give the same file.
        with mpl.rc_context({"svg.hashsalt": "bayesblina"}):
            figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
        write_bytes(out / f"{name}.{suffix}", buffer.getvalue())


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def _sentence(row: dict[Any, Any], fit: Fit) -> str:
    """Answer for one endpoint, in a sentence."""
    question = fit.question
    against = f"against {question.against}"
    checks = (
        "The convergence checks passed."
        if fit.converged
        else "NOT CONVERGED: do not use this number."
    )
    synthetic = "SYNTHETIC PATIENTS. " if fit.exposure.synthetic else ""
    return (
        f"{str(row['endpoint']).upper()}: hazard ratio of {question.exposed} {against} "
        f"{row['median']:.2f} (posterior median; 95 % interval {row['lower']:.2f} to "
        f"{row['upper']:.2f}; probability that it is below 1: {row['probability_below_1']:.3f}). "
        f"{synthetic}{checks}"
    )


def _summary(
    study: Study, fit: Fit, cohort: Cohort, sentences: list[str], table: pd.DataFrame
) -> str:
    """Word the results; counts only, never patients."""
    lines = [f"# {study.content.title or study.path.stem}", ""]
    if fit.exposure.synthetic:
        lines += ["> **SYNTHETIC**: the patients are simulated. This is never evidence.", ""]
    if not fit.converged:
        lines += ["> **NOT CONVERGED**: do not use these numbers. What failed:", ">"]
        lines += [f"> - {failure}" for failure in fit.convergence.failures()]
        lines += [""]
    lines += ["## Answer", "", *(f"- {sentence}" for sentence in sentences), ""]
    kind = "conditional on the covariates" if fit.design.term_names else "without covariates"
    lines += [f"The hazard ratios are {kind}; each interval is central (equal-tailed).", ""]
    lines += ["## Prior and posterior", "", *_prior_lines(fit, table), ""]
    lines += ["## Question", "", "| attribute | |", "|---|---|"]
    lines += [
        f"| {_cell(name)} | {_cell(words)} |" for name, words in fit.question.estimand().items()
    ]
    lines += ["", "## Patients", "", *_population_lines(fit, cohort), ""]
    lines += ["## Checks", "", "| criterion | value | must be | passed |", "|---|---|---|---|"]
    lines += [
        f"| {row['criterion']} | {row['value']:.4g} | {row['limit']} | "
        f"{'yes' if row['passed'] else '**NO**'} |"
        for row in fit.convergence.criteria.to_dict("records")
    ]
    lines += [f"- {note}" for note in fit.provenance.notes]
    lines += ["", "## Provenance", "", *_provenance_lines(fit, cohort), ""]
    return "\n".join(lines)


def _prior_lines(fit: Fit, table: pd.DataFrame) -> list[str]:
    import math

    prior = fit.definition.phases.prior
    half = 1.959963984540054 * prior.sd
    low, high = math.exp(prior.mean - half), math.exp(prior.mean + half)
    lines = [
        f"Before the data, {fit.question.exposed}'s hazard ratio lay between {low:.2f} and "
        f"{high:.2f} with probability 95 %, around {math.exp(prior.mean):.2f}.",
        "",
    ]
    for row in table.to_dict("records"):
        share = math.log(row["upper"] / row["lower"]) / (2 * half)
        # In a normal approximation the prior's share of the precision is the width's square.
        weight = f"the prior carries about {share**2:.0%} of what is known"
        lines.append(
            f"- {str(row['endpoint']).upper()}: the posterior interval, {row['lower']:.2f} to "
            f"{row['upper']:.2f}, has {share:.0%} of the prior's width on the log scale; {weight}."
        )
    return lines


def _population_lines(fit: Fit, cohort: Cohort) -> list[str]:
    account = cohort.account(cuts=fit.exposure.cuts) + fit.exposure.account()
    return [
        f"{cohort.size} patients in {_cell(cohort.source)}, times in {fit.exposure.unit}.",
        "",
        account.to_markdown(),
    ]


def _provenance_lines(fit: Fit, cohort: Cohort) -> list[str]:
    provenance = fit.provenance
    settings = provenance.settings
    versions = ", ".join(f"{name} {number}" for name, number in provenance.versions.items())
    return [
        f"- data: {cohort.source}, SHA-256 of events and person-time `{provenance.data_hash}`",
        f"- model: {fit.definition.name} ({fit.definition.title})",
        f"- sampling: seed {provenance.seed}, {settings.chains} chains of {settings.draws} draws "
        f"after {settings.tune} for adaptation, engine {provenance.engine}",
        f"- versions: {versions}",
    ]


def _cell(text: str) -> str:
    """Keep a text from breaking a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


DEMO_STUDY = """
schema = 1
title = "Synthetic study: maintenance after consolidation"

[data]
file = "patients.csv"
patient = "patient_id"
unit = "months"
transplant = "transplant_month"
covariates = {{ age_group = "categorical", prior_salvage = "categorical", \
marrow_blasts = "continuous" }}
synthetic = true

[endpoints.os]
time = "os_months"
event = "died"

[endpoints.rfs]
time = "rfs_months"
event = "relapse_or_death"
entry = "remission_month"

[phases]
consolidation = "consolidation_month"
maintenance = "maintenance_month"

[question]
exposed = "maintenance"
eligible_from = "consolidation"
transplant = "censor"

[model]
name = "primary"

[fit]
seed = {seed}

# Survival without maintenance and with maintenance from month 8 on, in those event-free then.
[curves]
landmark = 8.0
starts = [8.0]
"""
