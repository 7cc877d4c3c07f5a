"""Save and load fits: one netCDF file, written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.errors import StorageError, require_kind
from bayesblina.core.files import read_whole, trouble_of, write_bytes
from bayesblina.hazards.definition import parse_model
from bayesblina.inference.baseline_gate import BaselineGate
from bayesblina.inference.companion import Companion
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit, Provenance
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.person_time.cells import Lazily, Patients, PersonTime
from bayesblina.person_time.event_times import EventTimes
from bayesblina.person_time.follow_up import LeftOut
from bayesblina.person_time.question import Question

FORMAT = "bayesblina fit"
SCHEMA = 1
PATIENTS = ("people", "episodes")
# Attribute of a variable that tells how it was stored where netCDF has no such type.
STORED = "bayesblina_dtype"
# HDF5 does not mind bytes after its end; these tell any damage before HDF5 has to read it.
SEAL = b"\nbayesblina sha256 "
SEAL_LENGTH = len(SEAL) + 64
RECORDS = ("question", "definition", "provenance", "left_out", "convergence")
# What files of earlier versions lack.
LATER = ("companion", "gate", "event_times")
COMPANION = "/companion"


def save(fit: Fit, path: str | PathLike[str]) -> None:
    """Save a fit in one netCDF file.

    The file is written beside its destination and moved there when it is complete: whatever
    happens, there is the old file or the new one, never half of one.

    Parameters
    ----------
    fit
        The fit.
    path
        The file, usually ``.nc``; replaced if it exists. Its folder must exist.

    Raises
    ------
    StorageError
        If it cannot be written: no such folder, no permission, no space.

    See Also
    --------
    load : the way back.

    Notes
    -----
    The draws' groups (``posterior``, ``log_likelihood``, ...) stand at the top, as ArviZ expects
    them; events and person-time stand in ``person_time``. The file holds the ids and times of
    patients: only its owner may read it, and you should treat it as you treat the patients' table.
    """
    require_kind(fit, Fit, "fit")
    require_kind(path, str | PathLike, "path")
    records = {name: json.dumps(value) for name, value in _records(fit).items()}
    groups = {
        node.path: _encode(node.to_dataset(inherit=False))
        for node in fit.draws.subtree
        if node.has_data or node.attrs
    }
    if fit.companion.draws is not None:
        groups[COMPANION] = _encode(fit.companion.draws)
    person_time, held = fit.person_time, fit.person_time.patients()
    parts = {name: getattr(person_time, name) for name in ("table", "risk_sets", "finer")}
    parts |= {name: getattr(held, name) for name in PATIENTS}
    for name, dataset in parts.items():
        if dataset is not None:
            groups[f"/person_time/{name}"] = _encode(dataset)
    tree = xr.DataTree.from_dict(groups)
    tree.attrs |= {
        "format": FORMAT,
        "schema": SCHEMA,
        "unit": fit.person_time.unit,
        "synthetic": int(fit.person_time.synthetic),
        **records,
    }
    # In memory first: HDF5 does not survive a full disk in good order, Python does.
    content: Any = tree.to_netcdf(None, engine="h5netcdf")
    seal = SEAL + hashlib.sha256(content).hexdigest().encode()
    write_bytes(path, b"".join([content, seal]), private=True)


def load(path: str | PathLike[str]) -> Fit:
    """Load a fit that `save` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Fit
        Equal to the one that was saved.

    Raises
    ------
    StorageError
        If there is no such file, or it is damaged, foreign or of a newer schema.

    See Also
    --------
    save : how it was written.
    """
    require_kind(path, str | PathLike, "path")
    path = Path(path)
    trouble = trouble_of(path)
    if trouble == "no such file":
        raise StorageError(f"No file '{path}'.")
    if trouble is not None:
        raise StorageError(f"'{path}' is {trouble}; expected a file that bayesblina.save wrote.")
    # What is read is what was checked, whatever happens to the file meanwhile.
    content = read_whole(path)
    sealed = _check_seal(path, content)
    attributes = _read_attributes(path, content)
    if attributes.get("format") != FORMAT:
        raise StorageError(
            f"'{path}' is a netCDF file, but not one that bayesblina.save wrote; expected the "
            f"attribute format = '{FORMAT}'."
        )
    schema = _schema_of(path, attributes)
    if schema > SCHEMA:
        raise StorageError(
            f"'{path}' has schema {schema}; this bayesblina reads up to {SCHEMA}. It was written "
            "by a newer version: upgrade bayesblina to read it."
        )
    if not sealed:
        raise _damaged(path, ValueError("its checksum is missing"))
    try:
        return _read(path, content, attributes)
    except (StorageError, Warning):
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _schema_of(path: Path, attributes: Mapping[str, Any]) -> int:
    """Read the schema's number; anything else was never written."""
    stored = np.ravel(attributes.get("schema", 0))
    if stored.size != 1 or stored.dtype.kind not in "iu":
        raise _damaged(path, ValueError("its schema is no whole number"))
    return int(stored[0])


