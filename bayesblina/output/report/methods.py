"""Methods, written from the question and the model, with references; guidelines of reporting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import Free, IllnessDeath
from bayesblina.inference.convergence import BFMI, ESS, PARETO_K, R_HAT
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.wording import estimand_of

REFERENCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "e9": (
            "ICH E9(R1). Addendum on estimands and sensitivity analysis in clinical trials. 2019.",
            "",
        ),
        "immortal": (
            "Suissa S. Immortal time bias in pharmacoepidemiology. American Journal of "
            "Epidemiology 2008;167:492-499.",
            "10.1093/aje/kwm324",
        ),
        "breslow": (
            "Breslow N. Covariance analysis of censored survival data. Biometrics 1974;30:89-99.",
            "10.2307/2529620",
        ),
        "jumps": (
            "Kalbfleisch JD. Non-parametric Bayesian analysis of survival time data. Journal of"
            " the Royal Statistical Society B 1978;40:214-221.",
            "10.1111/j.2517-6161.1978.tb01666.x",
        ),
        "smoothed": (
            "Vehtari A, Simpson D, Gelman A, Yao Y, Gabry J. Pareto smoothed importance sampling."
            " Journal of Machine Learning Research 2024;25(72):1-58.",
            "10.48550/arXiv.1507.02646",
        ),
        "piecewise": (
            "Friedman M. Piecewise exponential models for survival data with covariates. Annals"
            " of Statistics 1982;10:101-113.",
            "10.1214/aos/1176345693",
        ),
        "pymc": (
            "Abril-Pla O, Andreani V, Carroll C, and others. PyMC: a modern, and comprehensive "
            "probabilistic programming framework in Python. PeerJ Computer Science "
            "2023;9:e1516.",
            "10.7717/peerj-cs.1516",
        ),
        "nuts": (
            "Hoffman MD, Gelman A. The No-U-Turn sampler. Journal of Machine Learning Research "
            "2014;15:1593-1623.",
            "",
        ),
        "rhat": (
            "Vehtari A, Gelman A, Simpson D, Carpenter B, Bürkner P-C. Rank-normalization, "
            "folding, and localization: an improved R-hat. Bayesian Analysis 2021;16:667-718.",
            "10.1214/20-BA1221",
        ),
        "bfmi": (
            "Betancourt M. Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte"
            " Carlo. 2016. arXiv:1604.00695.",
            "",
        ),
        "rmst": (
            "Royston P, Parmar MKB. Restricted mean survival time: an alternative to the hazard"
            " ratio. BMC Medical Research Methodology 2013;13:152.",
            "10.1186/1471-2288-13-152",
        ),
        "average": (
            "Kalbfleisch JD, Prentice RL. Estimation of the average hazard ratio. Biometrika "
            "1981;68:105-112.",
            "10.1093/biomet/68.1.105",
        ),
        "simon": (
            "Simon R, Makuch RW. A non-parametric graphical representation of the relationship "
            "between survival and the occurrence of an event. Statistics in Medicine "
            "1984;3:35-44.",
            "10.1002/sim.4780030106",
        ),
        "mantel": (
            "Mantel N, Byar DP. Evaluation of response-time data involving transient states. "
            "Journal of the American Statistical Association 1974;69:81-86.",
            "10.2307/2285644",
        ),
        "landmark": (
            "Anderson JR, Cain KC, Gelber RD. Analysis of survival by tumor response. Journal "
            "of Clinical Oncology 1983;1:710-719.",
            "10.1200/JCO.1983.1.11.710",
        ),
        "loo": (
            "Vehtari A, Gelman A, Gabry J. Practical Bayesian model evaluation using leave-one-"
            "out cross-validation and WAIC. Statistics and Computing 2017;27:1413-1432.",
            "10.1007/s11222-016-9696-4",
        ),
        "predictive": (
            "Gelman A, Meng X-L, Stern H. Posterior predictive assessment of model fitness via "
            "realized discrepancies. Statistica Sinica 1996;6:733-760.",
            "",
        ),
        "scaling": (
            "Kallioinen N, Paananen T, Bürkner P-C, Vehtari A. Detecting and diagnosing prior "
            "and likelihood sensitivity with power-scaling. Statistics and Computing "
            "2024;34:57.",
            "10.1007/s11222-023-10366-5",
        ),
        "barg": (
            "Kruschke JK. Bayesian analysis reporting guidelines. Nature Human Behaviour "
            "2021;5:1282-1291.",
            "10.1038/s41562-021-01177-7",
        ),
        "masking": (
            "Fischetti M, Salazar JJ. Solving the cell suppression problem on tabular data with"
            " linear constraints. Management Science 2001;47:1008-1027.",
            "10.1287/mnsc.47.7.1008.9805",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph and the works that it cites, by their keys in `REFERENCES`."""

    text: str
    cites: tuple[str, ...] = ()


