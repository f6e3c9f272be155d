"""Memory readings: the only ones besides telemetry's."""

from __future__ import annotations

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


def held(device: torch.device) -> int:
    """Bytes this process holds on `device`: the most it has allocated on a GPU, what is resident on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else rss()
