"""What a worker is told about itself when it starts."""

from __future__ import annotations

import msgspec


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process.

    id: the name that leases and events carry. device, dtype, channels_last: see engine.device.choose_device.
    threads: arithmetic threads. memory_gib: for weights and work on the device (0: a share of what is free);
    memory_hard_gib: the most it is given (0: see engine.residency.memory.cap).
    max_batch: rows of a pass. checkpoint_interval_s: 0 = every step. preview_steps: a preview every so many steps.
    artifacts: absolute folder of the content-addressed files. converted: absolute folder of converted copies of
    weights, converted_gib: what they may take together (0: none are kept). heartbeat_s: between heartbeats.
    grace_s: for checkpoints after a SIGTERM. loop: "module:attribute" of what makes the loop (see process.py).
    extensions: modules that register further records (core.tables). debug: flags for a loop under test; empty in
    production.
    """

    id: str
    device: str = "auto"
    dtype: str = "auto"
    channels_last: str = "auto"
    threads: int = 1
    memory_gib: float = 0.0
    memory_hard_gib: float = 0.0
    max_batch: int = 16
    checkpoint_interval_s: float = 2.0
    preview_steps: int = 3
    artifacts: str = ""
    converted: str = ""
    converted_gib: float = 0.0
    heartbeat_s: float = 1.0
    grace_s: float = 5.0
    loop: str = "safelight.workers.process:engine_loop"
    extensions: tuple[str, ...] = ()
    debug: dict[str, str] = {}