BASELINE = Paragraph(
    text="Baseline: the log hazard ratios were drawn again from Breslow's partial "
    "likelihood, which has no baseline, with the same priors, covariates and strata. "
    "The baseline was taken to move an answer where the posterior means are more than "
    "half a standard deviation apart. How far each prior pulls is the difference of "
    "that posterior from the one without the prior.",
    cites=("breslow", "jumps", "smoothed"),
)
# What was done where a table is there, and the works to cite.
CHECKS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "predictive": (
            "events replicated within the observed time at risk were compared with those seen",
            ("predictive",),
        ),
        "leave_one_out": ("each patient was predicted from the others", ("loo",)),
        "bias_ladder": (
            "the answer was set beside ever against never, landmark analyses, the Mantel-Byar "
            "comparison and the time-varying Cox model",
            ("landmark", "mantel"),
        ),
    }
)


def paragraphs(
    fit: Fit, *, shown: Sequence[str], unit: str, coarse: bool = False
) -> list[Paragraph]:
    """Write the methods of a fit.

    `shown`: names of the tables of results that are there: only what was done is described.
    `coarse`: whether sentences leave out counts: there are as many intervals as events allow.
    """
    definition = fit.definition
    covariates = ", ".join(fit.design.term_names)
    adjusted = (
        f"Covariates: {covariates}; the hazard ratios are conditional on them. "
        if covariates
        else "There are no covariates in the model. "
    )
    together = (
        f"{definition.endpoints.death} and {definition.endpoints.relapse_free} follow from one "
        "illness-death model. "
        if isinstance(definition.endpoints, IllnessDeath)
        else ""
    )
    scaled = "prior_sensitivity" in shown
    methods = [
        _comparison(fit),
        _model(
            definition,
            f"{_steps(fit, coarse=coarse)}{adjusted}{together}",
            intervals=None if coarse else len(fit.person_time.cuts) + 1,
        ),
        Paragraph(
            text="Priors are stated through the interval that holds their mass; they are listed "
            "with the formulas below. "
            + (
                "Those of effects were raised to powers to see whether the answer hangs on them."
                if scaled
                else ""
            ),
            cites=("scaling",) if scaled else (),
        ),
        _computation(fit),
        Paragraph(
            text="Estimates: posterior medians with central (equal-tailed) 95 % intervals. Hazard "
            "ratios that vary are averaged over the events. Survival under a regime is given "
            "event-free at a landmark, and averaged over the covariates of the same patients "
            f"under every regime; restricted means, in {unit}, are exact integrals of it. Observed "
            "curves are those of Simon and Makuch.",
            cites=("average", "rmst", "simon"),
        ),
    ]
    if fit.companion.draws is not None and not isinstance(definition.baseline, Free):
        methods.append(BASELINE)
    return [*methods, *_checks(shown)]


def _comparison(fit: Fit) -> Paragraph:
    """Say who is compared, in what."""
    estimand, person_time = estimand_of(fit), fit.person_time
    included = "".join(
        f"By declaration every event of {' and of '.join(others)} is an event of {name} too, which "
        "the data were held to. "
        for name, others in person_time.includes.items()
        if others
    )
    return Paragraph(
        text=f"Population: {estimand['population']}. Treatment: {estimand['treatment']}. "
        f"Endpoints: {', '.join(person_time.endpoints)}. {included}Intercurrent events: "
        f"{estimand['intercurrent events']}. The treatment phase is a state that changes over "
        f"time: nobody counts as in {fit.question.exposure} before its start, so that the time "
        f"survived until then is not credited to it. {_courses(fit)}{_periods(fit)}Who enters the "
        "phase is not decided by chance: the comparison is causal only if the covariates in the "
        "model account for what led to it.",
        cites=("e9", "immortal"),
    )


