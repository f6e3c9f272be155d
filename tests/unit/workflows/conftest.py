"""A catalog of one model, and a context around it."""

from __future__ import annotations

import pytest

from safelight.catalog.entries import ModelEntry
from safelight.core.files import FileRef, UploadRef
from safelight.core.tables import Tables, build_tables
from safelight.errors import InvalidRequest, InvalidValue
from safelight.workflows.context import Context

REF = FileRef(name="tiny", path="/models/tiny.safetensors", size=1, mtime_ns=2, inode=3, header_hash="ab" * 32)
LORA = FileRef(name="sepia", path="/loras/sepia.safetensors", size=1, mtime_ns=2, inode=4, header_hash="cd" * 32)


class OneModel:
    """A catalog with the model `tiny` and the LoRA `sepia`."""

    def __init__(self, text_layers: int = 0, **defaults: object) -> None:
        self.entry = ModelEntry(REF, "sd1", "eps", False, defaults=defaults, text_layers=text_layers)

    def model(self, name: str | None, path: str = "model") -> ModelEntry:
        if name in (None, "tiny"):
            return self.entry
        raise InvalidRequest(InvalidValue(path, f"there is no model {name!r}", "Known: tiny."))

    def lora(self, name: str, path: str = "loras") -> FileRef:
        if name == "sepia":
            return LORA
        raise InvalidRequest(InvalidValue(path, f"there is no LoRA {name!r}", "Known: sepia."))


def upload(width: int = 300, height: int = 200) -> UploadRef:
    return UploadRef(id="u", path="/u.png", sha256="ef" * 32, media_type="image/png", width=width, height=height)


@pytest.fixture(scope="session")
def tables() -> Tables:
    return build_tables()


@pytest.fixture
def context(tables: Tables) -> Context:
    return Context(OneModel(), tables, {"image": upload(), "mask": upload()})
