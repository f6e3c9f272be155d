"""What resolving a request may look at: a protocol, so that tests and doors can give their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from safelight.catalog.entries import ModelEntry
from safelight.core.files import FileRef, UploadRef
from safelight.core.tables import Tables

__all__ = ["Catalog", "Context", "ModelEntry"]


class Catalog(Protocol):
    """Models and LoRAs on disk, by name."""

    def model(self, name: str | None, path: str = "model") -> ModelEntry:
        """The checkpoint of that name (None: the default); InvalidRequest at `path` with the nearest names."""
        ...

    def given(self, name: str) -> FileRef | None:
        """The checkpoint that `model` last gave for this name or path, though its file may be gone or another now."""
        ...

    def lora(self, name: str, path: str = "loras") -> FileRef:
        """The LoRA of that name; InvalidRequest at `path` with the nearest names."""
        ...


@dataclass(frozen=True)
class Context:
    """The tables, the catalog, and the pictures a request refers to (already kept as uploads).

    `pictures`: by the field that named them (`image`, `mask`).
    """

    catalog: Catalog
    tables: Tables
    pictures: dict[str, UploadRef] = field(default_factory=dict)