def _steps(fit: Fit, *, coarse: bool) -> str:
    """Say of which measure the effect's steps are, where a question names one."""
    question, table = fit.question, fit.person_time.table
    if not question.stepped:
        return ""
    # There are as many as events allow, unless the question says where they are.
    shown = table["role"].values == "exposed" if question.steps or not coarse else []
    names = ", ".join(table["phase"].values[shown].tolist()) if len(shown) else ""
    scale = question.scale(fit.person_time.unit)
    return f"Here the walk is over the steps of {scale}{': ' * bool(names)}{names}. "


def _courses(fit: Fit) -> str:
    """Say that phases may recur, where they may."""
    if fit.person_time.layout is None:
        return ""
    return (
        "A patient's course is made of stays in phases, which may recur; gaps that were bridged, "
        "stays that were made longer and overlaps that were settled are in the account of "
        "patients. "
    )


def _periods(fit: Fit) -> str:
    """Say that follow-up is cut at calendar dates, where it is."""
    name = fit.person_time.period
    own = next((held for held in fit.person_time.covariates if held.name == name), None)
    if own is None:
        return ""
    return (
        f"Follow-up is cut at calendar dates, so that hazards may differ by {name} "
        f"({'; '.join(own.levels)}): a patient counts in each while in it, entering late and "
        "leaving at its end, and is counted once. "
    )


def _checks(shown: Sequence[str]) -> list[Paragraph]:
    """Say by what the answer was checked, if it was."""
    done = [(words, cites) for name, (words, cites) in CHECKS.items() if name in shown]
    if not done:
        return []
    text = f"Checks: {'; '.join(words for words, _ in done)}."
    return [Paragraph(text=text, cites=tuple(key for _, cites in done for key in cites))]


def _model(definition: ModelDefinition, more: str, *, intervals: int | None) -> Paragraph:
    """Describe the model."""
    what = f"Model: {definition.title}. {' '.join(definition.description.split())}"
    if isinstance(definition.baseline, Free):
        return Paragraph(
            text=f"{what} {more}The likelihood is Breslow's partial likelihood.",
            cites=("jumps",),
        )
    pieces = "intervals" if intervals is None else f"{intervals} intervals"
    return Paragraph(
        text=f"{what} Hazards are constant within {pieces} of follow-up. {more}"
        "The likelihood rests on events and person-time by interval, phase and covariate pattern.",
        cites=("piecewise",),
    )


def _computation(fit: Fit) -> Paragraph:
    """Describe how draws were made, and when they were accepted."""
    settings = fit.provenance.settings
    if isinstance(fit.definition.baseline, Free):
        sizes = fit.posterior.sizes
        return Paragraph(
            text=f"Computation: {sizes['chain'] * sizes['draw']} independent draws by importance "
            "sampling around the posterior mode, and jumps of the baseline given them. Draws were "
            f"accepted if the Pareto k of the weights was below {PARETO_K} and the effective "
            f"number of draws above {ESS:g}.",
            cites=("smoothed",),
        )
    return Paragraph(
        text=f"Computation: {settings.chains} chains of {settings.draws} draws by the "
        f"No-U-Turn sampler after {settings.tune} for adaptation, with PyMC "
        f"{fit.provenance.versions.get('pymc', '')} and nutpie "
        f"{fit.provenance.versions.get('nutpie', '')}. Draws were accepted if every R-hat was "
        f"below {R_HAT}, bulk and tail effective sample sizes above {ESS:g}, no transition "
        f"diverged and the energy's BFMI was above {BFMI}.",
        cites=("pymc", "nuts", "rhat", "bfmi"),
    )


def numbered(methods: Sequence[Paragraph], *more: str) -> dict[str, int]:
    """Give numbers to the works that are cited, in the order of their citation.

    `*more`: works cited elsewhere in the report.
    """
    keys = [key for paragraph in methods for key in paragraph.cites]
    return {key: index for index, key in enumerate(dict.fromkeys([*keys, *more]), start=1)}


