"""A checkpoint as requests see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from safelight.core.files import FileRef


@dataclass(frozen=True)
class ModelEntry:
    """A checkpoint that the catalog found. `defaults`: what its own metadata advises (steps, width, ...).

    `text_layers`: layers of its text encoder, which clip_skip counts from the last; 0 where its header does not tell.
    """

    ref: FileRef
    family: str
    prediction: str
    zero_terminal_snr: bool
    defaults: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    license: str = ""
    notes: tuple[str, ...] = ()
    text_layers: int = 0
