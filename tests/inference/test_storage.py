"""A fit comes back as it was saved; whatever is wrong with a file is said, and nothing is lost."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core import files
from bayesblina.core.errors import StorageError
from bayesblina.inference import storage
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit

GROUPS = ("table", "people", "episodes")


@pytest.fixture(scope="module")
def saved(synthetic_fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "fit.nc"
    storage.save(synthetic_fit, path)
    return path


def assert_same(one: Fit, other: Fit) -> None:
    xr.testing.assert_identical(one.draws, other.draws)
    for name in GROUPS:
        xr.testing.assert_identical(
            getattr(one.person_time, name), getattr(other.person_time, name)
        )
    assert one.person_time.left_out == other.person_time.left_out
    assert one.person_time.unit == other.person_time.unit
    assert one.person_time.synthetic is other.person_time.synthetic
    assert one.question == other.question
    assert one.definition == other.definition
    assert one.provenance == other.provenance
    for name in ("table", "criteria"):
        pd.testing.assert_frame_equal(
            getattr(one.convergence, name), getattr(other.convergence, name)
        )


def test_round_trip_is_exact(synthetic_fit: Fit, saved: Path) -> None:
    loaded = storage.load(saved)
    assert_same(synthetic_fit, loaded)
    for name, group in synthetic_fit.draws.children.items():
        for key, variable in group.dataset.variables.items():
            assert loaded.draws[name].dataset.variables[key].dtype == variable.dtype, (name, key)
    for name in GROUPS:
        before, after = getattr(synthetic_fit.person_time, name), getattr(loaded.person_time, name)
        for key, variable in before.variables.items():
            assert after.variables[key].dtype == variable.dtype, (name, key)


def test_answers_are_the_same(synthetic_fit: Fit, saved: Path) -> None:
    loaded = storage.load(saved)
    xr.testing.assert_identical(bb.hazard_ratio(loaded), bb.hazard_ratio(synthetic_fit))
    curves = {"regimes": [bb.Never(), bb.From(8.0)], "landmark": 8.0, "times": [8.0, 20.0]}
    xr.testing.assert_identical(
        bb.survival(loaded, **curves),  # type: ignore[arg-type]
        bb.survival(synthetic_fit, **curves),  # type: ignore[arg-type]
    )
    assert repr(loaded) == repr(synthetic_fit)


def test_awkward_values_come_back(synthetic_fit: Fit, tmp_path: Path) -> None:
    draws = synthetic_fit.draws.copy()
    odd = xr.Dataset(
        {
            "message": ("item", np.array(['Σ, "quoted"\n', None, ""], dtype=object)),
            "flag": ("item", np.array([True, False, True])),
            "number": ("item", np.array([np.inf, -np.inf, np.nan])),
            "nothing": (("item", "term"), np.zeros((3, 0))),
        },
        coords={"item": ["a", "β", ""], "term": np.array([], dtype=str)},
        attrs={"note": "kept"},
    )
    draws["odd"] = xr.DataTree(odd)
    convergence = Convergence(
        table=synthetic_fit.convergence.table.assign(r_hat=np.nan),
        criteria=synthetic_fit.convergence.criteria.assign(value=np.inf, passed=False),
    )
    fit = replace(
        synthetic_fit,
        draws=draws,
        convergence=convergence,
        question=replace(synthetic_fit.question, endpoints=("os", "rfs"), lag=0.1),
        provenance=replace(synthetic_fit.provenance, notes=("not kept", "Ünïcode")),
    )
    storage.save(fit, tmp_path / "fit.nc")
    loaded = storage.load(tmp_path / "fit.nc")
    assert_same(fit, loaded)
    assert not loaded.converged
    assert loaded.draws["odd"].to_dataset()["message"].values[1] is None


def test_overwrites_and_leaves_one_file(synthetic_fit: Fit, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    path.write_bytes(b"old")
    storage.save(synthetic_fit, path)
    assert [item.name for item in tmp_path.iterdir()] == ["fit.nc"]
    assert path.read_bytes() == saved.read_bytes()


def test_arviz_reads_it(saved: Path) -> None:
    import arviz as az

    with az.from_netcdf(saved) as tree:
        assert {"posterior", "sample_stats", "log_likelihood", "prior"} <= set(tree.children)


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.3, 0.999, 0.99999])
def test_truncated_file_is_refused(saved: Path, tmp_path: Path, share: float) -> None:
    content = saved.read_bytes()
    path = tmp_path / "cut.nc"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StorageError, match=r"cut\.nc' is (damaged|not a netCDF-4 file)"):
        storage.load(path)


@pytest.mark.parametrize("where", [3, 500, 0.25, 0.5, 0.9, -100, -10])
def test_one_flipped_byte_is_refused(saved: Path, tmp_path: Path, where: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(where * len(content)) if 0 < where < 1 else int(where)] ^= 0x55
    path = tmp_path / "flipped.nc"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged"):
        storage.load(path)


def test_missing_folder_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"No file '.*none\.nc'"):
        storage.load(tmp_path / "none.nc")
    with pytest.raises(StorageError, match="is a folder"):
        storage.load(tmp_path)
    text = tmp_path / "text.nc"
    text.write_text("patient,time\n")
    with pytest.raises(StorageError, match="not a netCDF-4 file"):
        storage.load(text)
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(StorageError, match=r"not one that bayesblina\.save wrote"):
        storage.load(foreign)


def test_newer_schema_is_refused(
    synthetic_fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(storage, "SCHEMA", 2)
        storage.save(synthetic_fit, tmp_path / "new.nc")
    with pytest.raises(StorageError, match=r"has schema 2; .* reads up to 1.*upgrade"):
        storage.load(tmp_path / "new.nc")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.EIO, "input/output error"),
    ],
)
def test_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    path = tmp_path / "summary.md"
    files.write_text(path, "old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=rf"(?i)Cannot write .*summary\.md.*{words}"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["summary.md"]


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "a.csv", b"1")
    assert list(tmp_path.iterdir()) == []


def test_impossible_destinations_are_refused(synthetic_fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no folder"):
        storage.save(synthetic_fit, tmp_path / "none" / "fit.nc")
    with pytest.raises(StorageError, match="it is a folder"):
        storage.save(synthetic_fit, tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="no permission to write in"):
            files.write_text(tmp_path / "a.md", "text")
    finally:
        tmp_path.chmod(0o700)


def test_text_is_written_as_it_stands(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.md", "β\nline\n")
    assert (tmp_path / "a.md").read_bytes() == "β\nline\n".encode()


def test_only_its_owner_may_read_a_fit(synthetic_fit: Fit, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        storage.save(synthetic_fit, tmp_path / "fit.nc")
        files.write_text(tmp_path / "table.csv", "a\n")
    finally:
        os.umask(before)
    assert (tmp_path / "fit.nc").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o644