# Where the report answers each item of the Bayesian Analysis Reporting Guidelines ("barg" of the
# references); the wording of the items is our own.
NOT_COMPUTED = "not computed for this model or folder"
NO_DECISION = "does not apply: no decision"
# What an item may need besides a table of results.
THRESHOLDS, SCENARIOS, WEIGHTS = "thresholds", "scenarios", "weights of independent draws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of the guidelines.

    `step`: step of the guidelines.
    `section`: section of the report that does; empty where none does.
    `words`: how, or why not.
    """

    step: str
    item: str
    section: str
    words: str


def _items(step: str, *rows: tuple[str, ...]) -> tuple[tuple[Item, str, str], ...]:
    """Make the items of a step: each with what it needs, and what is said without it."""
    items = []
    for item, section, words, *rest in rows:
        needs, otherwise = [*rest, NOT_COMPUTED][:2] if rest else ("", "")
        items.append((Item(step=step, item=item, section=section, words=words), needs, otherwise))
    return tuple(items)


ITEMS = (
    *_items(
        "Preamble",
        ("A. Why a Bayesian analysis", "", "to be written by whoever reports the study"),
        ("B. Goals of the analysis", "estimand", "the estimand"),
    ),
    *_items(
        "1 Model",
        ("A. Data and variables", "flow", "patients, events and time at risk"),
        ("B. Likelihood and parameters", "methods", "in words and formulas"),
        ("C. Prior distribution", "prior", "stated through intervals; all in Methods"),
        ("D. Formal specification", "methods", "formulas"),
        (
            "E. Prior predictive check",
            "prior",
            "what the priors of effects imply, given the level and shape of the pooled hazard: the "
            "baseline's own prior is vague on purpose",
            "prior_predictive",
        ),
    ),
    *_items(
        "2 Computation",
        ("A. Software", "provenance", "versions"),
        ("B. Convergence of the chains", "convergence", "pass or fail by criterion"),
        (
            "C. Resolution of the chains",
            "convergence",
            "effective sample sizes and Monte-Carlo errors",
        ),
        (
            "D. If not by Markov chains",
            "convergence",
            "importance sampling, with the Pareto k of its weights",
            WEIGHTS,
            "does not apply: Markov chains were used",
        ),
    ),
    *_items(
        "3 Posterior",
        (
            "A. Posterior predictive check",
            "predictive",
            "events and curves, replicated and observed",
            "predictive",
        ),
        ("B. Summaries of the posterior", "ratios", "medians, intervals and densities"),
        (
            "C. Bayes factors, posterior model probabilities",
            "",
            "does not apply: no models were compared by them",
        ),
    ),
    *_items(
        "4 Decisions",
        (
            "A. Why a decision, with what criterion",
            "",
            "does not apply: the report decides nothing; probabilities are given",
        ),
        ("B. Loss function", "", NO_DECISION),
        (
            "C. Limits of a region of practical equivalence",
            "ratios",
            "probabilities of hazard ratios below the study's thresholds",
            THRESHOLDS,
            NO_DECISION,
        ),
        ("D. Estimates besides decisions", "answer", "given for every endpoint"),
    ),
    *_items(
        "5 Sensitivity",
        (
            "A. Broad and narrow priors",
            "prior",
            "priors of effects at half and at twice their weight; the baseline against none",
            "prior_sensitivity",
        ),
        (
            "B. Other priors, models and choices",
            "sensitivity",
            "scenarios",
            SCENARIOS,
            "not there: run bayesblina sensitivity into the same folder",
        ),
        (
            "C. What it does to decisions",
            "sensitivity",
            "in how many scenarios the conclusion holds",
            SCENARIOS,
            f"{NO_DECISION}, no scenarios",
        ),
    ),
    *_items(
        "6 Reproducibility",
        ("A. Software and how to get it", "provenance", "versions and command"),
        (
            "B. Data and scripts",
            "provenance",
            "the table's hash; the data themselves are not in this report",
        ),
        ("C. The same draws again", "provenance", "seed {seed}, same machine and versions"),
    ),
)


def checklist(fit: Fit, *, shown: Collection[str], sensitivity: bool) -> list[Item]:
    """Go through the guidelines.

    `shown`: names of the tables of results that are there.
    """
    there = {"", *shown, *([SCENARIOS] if sensitivity else [])}
    there |= {WEIGHTS} if isinstance(fit.definition.baseline, Free) else set()
    return [
        replace(item, words=item.words.format(seed=fit.provenance.seed))
        if needs in there
        else replace(item, section="", words=otherwise)
        for item, needs, otherwise in ITEMS
    ]
