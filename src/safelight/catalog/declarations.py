"""What the names and shapes of tensors cannot tell: prediction, zero terminal SNR, advice. And who said it.

The order: the user's override (`<name>.safelight.json` beside the file), the file's metadata (ours, then modelspec),
marker tensors (`v_pred`, `ztsnr`), another tool's sidecar (`<name>.yaml`, the configuration of the original code), a
test of values, the family's own.
"""

from __future__ import annotations

import json
import re
import statistics
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.catalog.headers import Header
from safelight.core.families import FamilySpec
from safelight.errors import UnreadableFile

PREDICTIONS: Mapping[str, str] = {
    "eps": "eps",
    "epsilon": "eps",
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "sample": "x0",
    "x0": "x0",
    "flow": "flow",
    "flow_prediction": "flow",
}
"""The words in use for what a network predicts, and ours."""

_OVERRIDES = {"prediction": str, "zero_terminal_snr": bool, "title": str, "license": str, "defaults": dict}
_VALUES_KEY = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True)
class Declared:
    """What is said of a checkpoint beyond its tensors. `notes`: which source decided, in words."""

    prediction: str
    zero_terminal_snr: bool
    defaults: Mapping[str, Any]
    title: str
    license: str
    notes: tuple[str, ...]


def sidecars(path: Path) -> tuple[Path, Path]:
    """Where a checkpoint's override and its original configuration would lie: of a file, or of a folder."""
    stem = path.name if path.is_dir() else path.stem
    return path.with_name(f"{stem}.safelight.json"), path.with_name(f"{stem}.yaml")


def override(path: Path) -> dict[str, Any]:
    """The user's word on a checkpoint, or {}; UnreadableFile where the file holds something else."""
    file = sidecars(path)[0]
    if not file.is_file():
        return {}
    allowed = f"Allowed: {', '.join(f'{name} ({kind.__name__})' for name, kind in _OVERRIDES.items())}."
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{file} is not valid JSON: {error}.", allowed) from error
    if not isinstance(said, dict):
        raise UnreadableFile(f"{file} is not a JSON object.", allowed)
    for name, value in said.items():
        if name not in _OVERRIDES or not isinstance(value, _OVERRIDES[name]):
            raise UnreadableFile(f"{file}: {name!r} cannot be {value!r}.", allowed)
    return said


def declared(header: Header, spec: FamilySpec) -> Declared:
    """What is said of a single file of that family."""
    words, own = header.metadata, override(header.path)
    defaults = own.get("defaults", as_json(header, "safelight.defaults"))
    notes: list[str] = []

    def first(what: str, answers: list[tuple[str, Any]]) -> Any:
        source, value = next((source, value) for source, value in answers if value is not None)
        notes.append(f"{what} {_word(value)}: {source}")
        return value

    prediction = first(
        "prediction",
        [
            ("override", _prediction(header.path, own.get("prediction"))),
            ("safelight.prediction in its metadata", _prediction(header.path, words.get("safelight.prediction"))),
            ("modelspec.prediction_type", _prediction(header.path, words.get("modelspec.prediction_type"))),
            ("its tensor v_pred", "v" if "v_pred" in header.tensors else None),
            ("the configuration beside it", _configured(header.path)),
            ("a test of its values", _tested(header) if spec.id == "sd2" else None),
            ("the family's own", spec.prediction),
        ],
    )
    zero = first(
        "zero terminal SNR",
        [
            ("override", own.get("zero_terminal_snr")),
            ("safelight.zero_terminal_snr in its metadata", _truth(words.get("safelight.zero_terminal_snr"))),
            ("its tensor ztsnr", True if "ztsnr" in header.tensors else None),
            ("the family's own", False),
        ],
    )
    title, licence = own.get("title", words.get("modelspec.title", "")), words.get("modelspec.license", "")
    return Declared(prediction, zero, defaults, title, own.get("license", licence), tuple(notes))


def declared_folder(folder: Path, scheduler: Mapping[str, Any], spec: FamilySpec) -> Declared:
    """What is said of a diffusers folder: the user's override, then its scheduler's configuration."""
    own = override(folder)
    prediction = _prediction(folder, own.get("prediction", scheduler.get("prediction_type"))) or spec.prediction
    zero = bool(own.get("zero_terminal_snr", scheduler.get("rescale_betas_zero_snr", False)))
    source = {name: "override" if name in own else "its scheduler_config.json" for name in _OVERRIDES}
    notes = (
        f"prediction {prediction}: {source['prediction'] if scheduler or own else 'the family’s own'}",
        f"zero terminal SNR {_word(zero)}: {source['zero_terminal_snr']}",
    )
    return Declared(prediction, zero, own.get("defaults", {}), own.get("title", ""), own.get("license", ""), notes)


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _truth(text: str | None) -> bool | None:
    return None if text is None else text.strip().casefold() in ("true", "1", "yes")


def _prediction(path: Path, text: str | None) -> str | None:
    if text is None:
        return None
    if text.casefold() not in PREDICTIONS:
        raise UnreadableFile(f"{path} says its prediction is {text!r}.", f"Known: {', '.join(PREDICTIONS)}.")
    return PREDICTIONS[text.casefold()]


def as_json(header: Header, key: str) -> dict[str, Any]:
    """The JSON object in a file's metadata of that name, {} where there is none; UnreadableFile for anything else."""
    try:
        value = json.loads(header.metadata.get(key, "{}"))
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{header.path}: its metadata {key} is not JSON ({error}).", "Save it again.") from error
    if not isinstance(value, dict):
        raise UnreadableFile(f"{header.path}: its metadata {key} is not a JSON object.", "Save it again.")
    return value


def _configured(path: Path) -> str | None:
    """`parameterization` of the original code's YAML, whose other value is the default, eps."""
    file = sidecars(path)[1]
    if not file.is_file() or file.stat().st_size > 1 << 20:
        return None
    found = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", file.read_text(errors="replace"), re.MULTILINE)
    return "eps" if found is None else PREDICTIONS.get(found[1], None)


_READ_AS = {"F32": "<f", "F16": "<e", "BF16": "<f"}
"""How plain numbers are unpacked, without numpy: the server imports this at its start."""


def _tested(header: Header) -> str | None:
    """Stable Diffusion 2.x: a bias of the last attention block spreads above 0.09 in v-prediction checkpoints only.

    ComfyUI decides by the same figure. None where the tensor is not there, is no plain number, or is all zero.
    """
    tensor = header.tensors.get(_VALUES_KEY)
    if tensor is None or tensor.dtype not in _READ_AS:
        return None
    with header.path.open("rb") as file:
        file.seek(header.data + tensor.start)
        raw = file.read(tensor.end - tensor.start)
    if tensor.dtype == "BF16":  # the upper half of a float32
        raw = b"".join(b"\0\0" + raw[at : at + 2] for at in range(0, len(raw), 2))
    values = [value for (value,) in struct.iter_unpack(_READ_AS[tensor.dtype], raw)]
    if not any(values):
        return None
    return "v" if statistics.pstdev(values) > 0.09 else "eps"
