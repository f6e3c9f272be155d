"""A checkpoint of Stable Diffusion 1.5's size: until it can compute, against reading its bytes; and its LoRAs.

All with a warm page cache. Where stored and computed precision agree nothing is converted; else the first loading keeps
a converted copy, and later ones map that.
"""

from __future__ import annotations

import statistics
import tempfile
from itertools import cycle
from pathlib import Path

import torch
from benchmarks.checkpoint import write_checkpoint, write_lora
from benchmarks.measure import PAIRS, Report, Row, median_seconds, pairs, seconds

from safelight.catalog.index import FolderCatalog
from safelight.core.families import FamilySpec
from safelight.core.registry import Registry
from safelight.core.stages import AdapterUse, NetworkUse
from safelight.core.tables import build_tables
from safelight.engine.device import Device
from safelight.engine.residency.bench import Bench
from safelight.engine.weights.converted import ConvertedWeights

OF_READING = 1.5
CONVERTED_S = 2.0
CHANGED_S = 1.0
CONVERSIONS = 3
GIB = 2**30
COMPONENTS = ("network", "text", "autoencoder")


def run() -> Report:
    """Loading as stored, converted the first time, converted before; LoRA weight and set."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_checkpoint(folder / "models" / "large.safetensors")
        loras = [write_lora(folder / "loras" / f"{seed}.safetensors", seed) for seed in range(2)]
        catalog = FolderCatalog([folder / "models", folder / "loras"], "large")
        entry = catalog.model(None)
        use = NetworkUse(entry.ref, entry.family)
        families = build_tables().families

        as_stored = pairs(lambda: load(_bench(families, torch.float16), use), file.read_bytes)
        skimmed = median_seconds(lambda: skim(file))
        first = [_converted(families, use, folder / f"converted{turn}") for turn in range(CONVERSIONS + 1)][1:]
        kept = ConvertedWeights(folder / "converted0", 16 * GIB)
        later = median_seconds(lambda: load(_bench(families, torch.bfloat16, kept), use))
        writing = statistics.median(wrote for _, wrote in first)
        note = f"{writing:.1f} s more, in the background, until the copy is on disk"
        rows = [
            Row(
                "2 GB of fp16 as stored: ready / read into memory", as_stored.ratio, "", OF_READING, note=as_stored.note
            ),
            Row("the same file through one small buffer: no new memory", skimmed, "s"),
            Row(
                "2 GB of fp16 to bf16, the first time",
                statistics.median(took for took, _ in first),
                "s",
                CONVERTED_S,
                note=note,
            ),
            Row("2 GB of fp16 to bf16, from the converted copy", later, "s"),
        ]
        rows += _lora_rows(_bench(families, torch.bfloat16, kept), use, catalog, loras)
    return Report("loading", rows)


def _converted(families: Registry[FamilySpec], use: NetworkUse, folder: Path) -> tuple[float, float]:
    """Seconds of a loading that finds no copy, and of writing the copy, which a worker does afterwards."""
    kept = ConvertedWeights(folder, 16 * GIB)
    return seconds(lambda: load(_bench(families, torch.bfloat16, kept), use)), seconds(kept.settle)


def load(bench: Bench, use: NetworkUse) -> None:
    """All three components, ready to compute."""
    for component in COMPONENTS:
        with getattr(bench, component)(use):
            pass


def skim(file: Path) -> None:
    """The file's bytes through one buffer: what the page cache gives at best, and nothing is kept."""
    buffer = bytearray(16 << 20)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass


def _lora_rows(bench: Bench, use: NetworkUse, catalog: FolderCatalog, files: list[Path]) -> list[Row]:
    """A LoRA's weight is another, and the set of LoRAs is another: until the network can be used with it."""
    refs = [catalog.lora(file.stem) for file in files]
    load(bench, use)

    def take(*adapters: AdapterUse) -> None:
        with bench.network(NetworkUse(use.model, use.family, adapters)):
            pass

    take(AdapterUse(refs[0], 1.0))
    strengths = cycle([0.3, 0.6, 0.9])
    weight = median_seconds(lambda: take(AdapterUse(refs[0], next(strengths))))
    sets = cycle([(refs[1],), (refs[0], refs[1]), (refs[0],)])
    kinds = [seconds(lambda: take(*(AdapterUse(ref, 0.8) for ref in next(sets)))) for _ in range(PAIRS)]
    note = f"{max(kinds):.3f} s the first time, its file read"
    return [
        Row("LoRA: another weight", weight, "s", CHANGED_S),
        Row("LoRA: another set", max(kinds), "s", CHANGED_S, note=note),
    ]


def _bench(families: Registry[FamilySpec], dtype: torch.dtype, kept: ConvertedWeights | None = None) -> Bench:
    where = Device(torch.device("cpu"), dtype, channels_last=dtype is torch.bfloat16)
    return Bench(where, 16 * GIB, families, kept=kept)
