"""A child process that talks over its stdin and stdout: the parent's view of it (the child's: stdio.py)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from safelight.workers.channel import Channel

M = TypeVar("M")


_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> bool:
    """In the child: be ended by the kernel when `parent` (a pid) ends, where it can do that (Linux).

    False: the parent is gone already. Elsewhere the end of stdin or of the socket has to do.
    """
    if sys.platform != "linux":
        return True
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


class Child(Generic[M]):
    """`python -m module`, spawned and not forked. Closing its stdin asks it to end."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel[M]) -> None:
        self.process = process
        self.channel = channel

    @classmethod
    async def spawn(cls, module: str, kind: Any, environment: Mapping[str, str] | None = None) -> Child[M]:
        """Start it, with our pid as its argument, so that it can end with us.

        `kind`: the union of the messages that it may send; `environment`: on top of ours.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, str(os.getpid()),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        return cls(process, Channel(process.stdout, process.stdin, kind))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def close(self, grace_s: float = 2.0) -> int:
        """Close its stdin, wait up to `grace_s`, then end it; its exit code."""
        await self.channel.close()
        try:
            return await asyncio.wait_for(self.process.wait(), grace_s)
        except TimeoutError:
            self.kill()
            return await self.process.wait()
