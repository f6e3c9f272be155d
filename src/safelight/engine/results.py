"""Results of stages: what is kept under a stage's number, and how it is written into a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safelight.engine.conditioning import Conditioning, Span, Timeline


@dataclass(frozen=True)
class Said:
    """What a prompt says along sigma."""

    timeline: Timeline


@dataclass(frozen=True)
class Latent:
    """A clean latent. x: fp32 [C, H, W]."""

    x: Tensor


@dataclass(frozen=True)
class Mask:
    """Where to repaint, 1 = repaint. latent: fp32 [1, H/factor, W/factor], 0 or 1; pixels: fp32 [H, W], 0..1."""

    latent: Tensor
    pixels: Tensor


@dataclass(frozen=True)
class Picture:
    """Pixels. uint8 [H, W, 3], sRGB."""

    pixels: Tensor


@dataclass(frozen=True)
class Stored:
    """A finished artifact: its facts, as the message `Saved` gives them."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a stage found or did, as JSON has it; a recipe may make it the job's result."""

    facts: Mapping[str, Any]


Result = Said | Latent | Mask | Picture | Stored | Facts
Dumped = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and facts that JSON can hold."""


def dump(result: Result) -> Dumped:
    """A result as plain data; `load` is its inverse."""
    match result:
        case Said(timeline):
            return _dump_timeline(timeline)
        case Stored(facts) | Facts(facts):
            return {}, {"kind": type(result).__name__, "facts": dict(facts)}
        case _:
            return dict(vars(result)), {"kind": type(result).__name__}


def load(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], device: torch.device) -> Result:
    """The result that `dump` gave as (tensors, facts), where handlers expect it: what networks see is on `device`,
    pixels are on the CPU. ValueError for a kind it does not know.
    """
    there = {name: tensor.to(device) for name, tensor in tensors.items()}
    match facts["kind"]:
        case "Said":
            return Said(_load_timeline(there, facts["spans"]))
        case "Stored":
            return Stored(facts["facts"])
        case "Facts":
            return Facts(facts["facts"])
        case "Latent":
            return Latent(there["x"])
        case "Mask":
            return Mask(there["latent"], tensors["pixels"])
        case "Picture":
            return Picture(tensors["pixels"])
        case other:
            raise ValueError(f"A checkpoint holds a result of unknown kind {other!r}.")


def _dump_timeline(timeline: Timeline) -> Dumped:
    tensors: dict[str, Tensor] = {}
    spans = []
    for index, span in enumerate(timeline):
        parts = {"sequence": span.conditioning.sequence, "pooled": span.conditioning.pooled, "region": span.region}
        tensors.update({f"{index}.{name}": part for name, part in parts.items() if part is not None})
        spans.append({"since": span.since, "until": span.until, "weight": span.weight})
    return tensors, {"kind": "Said", "spans": spans}


def _load_timeline(tensors: Mapping[str, Tensor], spans: list[dict[str, float]]) -> Timeline:
    return tuple(
        Span(
            Conditioning(tensors[f"{index}.sequence"], tensors.get(f"{index}.pooled")),
            region=tensors.get(f"{index}.region"),
            **span,
        )
        for index, span in enumerate(spans)
    )
