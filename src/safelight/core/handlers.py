"""The table of stages: which code of the engine carries out each kind."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.core import stages
from safelight.core.registry import Registry


@dataclass(frozen=True)
class StageRecord:
    """One kind of stage. `code`: "module:attribute" of its handler (see engine/stages).

    `timing`: the name under which its seconds are counted in a job's timings.
    """

    stage: type
    code: str
    timing: str
    aliases: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The class's name: what events call the stage."""
        return self.stage.__name__


BUILT_IN: tuple[StageRecord, ...] = (
    StageRecord(stages.EncodeText, "safelight.engine.stages.text:encode_text", "encode"),
    StageRecord(stages.EncodePixels, "safelight.engine.stages.pixels:encode_pixels", "encode"),
    StageRecord(stages.ReadMask, "safelight.engine.stages.pixels:read_mask", "encode"),
    StageRecord(stages.Sample, "safelight.engine.stages.sample:sample", "denoise"),
    StageRecord(stages.Decode, "safelight.engine.stages.pixels:decode", "decode"),
    StageRecord(stages.Composite, "safelight.engine.stages.pixels:composite", "decode"),
    StageRecord(stages.Save, "safelight.engine.stages.save:save", "save"),
    StageRecord(stages.LoadModel, "safelight.engine.stages.model:load_model", "load"),
    StageRecord(stages.UnloadModel, "safelight.engine.stages.model:unload_model", "load"),
)


def stage_table() -> Registry[StageRecord]:
    """A fresh registry with the built-in stages, open for extensions until it is closed."""
    table: Registry[StageRecord] = Registry("stage")
    for record in BUILT_IN:
        table.register(record)
    return table
