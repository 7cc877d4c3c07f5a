"""Figures of curves over time show the numbers given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from bayesblina import plots
from bayesblina.core.errors import SpecError
from bayesblina.output.plots.style import COLOURS, GREY
from tests.output.plots.examples import (
    TIMES,
    areas,
    at_risk,
    labels,
    lines,
    occupancy,
    over_time,
    quantiles,
    ratios,
    simon_makuch,
    survival,
    texts,
    turnbull,
)


def test_no_curve_is_dropped_for_want_of_colours() -> None:
    curves = survival().isel(regime=[0] * 9).assign_coords(regime=[f"r{i}" for i in range(9)])
    with pytest.raises(SpecError, match="too many for one figure"):
        plots.survival(curves)


def test_survival_shows_the_datasets_quantiles() -> None:
    curves = survival()
    figure = plots.survival(curves, observed=simon_makuch(), mass=0.8)
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        assert axis.get_title(loc="left") == name.upper()
        assert axis.get_xlabel() == "months from the origin (event-free at 8)"
        assert labels(axis) == [
            "never (posterior, 80% band)",
            "from 8 (posterior, 80% band)",
            "maintenance (Simon-Makuch)",
            "no maintenance (Simon-Makuch)",
        ]
        assert len(areas(axis)) == 2
        for line, band, regime in zip(lines(axis), areas(axis), ("never", "from 8"), strict=False):
            one = curves["survival"].sel(endpoint=name, regime=regime)
            lower, middle, upper = quantiles(one, 0.1, 0.5, 0.9)
            np.testing.assert_allclose(line.get_ydata(), middle)
            np.testing.assert_array_equal(line.get_xdata(), TIMES)
            edge = band.get_paths()[0].vertices
            for value in (*lower, *upper):
                assert np.isclose(edge[:, 1], value).any()
        maintenance = lines(axis)[2]
        np.testing.assert_array_equal(maintenance.get_ydata(), [1.0, 0.9, 0.8])
        assert maintenance.get_drawstyle() == "steps-post"


@pytest.mark.parametrize("order", [["never", "from 8"], ["from 8", "never"]])
@pytest.mark.parametrize("reference", ["no maintenance", "consolidation"])
def test_groups_have_the_colours_of_their_regimes(order: list[str], reference: str) -> None:
    observed = simon_makuch().replace({"group": {"no maintenance": reference}})
    figure = plots.survival(survival().sel(regime=order), endpoint="os", observed=observed)
    colour = {line.get_label().split(" (")[0]: line.get_color() for line in lines(figure.axes[0])}
    assert colour["never"] == colour[reference] == COLOURS[0]
    assert colour["from 8"] == colour["maintenance"] == COLOURS[1]


def test_a_group_that_belongs_to_no_regime_is_dark() -> None:
    observed = simon_makuch()
    observed = observed[observed["group"] == "maintenance"].assign(group="all")
    figure = plots.survival(survival(), endpoint="os", observed=observed)
    assert to_hex(lines(figure.axes[0])[-1].get_color()) == "#262626"


def test_numbers_at_risk_stand_below_their_times() -> None:
    figure = plots.survival(survival(), endpoint="os", at_risk=at_risk())
    axis = figure.axes[0]
    np.testing.assert_array_equal(axis.get_xticks(), [8.0, 12.0, 20.0])
    notes: list[Any] = list(axis.texts)
    found = {
        (text.xy[0], round(text.xyann[1])): text.get_text()
        for text in notes
        if text.get_text().isdigit()
    }
    assert list(found.values()) == ["10", "11", "12", "13", "14", "15"]
    assert sorted({where[0] for where in found}) == [8.0, 12.0, 20.0]
    assert texts(axis)[0] == "at risk, by phase"
    figure.draw_without_rendering()
    box = figure.bbox
    for text in axis.texts:
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0
        assert box.y0 <= extent.y0


def test_hazards_are_steps_up_to_their_times() -> None:
    hazards = over_time("hazard", lambda hazard: hazard)
    axis = plots.hazard(hazards, endpoint="os").axes[0]
    assert axis.get_ylabel() == "events per patient-month"
    assert [line.get_drawstyle() for line in lines(axis)] == ["steps-pre"] * 2
    one = hazards["hazard"].sel(endpoint="os", regime="never")
    np.testing.assert_allclose(lines(axis)[0].get_ydata(), quantiles(one, 0.5)[0])


def test_cumulative_hazards() -> None:
    hazards = over_time("cumulative_hazard", lambda hazard: hazard * (TIMES - 8.0))
    figure = plots.cumulative_hazard(hazards)
    assert len(figure.axes) == 2
    one = hazards["cumulative_hazard"].sel(endpoint="rfs", regime="from 8")
    np.testing.assert_allclose(lines(figure.axes[1])[1].get_ydata(), quantiles(one, 0.5)[0])


def test_incidences_of_competing_events_add_up() -> None:
    states = occupancy()
    figure = plots.cumulative_incidence(states)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["relapse", "death in remission"]
    both = sum(np.asarray(lines(axis)[0].get_ydata()) for axis in figure.axes)
    remission = states["probability"].sel(regime="never", state="in remission")
    np.testing.assert_allclose(both, 1.0 - quantiles(remission, 0.5)[0])


def test_incidence_of_one_event_is_what_survival_lacks() -> None:
    curves = survival()
    axis = plots.cumulative_incidence(curves, event="os").axes[0]
    one = curves["survival"].sel(endpoint="os", regime="never")
    np.testing.assert_allclose(lines(axis)[0].get_ydata(), 1.0 - quantiles(one, 0.5)[0])


def test_states_are_stacked_to_one() -> None:
    states = occupancy()
    figure = plots.state_occupancy(states)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [str(state) for state in states["state"].values[::-1]]
    for axis in figure.axes:
        assert len(areas(axis)) == 4
        top = areas(axis)[-1].get_paths()[0].vertices[:, 1]
        assert top.max() == pytest.approx(1.0)
        first = areas(axis)[0].get_paths()[0].vertices
        mean = (
            states["probability"].sel(regime="never", state="in remission").mean(("chain", "draw"))
        )
        for value in mean.values:
            assert np.isclose(first[:, 1], value).any()


@pytest.mark.parametrize(("dim", "starts"), [("interval", [0, 4, 10]), ("step", [0, 3, 6])])
def test_ratios_over_time(dim: str, starts: list[float]) -> None:
    found = ratios(dim)
    figure = plots.hazard_ratio_over_time(found)
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        middle = quantiles(found["hazard_ratio"].sel(endpoint=name), 0.5)[0]
        lines = [one for one in areas(axis) if hasattr(one, "get_segments")]
        segments = np.concatenate([one.get_segments() for one in lines])
        np.testing.assert_allclose(segments[:, 0, 1], middle)
        np.testing.assert_allclose(segments[:, 0, 0], starts)
        # The last interval is open: as wide as the one before, and dotted.
        assert segments[-1, 1, 0] == 2 * starts[-1] - starts[-2]
        assert axis.get_yscale() == "log"
    assert labels(figure.axes[0])[-1] == "last, open interval"
    clock = "from the origin" if dim == "interval" else "since entering maintenance"
    assert figure.axes[0].get_xlabel() == f"months {clock}"
    assert "maintenance\nagainst no maintenance" in figure.axes[0].get_ylabel()


@pytest.mark.parametrize(
    ("attributes", "first", "ticks"),
    [
        ({"measure": "episode"}, [1.0, 2.0, 4.0], ["1", "2 to 3", "4 or more"]),
        ({"measure": "cumulative", "amount": "cycles"}, [0, 1, 3], ["1", "2 to 3", "4 or more"]),
    ],
)
def test_steps_that_are_counted(
    attributes: dict[str, object], first: list[float], ticks: list[str]
) -> None:
    found = ratios("step", scale="cycles of blina so far", **attributes)
    found = found.assign_coords(begins=("step", np.array(first)))
    axis = plots.hazard_ratio_over_time(found, endpoint="os").axes[0]
    assert [one.get_text() for one in axis.get_xticklabels()] == ticks
    assert axis.get_xlabel() == "cycles of blina so far"
    # All are as wide as each other, and none is open.
    assert axis.get_xlim() == (-0.5, 2.5)
    assert "last, open interval" not in labels(axis)


def test_time_in_the_phase_is_left_of_its_end() -> None:
    found = ratios("step", measure="since_end", scale="months since the end of blina")
    found = found.assign_coords(begins=("step", [np.nan, 0.0, 3.0]))
    axis = plots.hazard_ratio_over_time(found, endpoint="os").axes[0]
    named = [one.get_text() for one in axis.get_xticklabels()]
    assert named == ["in it", "0", "1.5", "3", "4.5", "6"]
    assert axis.get_xlim() == (-1.2, 6.0)
    lines = [one for one in areas(axis) if hasattr(one, "get_segments")]
    segments = np.concatenate([one.get_segments() for one in lines])
    np.testing.assert_allclose(segments[:, :, 0], [[-1.2, 0.0], [0.0, 3.0], [3.0, 6.0]])


def test_until_ends_the_open_interval() -> None:
    axis = plots.hazard_ratio_over_time(ratios("interval"), endpoint="os", until=30.0).axes[0]
    assert axis.get_xlim() == (0.0, 30.0)


def test_curves_are_grey_where_nobody_is_at_risk() -> None:
    known = np.array([[True] * 5 + [False] * 4, [True] * 9])
    curves = survival().assign_coords(supported=(("regime", "time"), known))
    axis = plots.survival(curves, endpoint="os").axes[0]
    never, beyond, later = lines(axis)
    assert np.isfinite(never.get_ydata()).sum() == 5
    # From the last known time on, so that the curve does not break.
    assert np.isfinite(beyond.get_ydata()).tolist() == [False] * 4 + [True] * 5
    assert beyond.get_color() == GREY
    assert np.isfinite(later.get_ydata()).all()
    assert len(areas(axis)) == 3
    assert labels(axis)[:2] == ["never (posterior, 95% band)", "from 8 (posterior, 95% band)"]


def test_turnbulls_curves_are_grey_where_they_are_not_defined() -> None:
    axis: Any = plots.turnbull(turnbull()).axes[0]
    boxes = [(own.get_x(), own.get_y(), own.get_width(), own.get_height()) for own in axis.patches]
    np.testing.assert_allclose(boxes, [(0.0, 0.6, 6.0, 0.4), (6.0, 0.3, 6.0, 0.3)])
    level, at_once, other, drop = (
        [segment.tolist() for segment in own.get_segments()] for own in axis.collections
    )
    # Level before the first visit, between falls that touch, and from month 12 on.
    assert level == [[[0, 1], [0, 1]], [[6, 0.6], [6, 0.6]], [[12, 0.3], [15, 0.3]]]
    assert at_once == [[[0, 1], [0, 1]], [[15, 0.3], [15, 0.3]]]
    assert other == [[[0, 1], [8, 1]], [[8, 0.5], [15, 0.5]]]
    assert [[8, 0.5], [8, 1]] in drop
    assert labels(axis) == ["a", "b"]
    with pytest.raises(SpecError, match="No endpoint 'os'"):
        plots.turnbull(turnbull(), endpoint="os")
