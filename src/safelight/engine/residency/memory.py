"""Memory: its readings (the only ones besides telemetry's), its hard cap, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import torch

CPU_SHARE = 0.6
DEVICE_SHARE = 0.9

HARD_SHARE = 1.25
"""A worker with a budget may go beyond it by a quarter: estimates are not exact."""

HARD_FREE_SHARE = 0.95
"""A worker without one takes this much of what is free when it starts, and leaves the rest to others."""

RESERVE = 128 * 2**20
"""Bytes that weights and work never get: for threads, which do not live through running out of memory when they start,
for Python, and for what other threads do meanwhile."""

HEADROOM = 16 * 2**20
"""Bytes under the hard cap without which no work begins."""

LITTLE = 2**30
"""A worker with less saves space from the start: the holes in its heap would be a large share of what it has."""

OWN_MAPPING = 2**20
"""Bytes from which on a block of memory is a mapping of its own, once memory was short."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h


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


def cap(device: torch.device, hard_gib: float, wanted_gib: float) -> None:
    """Keep this process to its hard cap on `device`: what lies beyond is refused by the system, as an error that the
    job at fault can be told of, and no other process is starved. `hard_gib`: 0 = a share above `wanted_gib`, or of
    what is free. For a worker's process alone: it cannot be lifted.

    On a CPU the cap counts from what the process has now; only Linux has one (RLIMIT_DATA: private memory that can be
    written, whether it is touched or not).
    """
    count = int(hard_gib * 2**30) or int(wanted_gib * 2**30 * HARD_SHARE) or int(free(device) * HARD_FREE_SHARE)
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(min(1.0, count / torch.cuda.mem_get_info(device)[1]), device)
    if device.type != "cpu" or sys.platform != "linux":
        return
    import resource  # not on Windows

    warm_up()
    if count < LITTLE:
        save_space()
    limit = _status("VmData") + count + RESERVE
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def capped() -> AbstractContextManager[None]:
    """Around what allocates weights or does work: it cannot take the reserve. Nothing where there is no cap."""
    return _leaving(RESERVE)


def uncapped() -> AbstractContextManager[None]:
    """Within `capped`, around what must not fail, such as the start of a thread."""
    return _leaving(0)


def check_headroom() -> None:
    """Under a cap, before native code runs: MemoryError where next to nothing is left. torch raises where a tensor
    does not fit, but what libraries allocate beside it they do not all check: they crash."""
    if sys.platform != "linux":
        return
    import resource  # not on Windows

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and (left := hard - RESERVE - _status("VmData")) < HEADROOM:
        raise MemoryError(f"{max(0, left) >> 20} MiB are left under the hard cap")


@contextmanager
def _leaving(reserve: int) -> Iterator[None]:
    """So much of the hard cap is out of reach."""
    if sys.platform != "linux":
        yield
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (max(0, hard - reserve), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def warm_up() -> None:
    """Let this thread and the libraries make now what they make once: they do not live through running out of memory
    while they do (oneDNN crashes, libgomp ends the process)."""
    with torch.inference_mode():
        torch.ones(1 << 16).exp_()
        for dtype in (torch.float32, torch.bfloat16):
            torch.conv2d(torch.ones(1, 8, 16, 16, dtype=dtype), torch.ones(8, 8, 3, 3, dtype=dtype))
            torch.ones(16, 16, dtype=dtype) @ torch.ones(16, 16, dtype=dtype)


def relieve(device: torch.device) -> None:
    """Give back what the allocators keep for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc's
        trim(0)


def save_space() -> None:
    """For good: large blocks get mappings of their own, which go back to the system at once and
    leave no holes. glibc keeps blocks of up to 32 MiB in one heap, which is faster and falls to pieces."""
    _mallopt(_MMAP_THRESHOLD, OWN_MAPPING)
    _mallopt(_TRIM_THRESHOLD, OWN_MAPPING)


def _mallopt(name: int, value: int) -> None:
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # glibc's
        mallopt(name, value)


class Watch:
    """The most that is allocated beyond what is there at its start; `stop` says how much, None where nobody counts.

    On a GPU exact. On Linux by the process's peak of resident memory, other threads' included.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._began = int(torch.cuda.memory_allocated(device))
        elif device.type == "cpu" and sys.platform == "linux":
            relieve(device)
            self._began = _status("VmRSS") if _reset_peak() else None

    def stop(self) -> int | None:
        """Bytes at the peak, beyond those at the start."""
        if self._began is None:
            return None
        cuda = self._device.type == "cuda"
        peak = int(torch.cuda.max_memory_allocated(self._device)) if cuda else _status("VmHWM")
        return max(0, peak - self._began)


def ran_out(error: BaseException) -> bool:
    """Whether memory could not be allocated: a class of its own on GPUs, words on the CPU.

    "could not create a primitive" is how oneDNN says that it had no memory for a kernel's code.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).casefold()
    told = ("not enough memory", "can't allocate memory", "could not create a primitive", "std::bad_alloc",
            "can't start new thread")  # fmt: skip
    return isinstance(error, RuntimeError) and any(each in words for each in told)


def harmed(error: BaseException) -> bool:
    """Whether the thread that raised it makes no more kernels: oneDNN's generator keeps its error, a thread."""
    return isinstance(error, RuntimeError) and "could not create a primitive" in str(error)


def one_heap() -> None:
    """Before threads start: let them share a heap, so that what one let go another may have.

    With two, a worker grew by 9 % over the second half of a soak of 300 jobs; with one by 0.4 %.
    """
    _mallopt(_ARENA_MAX, 1)


def _status(name: str) -> int:
    """A count of this process in /proc, in bytes."""
    with Path("/proc/self/status").open(encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:"))


def _reset_peak() -> bool:
    """Let the peak of resident memory (VmHWM) begin anew. False where the system does not let us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
