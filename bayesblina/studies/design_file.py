"""Design files: a study that is planned, and what is asked of it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.toml_files import no_boolean, read_toml
from bayesblina.hazards.priors import HazardRatioPrior, explain
from bayesblina.studies.study_sections import Share, Time
from bayesblina.studies.table_sections import Positive, Section, Seed, Unit

if TYPE_CHECKING:
    from bayesblina.studies.planning.designs import StudyDesign

Interval = Annotated[list[Positive], Field(min_length=2, max_length=2)]


class DesignSection(Section):
    """``[design]``: what `bayesblina.planning.StudyDesign` takes."""

    patients: Annotated[int, Field(ge=2)]
    hazards: list[Time] = Field(min_length=1)
    cuts: list[Positive] = Field(default_factory=list)
    start_hazards: list[Time] = Field(min_length=1)
    start_cuts: list[Positive] = Field(default_factory=list)
    hazard_ratio: Positive
    accrual: Time = 0.0
    follow_up: Positive
    dropout: Time = 0.0
    unit: Unit = "months"


class AnalysisSection(Section):
    """``[analysis]``: how every simulated cohort is analysed, and what counts as success."""

    # The partial likelihood with the prior of the hazard ratio, without a baseline; or the hazard
    # model fitted to every cohort.
    method: Literal["companion", "model"] = "companion"
    model: str = "primary"
    # The interval that holds 95 % of the prior of the hazard ratio; by default the model's own.
    prior: Interval | None = None
    # The interval that holds 95 % of the true hazard ratio, for the assurance.
    effect: Interval | None = None
    success: Share = 0.975
    replications: Annotated[int, Field(ge=2)] = 1000
    seed: Seed = 1

    @model_validator(mode="after")
    def _ordered(self) -> AnalysisSection:
        for name in ("prior", "effect"):
            interval = getattr(self, name)
            if interval is not None and interval[0] >= interval[1]:
                raise ValueError(f"{name} must be [lower, upper] with lower < upper")
        return self


class SampleSizeSection(Section):
    """``[sample_size]``: the power, or assurance, that is wanted."""

    power: Share = 0.8


class DesignFile(Section):
    """What a design file may say; unknown keys are errors."""

    # Version of the vocabulary.
    schema_version: Annotated[Literal[1], BeforeValidator(no_boolean)] = Field(alias="schema")
    # For the reader of the file.
    title: str = ""
    design: DesignSection
    analysis: AnalysisSection = AnalysisSection()
    sample_size: SampleSizeSection | None = None
    # Keys of `[design]`, each with the values to try, in all combinations.
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> DesignFile:
        if "hazard_ratio" in self.grid and self.analysis.effect is not None:
            raise ValueError("grid: hazard_ratio is drawn from analysis.effect: leave out one")
        for name in self.grid:
            if name not in DesignSection.model_fields:
                known = list(DesignSection.model_fields)
                raise ValueError(f"grid: a design has no '{name}'. {nearest(name, known)}")
        return self

    def study_design(self) -> StudyDesign:
        """Make the design."""
        from bayesblina.studies.planning.designs import StudyDesign

        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self.design
        }
        return StudyDesign(**given)

    @property
    def prior(self) -> HazardRatioPrior | None:
        """Prior of the hazard ratio in the analysis; None for the model's own."""
        return _stated(self.analysis.prior)

    @property
    def effect(self) -> HazardRatioPrior | None:
        """Distribution of the true hazard ratio; None where it is known."""
        return _stated(self.analysis.effect)


def _stated(interval: list[float] | None) -> HazardRatioPrior | None:
    return None if interval is None else HazardRatioPrior(hazard_ratio=(interval[0], interval[1]))


def read_design(path: str | PathLike[str]) -> DesignFile:
    """Read a design file."""
    content = read_toml(Path(path), what="design file")
    try:
        return DesignFile.model_validate(content)
    except ValidationError as error:
        raise SpecError(explain(error, DesignFile, source=Path(path).name)) from None
