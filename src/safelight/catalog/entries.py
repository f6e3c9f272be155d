"""A checkpoint as requests see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safelight.core.files import FileRef


@dataclass(frozen=True)
class ModelEntry:
    """A checkpoint that the catalog found. `defaults`: what its own metadata advises (steps, width, ...)."""

    ref: FileRef
    family: str
    prediction: str
    zero_terminal_snr: bool
    defaults: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    license: str = ""
    notes: tuple[str, ...] = ()
