"""The paragraph of methods, written from the question and the model, with its references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bayesblina.convergence import BFMI, ESS, R_HAT
from bayesblina.fitting import Fit
from bayesblina.hazards.definition import IllnessDeath

REFERENCES = MappingProxyType(
    {
        "e9": (
            "ICH E9(R1). Addendum on estimands and sensitivity analysis in clinical trials. 2019.",
            "",
        ),
        "immortal": ("Suissa S. Immortal time bias. 2008.", "10.1093/aje/kwm324"),
        "piecewise": ("Friedman M. Piecewise exponential models. 1982.", "10.1214/aos/1176345693"),
        "pymc": ("Abril-Pla O and others. PyMC. 2023.", "10.7717/peerj-cs.1516"),
        "nuts": ("Hoffman MD, Gelman A. The No-U-Turn sampler. 2014. JMLR 15:1593-1623.", ""),
        "rhat": ("Vehtari A and others. Rank-normalised R-hat. 2021.", "10.1214/20-BA1221"),
        "bfmi": ("Betancourt M. Energy in Hamiltonian Monte Carlo. 2016. arXiv:1604.00695.", ""),
        "rmst": ("Royston P, Parmar MKB. Restricted means. 2013.", "10.1186/1471-2288-13-152"),
        "average": (
            "Kalbfleisch JD, Prentice RL. Average hazard ratios. 1981.",
            "10.1093/biomet/68.1.105",
        ),
        "simon": ("Simon R, Makuch RW. Curves of changing states. 1984.", "10.1002/sim.4780030106"),
        "mantel": ("Mantel N, Byar DP. Transient states. 1974.", "10.2307/2285644"),
        "landmark": (
            "Anderson JR, Cain KC, Gelber RD. Landmark analysis. 1983.",
            "10.1200/JCO.1983.1.11.710",
        ),
        "loo": ("Vehtari A, Gelman A, Gabry J. PSIS-LOO. 2017.", "10.1007/s11222-016-9696-4"),
        "predictive": (
            "Gelman A, Meng X-L, Stern H. Posterior predictive assessment. 1996. Statistica "
            "Sinica 6:733-760.",
            "",
        ),
        "scaling": (
            "Kallioinen N and others. Power-scaling. 2024.",
            "10.1007/s11222-023-10366-5",
        ),
        "barg": (
            "Kruschke JK. Bayesian Analysis Reporting Guidelines. 2021.",
            "10.1038/s41562-021-01177-7",
        ),
        "masking": (
            "Fischetti M, Salazar JJ. Cell suppression. 2001.",
            "10.1287/mnsc.47.7.1008.9805",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph and the works that it cites, by their keys in `REFERENCES`."""

    text: str
    cites: tuple[str, ...] = ()


def paragraphs(fit: Fit, *, shown: Sequence[str], unit: str) -> list[Paragraph]:
    """Write the methods of a fit.

    Parameters
    ----------
    fit
        The fit.
    shown
        Names of the tables of results that are there: only what was done is described.
    unit
        Time unit.

    Returns
    -------
    list of Paragraph
        In order: question, model, priors, computation, estimates, checks.
    """
    question, definition, exposure = fit.question, fit.definition, fit.exposure
    estimand = question.estimand()
    settings = fit.provenance.settings
    cuts = len(exposure.cuts)
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
    found = [
        Paragraph(
            text=f"Population: {estimand['population']}. Treatment: {estimand['treatment']}. "
            f"Endpoints: {', '.join(exposure.endpoints)}. Intercurrent events: "
            f"{estimand['intercurrent events']}. The treatment phase is a state that changes over "
            f"time: nobody counts as in {question.exposed} before its start, so that the time "
            "survived until then is not credited to it. Who enters the phase is not decided by "
            "chance: the comparison is causal only if the covariates in the model account for "
            "what led to it.",
            cites=("e9", "immortal"),
        ),
        Paragraph(
            text=f"Model: {definition.title}. {' '.join(definition.description.split())} Hazards "
            f"are constant within {cuts + 1} intervals of follow-up. {adjusted}{together}"
            "The likelihood rests on events and person-time by interval, phase and covariate "
            "pattern.",
            cites=("piecewise",),
        ),
        Paragraph(
            text="Priors are stated through the interval that holds their mass; they are listed "
            "with the formulas below. "
            + (
                "Each was raised to powers to see whether the answer hangs on it."
                if "prior_sensitivity" in shown
                else ""
            ),
            cites=("scaling",) if "prior_sensitivity" in shown else (),
        ),
        Paragraph(
            text=f"Computation: {settings.chains} chains of {settings.draws} draws by the No-U-Turn "
            f"sampler after {settings.tune} for adaptation, with PyMC "
            f"{fit.provenance.versions.get('pymc', '')} and nutpie "
            f"{fit.provenance.versions.get('nutpie', '')}. Draws were accepted if every R-hat was "
            f"below {R_HAT}, bulk and tail effective sample sizes above {ESS:g}, no transition "
            f"diverged and the energy's BFMI was above {BFMI}.",
            cites=("pymc", "nuts", "rhat", "bfmi"),
        ),
        Paragraph(
            text="Estimates: posterior medians with central (equal-tailed) 95 % intervals. Hazard "
            "ratios that vary are averaged over the events. Survival under a regime is given "
            "event-free at a landmark, and averaged over the covariates of the same patients under "
            f"every regime; restricted means, in {unit}, are exact integrals of it. Observed curves "
            "are those of Simon and Makuch.",
            cites=("average", "rmst", "simon"),
        ),
    ]
    checks = []
    cites: list[str] = []
    if "predictive" in shown:
        checks.append(
            "events replicated within the observed time at risk were compared with those seen"
        )
        cites.append("predictive")
    if "leave_one_out" in shown:
        checks.append("each patient was predicted from the others")
        cites.append("loo")
    if "bias_ladder" in shown:
        checks.append(
            "the answer was set beside ever against never, landmark analyses, the Mantel-Byar "
            "comparison and the time-varying Cox model"
        )
        cites += ["landmark", "mantel"]
    if checks:
        found.append(Paragraph(text=f"Checks: {'; '.join(checks)}.", cites=tuple(cites)))
    return found


def numbered(found: Sequence[Paragraph], *more: str) -> dict[str, int]:
    """Number the works that are cited, in the order of their citation.

    Parameters
    ----------
    found
        The paragraphs.
    *more
        Works cited elsewhere in the report.

    Returns
    -------
    dict of int
        Numbers from 1 on, by key.
    """
    keys = [key for one in found for key in one.cites]
    return {key: index for index, key in enumerate(dict.fromkeys([*keys, *more]), start=1)}
