"""A picture from prompt to PNG: the engine against diffusers' pipeline in its best setting here, on the same modules.

That setting is the CPU's bf16 where it has it, and channels_last. Both encode the prompts, decode, and write a file.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from benchmarks.checkpoint import write_checkpoint
from benchmarks.measure import Pairs, Report, Row, pairs
from benchmarks.studio import Body, Studio, studio

PROMPT = "a red house on green hills under a clear blue sky with a sun"
BUNDLED: Body = {"steps": 20, "guidance_scale": 5.0, "width": 128, "height": 128}
LARGE: Body = {"steps": 8, "guidance_scale": 7.0, "width": 256, "height": 256}


def run() -> Report:
    """The bundled model, then the shapes of Stable Diffusion 1.5."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with studio(Path(folder)) as made:
            rows.append(_row("bundled model, 128x128, 20 steps: engine / diffusers", against(made, BUNDLED), 1.05))
        models = Path(folder) / "models"
        write_checkpoint(models / "large.safetensors")
        with studio(Path(folder), models, "large") as made:
            rows.append(_row("SD 1.5 size, 256x256, 8 steps: engine / diffusers", against(made, LARGE), 1.0))
            facts = made.facts
    return Report("engine", rows, facts)


def against(made: Studio, body: Body) -> Pairs:
    """Pairs of the same request; every picture has a prompt and a seed of its own."""
    numbers = count(1)
    asked = {**body, "prompt": PROMPT, "sampler": "euler", "guidance": [{"kind": "rescale", "amount": 0}]}
    made.run([{**asked, "seed": 0, "steps": 1}])
    theirs = made.pipeline()

    def ours() -> None:
        number = next(numbers)
        made.run([{**asked, "seed": number, "prompt": f"{PROMPT}, {number}"}])

    def other() -> None:
        number = next(numbers)
        theirs({**asked, "seed": number, "prompt": f"{PROMPT}, {number}"}, made.folder / f"{number}.png")

    return pairs(ours, other)


def _row(name: str, measured: Pairs, target: float) -> Row:
    return Row(name, measured.ratio, "", target, note=measured.note)
