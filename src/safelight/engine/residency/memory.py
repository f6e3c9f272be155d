"""Memory readings: the only ones besides telemetry's."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

CPU_SHARE = 0.6
DEVICE_SHARE = 0.9


def budget(device: torch.device, wanted_gib: float) -> int:
    """Bytes that weights may take on `device`: what was set, else a share of what is free."""
    if wanted_gib > 0:
        return int(wanted_gib * 2**30)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * DEVICE_SHARE)
    return int(psutil.virtual_memory().available * CPU_SHARE)


def free(device: torch.device) -> int:
    """Bytes free on `device` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def rss() -> int:
    """Resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def peak(device: torch.device) -> int:
    """The most bytes this process has held: allocated on a GPU, resident on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(usage if sys.platform == "darwin" else usage * 1024)
