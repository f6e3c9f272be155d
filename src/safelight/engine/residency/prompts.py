"""Encoded prompts, kept for the next job that says the same: no encoder runs for them, nor is one loaded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch

from safelight.core.stages import EncodeText
from safelight.engine.conditioning import Timeline
from safelight.engine.results import Said

LIMIT = 8 * 2**20
"""Bytes of all that is kept: the prompts that come back are few. One of 77 tokens takes 0.2 MiB with Stable Diffusion
1.x in fp32."""


class Prompts:
    """What was encoded lately, to the bit as the encoder gave it; the longest unused goes first. One owner."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Said, tuple[str, ...], int]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(size for _, _, size in self._kept.values())

    def find(self, stage: EncodeText) -> tuple[Said, tuple[str, ...]] | None:
        """What the stage's prompt says, and the warnings that came with it; None where it is not kept."""
        key = _key(stage)
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0], found[1]

    def keep(self, stage: EncodeText, said: Said, warnings: tuple[str, ...]) -> None:
        """Keep what was encoded, where it is not larger than all that may be kept."""
        size = _size(said.timeline)
        if size > self._limit:
            return
        self._kept[_key(stage)] = said, warnings, size
        while self.bytes > self._limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def _key(stage: EncodeText) -> Hashable:
    """All that decides what comes out. The threads too: another number of them gives other last bits."""
    use = stage.encoder
    adapters = tuple((each.file.key, each.strength) for each in use.adapters)
    return use.model.key, use.family, adapters, stage.parser, stage.prompt, stage.clip_skip, torch.get_num_threads()


def _size(timeline: Timeline) -> int:
    parts = [each for span in timeline for each in (span.conditioning.sequence, span.conditioning.pooled, span.region)]
    return sum(part.nbytes for part in parts if part is not None)
