"""The README's code runs as it stands, on the demo's table."""

import re
from pathlib import Path

import pytest

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.inference.fitting import Fit
from tests.paths import ROOT

README = ROOT / "README.md"


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_text("patients.csv", bb.simulate.blinatumomab_table(1).to_csv(index=False))
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    fit = names["fit"]
    assert isinstance(fit, Fit)
    assert fit.converged
    assert bb.load("fit.nc").posterior.identical(fit.posterior)