def _require_plain(file: Any, size: int) -> None:
    """Refuse what `save` never writes: data that lie elsewhere, or unpack to more than the file."""
    total, waiting = 0, [file]
    seen = set()
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"'{name}' is a link")
            item = group[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise ValueError(f"'{name}' has two places")
                seen.add(address)
                waiting.append(item)
                continue
            if item.external or item.is_virtual:
                raise ValueError(f"'{name}' lies in another file")
            total += item.size * item.dtype.itemsize
            if total > size:
                raise ValueError(f"with '{name}' it holds more than its size")


def _damaged(path: Path, error: Exception) -> StorageError:
    said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return StorageError(f"'{path}' is damaged or incomplete and cannot be loaded ({said}).")


def _check_seal(path: Path, content: bytes) -> bool:
    """Say whether a file ends with a checksum; raise if its content does not match it."""
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise StorageError(
            f"'{path}' is not a netCDF-4 file, or its beginning is damaged; expected a file that "
            "bayesblina.save wrote."
        )
    seal = content[-SEAL_LENGTH:]
    if not seal.startswith(SEAL):
        return False
    if hashlib.sha256(memoryview(content)[:-SEAL_LENGTH]).hexdigest().encode() != seal[len(SEAL) :]:
        raise _damaged(path, ValueError("its content does not match its checksum"))
    return True


def _read_attributes(path: Path, content: bytes) -> dict[str, Any]:
    try:
        with h5py.File(BytesIO(content), "r") as file:
            _require_plain(file, len(content))
            return dict(file.attrs)
    except Warning:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _read(path: Path, content: bytes, attributes: Mapping[str, Any]) -> Fit:
    with xr.open_datatree(
        BytesIO(content), engine="h5netcdf", decode_times=False, decode_timedelta=False
    ) as tree:
        groups = {
            node.path: node.to_dataset(inherit=False).load()
            for node in tree.subtree
            if node.path != "/" and (node.has_data or node.attrs)
        }
    decoded = {name: _decode(dataset) for name, dataset in groups.items()}
    record = {name: json.loads(attributes[name]) for name in RECORDS}
    record |= {name: json.loads(attributes.get(name, "null")) for name in LATER}
    risk_sets = decoded.pop("/person_time/risk_sets", None)
    finer = decoded.pop("/person_time/finer", None)
    held = Patients(
        **{name: decoded.pop(f"/person_time/{name}") for name in PATIENTS},
        left_out=tuple(
            LeftOut(**(item | {"patients": tuple(item["patients"])})) for item in record["left_out"]
        ),
        complete=risk_sets is None,
    )
    person_time = PersonTime(
        table=decoded.pop("/person_time/table"),
        risk_sets=risk_sets,
        finer=finer,
        patients=Lazily.of(held),
        unit=str(attributes["unit"]),
        synthetic=bool(np.ravel(attributes["synthetic"])[0]),
    )
    question = record["question"]
    if question["endpoints"] is not None:
        question["endpoints"] = tuple(question["endpoints"])
    provenance = record["provenance"]
    provenance["settings"] = SamplerSettings(**provenance["settings"])
    provenance["notes"] = tuple(provenance["notes"])
    beside = _beside(record, decoded.pop(COMPANION, None))
    return Fit(
        draws=xr.DataTree.from_dict(decoded),
        question=Question(**question),
        definition=parse_model(record["definition"], source=path.name),
        person_time=person_time,
        convergence=Convergence(
            **{name: pd.DataFrame(columns) for name, columns in record["convergence"].items()}
        ),
        provenance=Provenance(**provenance),
        **beside,
    )


def _beside(record: Mapping[str, Any], companion: xr.Dataset | None) -> dict[str, Any]:
    """Read what stands beside the draws; files of earlier versions have none of it."""
    values: dict[str, Any] = {}
    of_companion, of_gate, of_events = (record[name] for name in LATER)
    if of_companion is not None:
        table = pd.DataFrame(of_companion["table"])
        reason = of_companion["reason"]
        values["companion"] = Companion(draws=companion, table=table, reason=reason)
    if of_gate is not None:
        values["gate"] = BaselineGate(
            table=pd.DataFrame(of_gate["table"]), against=of_gate["against"]
        )
    if of_events is not None:
        notes = tuple(of_events["notes"])
        values["event_times"] = EventTimes(table=pd.DataFrame(of_events["table"]), notes=notes)
    return values


def _records(fit: Fit) -> dict[str, Any]:
    """Put all that is not an array into what JSON can say."""
    return {
        "question": asdict(fit.question),
        "definition": fit.definition.model_dump(mode="json", by_alias=True),
        "provenance": asdict(fit.provenance),
        "left_out": [asdict(item) for item in fit.person_time.left_out],
        "convergence": {
            "table": _columns(fit.convergence.table),
            "criteria": _columns(fit.convergence.criteria),
        },
        "companion": {
            "table": _columns(fit.companion.table),
            "reason": fit.companion.reason,
        },
        "gate": {"table": _columns(fit.gate.table), "against": fit.gate.against},
        "event_times": None
        if fit.event_times is None
        else {
            "table": _columns(fit.event_times.table),
            "notes": list(fit.event_times.notes),
        },
    }


def _columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    return {str(name): table[name].tolist() for name in table.columns}


def _encode(dataset: xr.Dataset) -> xr.Dataset:
    """Turn booleans, texts and objects into what netCDF holds, and note what they were."""
    variables = {}
    for name, variable in dataset.variables.items():
        values, attributes = variable.values, dict(variable.attrs)
        if values.dtype == bool:
            attributes[STORED] = "bool"
            values = values.astype(np.int8)
        elif values.dtype.kind == "U":
            attributes[STORED] = values.dtype.str
        elif values.dtype == object:
            plain = all(isinstance(item, str) for item in values.flat)
            attributes[STORED] = "object" if plain else "json"
            texts = [item if plain else json.dumps(item) for item in values.flat]
            values = np.asarray(texts, dtype=str).reshape(values.shape)
        encoding = {"_FillValue": None} if values.dtype.kind == "f" else {}
        variables[name] = xr.Variable(variable.dims, values, attributes, encoding)
    return _dataset(variables, dataset)


def _decode(dataset: xr.Dataset) -> xr.Dataset:
    variables = {}
    for name, variable in dataset.variables.items():
        values, attributes = variable.values, dict(variable.attrs)
        stored = attributes.pop(STORED, None)
        if stored == "json":
            objects = np.empty(values.shape, dtype=object)
            objects.flat = [json.loads(str(item)) for item in values.flat]
            values = objects
        elif stored is not None:
            values = values.astype(stored)
        variables[name] = xr.Variable(variable.dims, values, attributes)
    return _dataset(variables, dataset)


def _dataset(variables: Mapping[Any, xr.Variable], like: xr.Dataset) -> xr.Dataset:
    return xr.Dataset(
        {name: variables[name] for name in like.data_vars},
        coords={name: variables[name] for name in like.coords},
        attrs=like.attrs,
    )
