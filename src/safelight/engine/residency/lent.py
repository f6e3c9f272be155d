"""What the bench lends: a component with the LoRA rows it is to run with. In use until it is given back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from safelight.core.families import FamilySpec
from safelight.engine.adapters.host import AdapterHost
from safelight.engine.families.family import Autoencoder, Network, TextEncoder

Row = tuple[tuple[str, float], ...]
"""The adapters of one row of a batch, each with its strength."""


@dataclass(frozen=True)
class LentNetwork:
    """A resident network. `key`: equal for the same weights, whatever the adapters: rows differ, the pass is one.

    `name`: of its model; `kind`: its family's facts, for a first guess of what a pass takes.
    """

    key: str
    network: Network
    host: AdapterHost
    row: Row
    warnings: tuple[str, ...] = ()
    name: str = ""
    kind: FamilySpec | None = None


class LentText:
    """A resident text encoder: a TextEncoder whose every pass runs with the adapters of `row`."""

    def __init__(
        self, key: str, encoder: TextEncoder, host: AdapterHost, row: Row, warnings: tuple[str, ...] = ()
    ) -> None:
        self.key, self.warnings = key, warnings
        self._encoder, self._host, self._row = encoder, host, row
        self.module, self.bytes, self.chunk_length = encoder.module, encoder.bytes, encoder.chunk_length
        self.begin, self.end, self.padding = encoder.begin, encoder.end, encoder.padding

    def tokenize(self, text: str) -> list[int]:
        """See TextEncoder."""
        return self._encoder.tokenize(text)

    def encode(self, chunks: Tensor, clip_skip: int) -> tuple[Tensor, Tensor | None]:
        """See TextEncoder."""
        with self._host.rows([self._row] * chunks.shape[0]):
            return self._encoder.encode(chunks, clip_skip)


@dataclass(frozen=True)
class LentAutoencoder:
    """A resident autoencoder."""

    key: str
    autoencoder: Autoencoder
