"""The zygote: a process that has imported the heavy modules, touched no device, started no thread, and forks workers.

A worker forked from it starts in milliseconds where the imports take seconds, and shares their memory. It is one
thread in one loop: orders come on stdin, children end by SIGCHLD, and it ends when its server does (end of stdin
everywhere, and SIGKILL by the kernel on Linux). POSIX only: elsewhere workers start anew (local.py).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from safelight.workers.child import end_with_parent
from safelight.workers.messages import Exited, Forked, Kill, Preload, Preloaded, Start, ToZygote
from safelight.workers.stdio import Stdio

assert sys.platform != "win32", "Windows has no fork: workers start anew there (local.py)"

WORKER = "safelight.workers.process"
"""Run in each child; by name, so that importing this module loads no torch."""


def threads() -> int:
    """How many threads this process has; 1 where that cannot be read."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 1


def preload(modules: list[str]) -> dict[str, str]:
    """Import the modules by name: {name: why} of those that failed. A worker that needs one will say so itself."""
    missing: dict[str, str] = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing[name] = str(error)
    return missing


class Zygote:
    """Forks on order, reaps, reports."""

    def __init__(self, stdio: Stdio[ToZygote]) -> None:
        self._stdio = stdio
        self._children: set[int] = set()
        self._woken, waker = socket.socketpair()
        self._woken.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno())

    def run(self) -> None:
        """Until the server is gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdio.fileno, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._woken.fileno() in ready:
                    self._woken.recv(4096)
                    self._reap()
                if self._stdio.fileno in ready:
                    orders = self._stdio.read()
                    if orders is None:
                        return
                    for order in orders:
                        self._obey(order, selector)

    def _obey(self, order: ToZygote, selector: selectors.BaseSelector) -> None:
        match order:
            case Start():
                self._fork(order, selector)
            case Kill() if order.pid in self._children:
                os.kill(order.pid, signal.SIGKILL)
            case Preload():
                missing = preload(order.modules)
                gc.collect()
                gc.freeze()
                self._stdio.send(Preloaded(threads=threads(), missing=missing))

    def _fork(self, order: Start, selector: selectors.BaseSelector) -> None:
        parent = os.getpid()
        _flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._stdio.send(Forked(token=order.token, pid=0, error=str(error)))
            return
        if pid == 0:
            self._become(order, parent, selector)
        self._children.add(pid)
        self._stdio.send(Forked(token=order.token, pid=pid))

    def _become(self, order: Start, parent: int, selector: selectors.BaseSelector) -> None:
        """The child's whole life. It leaves by `_exit`: what is registered for the zygote's exit is not the child's."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            selector.close()
            self._woken.close()
            self._waker.close()
            self._stdio.close()
            if end_with_parent(parent):
                main: Any = importlib.import_module(WORKER).main
                code = main(order.spec, order.address, order.token)
        except BaseException:  # noqa: BLE001 - nothing may return into the zygote's loop; what it was is said
            traceback.print_exc()
        finally:
            _flush()
            os._exit(code)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            self._stdio.send(Exited(pid=pid, code=os.waitstatus_to_exitcode(status)))


def _flush() -> None:
    """Empty the buffers of prints; whoever read them may be gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()


def main(parent: int) -> None:
    """Run as `python -m safelight.workers.zygote PARENT`. The server ends it; Ctrl-C and SIGTERM are the server's."""
    if not end_with_parent(parent):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Zygote(Stdio(ToZygote)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
