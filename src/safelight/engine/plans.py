"""How this process computes, as a plan (core.plans), and doing a job's arithmetic as its plan says."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from safelight import __version__
from safelight.core.plans import Plan
from safelight.engine.device import Device

PACKAGES = ("torch", "diffusers", "transformers")
"""Packages whose code does the arithmetic: another version of them may give other last bits."""


def own_plan(where: Device) -> dict[str, Any]:
    """How a deterministic picture is computed by this process, which has `where` and its threads."""
    on_cpu = where.device.type == "cpu"
    return {
        "device": where.device.type,
        "processor": processor() if on_cpu else where.label,
        "capability": torch.backends.cpu.get_cpu_capability() if on_cpu else _generation(where.device),
        "dtype": where.dtype_name,
        "channels_last": where.channels_last,
        "threads": torch.get_num_threads(),
        "attention": "torch sdpa",
        "loras": "low-rank paths",
        "passes": "own",
        "text": "own width",
        "tiling": "by size",
        "safelight": __version__,
        **{name: metadata.version(name) for name in PACKAGES},
    }


@contextmanager
def arithmetic(plan: Plan) -> Iterator[None]:
    """Compute as `plan` says: with its threads, where it names some. For the thread that does the arithmetic."""
    before = torch.get_num_threads()
    wanted = plan.get("threads", before)
    if wanted == before:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor() -> str:
    """What the CPU calls itself. Libraries choose their kernels by its model, not by its instructions alone."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        with listed.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    return platform.processor() or platform.machine()


def _generation(device: torch.device) -> str:
    """The compute capability of a CUDA device, such as 9.0; nothing for others."""
    if device.type != "cuda":
        return ""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}.{minor}"
