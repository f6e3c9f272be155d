"""Which device computes, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Device:
    """A device and how it computes. `channels_last`: convolutions run with channels innermost."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @property
    def dtype_name(self) -> str:
        """fp32, fp16 or bf16."""
        return next(name for name, dtype in DTYPES.items() if dtype is self.dtype)

    @property
    def label(self) -> str:
        """What the device calls itself."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return self.device.type


def choose_device(device: str = "auto", dtype: str = "auto", channels_last: str = "auto") -> Device:
    """`auto` is CUDA or ROCm, else MPS, else the CPU; bf16 where the device computes in it, else fp16 on a GPU.

    channels_last pays where convolutions run in bf16 on a CPU, and on GPUs.
    """
    chosen = torch.device(_auto_device() if device == "auto" else device)
    kind = DTYPES[dtype] if dtype != "auto" else _auto_dtype(chosen)
    last = kind is not torch.float32 if channels_last == "auto" else channels_last == "on"
    return Device(chosen, kind, last)


def _auto_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _auto_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags() else torch.float32


def _cpu_flags() -> str:
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        return ""
    with listed.open(encoding="utf-8") as file:
        return next((line for line in file if line.startswith(("flags", "Features"))), "")
