"""Tables that several tests print."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd


class Reader(HTMLParser):
    """Texts of cells, and every element and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def summary(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": ["os", "rfs"],
            "mean": [0.5, 0.8],
            "median": [0.45, 0.812],
            "sd": [0.1, 0.2],
            "lower": [0.2234, 0.45],
            "upper": [0.91, 1.4],
            "probability_below_1": [0.9841, 0.76],
            "mcse": [0.00123, 0.004],
            "ess_bulk": [3012.4, 2500.0],
            "ess_tail": [2012.4, 2100.0],
            "r_hat": [1.00049, 1.002],
            "converged": True,
            **columns,
        }
    )


def criteria(passed: bool = True) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "criterion": ["largest R-hat", "divergences"],
            "value": [1.0049, 0.0 if passed else 3.0],
            "limit": ["< 1.01", "0"],
            "passed": [True, passed],
        }
    )
