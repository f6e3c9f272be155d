"""Starting a server in the background and waiting until it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from safelight.client import address
from safelight.client.address import Address
from safelight.errors import ServerNotRunning
from safelight.settings import Settings

LOG_NAME = "server.log"
START_S = 60.0
POLL_S = 0.05
TAIL_BYTES = 2000


def start(settings: Settings, wait_s: float = START_S) -> Address:
    """The server on the settings' data folder: the one that runs, or a new one, detached from this process.

    Returns when `/ready` answers 200; ServerNotRunning with the end of its log where it does not within `wait_s`.
    """
    home = settings.storage.home
    there = address.read(home)
    process = None if there is not None else spawn(settings)
    deadline = time.monotonic() + wait_s
    reason = "it did not begin to listen"
    while time.monotonic() < deadline:
        here = address.read(home)
        if here is not None and here.url:
            reason = unready(here.url)
            if not reason:
                return here
        elif process is not None and process.poll() is not None:
            reason = "it ended at once"
            break
        time.sleep(POLL_S)
    raise ServerNotRunning(f"The server on {home} is not ready: {reason}.", _log_end(home / LOG_NAME))


def spawn(settings: Settings) -> subprocess.Popen[bytes]:
    """A server process of its own session; what it prints goes to server.log in the data folder."""
    home = settings.storage.home
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "safelight.server"]
    with (home / LOG_NAME).open("ab") as log:
        if sys.platform == "win32":
            flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, creationflags=flags)
        else:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    assert process.stdin is not None
    with process.stdin as said:
        said.write(json.dumps({"environment": settings.environment, "values": settings.values()}).encode())
    # It outlives us as a rule; where it does not, somebody has to take note of its end.
    threading.Thread(target=process.wait, name="server's end", daemon=True).start()
    return process


def unready(url: str) -> str:
    """Why the server at `url` is not ready, or nothing."""
    try:
        answer = httpx.get(f"{url}/ready", timeout=5.0)
        return "" if answer.is_success else str(answer.json().get("detail", answer.status_code))
    except (httpx.HTTPError, ValueError) as error:
        return f"it does not answer: {error}"


def wait_gone(there: Address, wait_s: float) -> bool:
    """Wait for a stopping server's process to end; whether it did."""
    deadline = time.monotonic() + wait_s
    while there.alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return not there.alive


def _log_end(path: Path) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return "The end of its log: " + log.read().decode("utf-8", "replace").strip()
    except OSError:
        return "It left no log."
