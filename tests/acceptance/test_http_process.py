"""The server as a process: how fast it accepts, how it stops, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from safelight.client import Client, address, launch
from safelight.errors import ServerNotRunning
from safelight.settings import settings_of

JOB = {"operation": "image.generate", "prompt": "a lighthouse", "width": 64, "height": 64, "not_before": 4e9}


@contextlib.contextmanager
def started(home, *, sections=None, **server):
    """A server process on `home` once it listens: (process, address, seconds it took). `sections`: more settings."""
    values = {"storage": {"home": str(home)}, "server": {"port": 0, **server}, "jobs": {"heartbeat_s": 0.2}}
    values |= sections or {}
    home.mkdir(exist_ok=True)
    began = time.monotonic()
    with (home / "out.log").open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "safelight.server"], stdin=subprocess.PIPE, stdout=out,
                                   stderr=out)  # fmt: skip
        with process.stdin as said:
            said.write(json.dumps({"environment": "testing", "values": values}).encode())
        try:
            while True:
                here = address.read(home)
                if here is not None and here.pid == process.pid and here.url:
                    break
                assert process.poll() is None, (home / "out.log").read_text()
                assert time.monotonic() - began < 30, (home / "out.log").read_text()
                time.sleep(0.005)
            yield process, here, began
        finally:
            process.kill()
            process.wait()


def post(url):
    """Hand in a job, as soon as the server takes it."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return httpx.post(f"{url}/v1/jobs", json=JOB, timeout=20)
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_it_accepts_a_job_and_stops_on_a_signal(tmp_path):
    with started(tmp_path) as (process, here, _):
        answer = post(here.url)
        assert answer.status_code == 202
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert address.read(tmp_path) is None and not (tmp_path / address.FILE_NAME).exists()
    assert f"Safelight serves {here.url}" in (tmp_path / "out.log").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_server_is_no_obstacle_and_keeps_what_it_accepted(tmp_path):
    with started(tmp_path) as (process, here, _):
        job = post(here.url).json()["id"]
        process.kill()
        process.wait()
    assert (tmp_path / address.FILE_NAME).exists() and address.read(tmp_path) is None
    with started(tmp_path) as (_, here, _):
        assert httpx.get(f"{here.url}/v1/jobs/{job}").json()["state"] == "queued"


def test_a_second_server_is_refused_in_words_and_the_first_goes_on(tmp_path):
    values = {"storage": {"home": str(tmp_path)}, "server": {"port": 0}}
    said = json.dumps({"environment": "testing", "values": values}).encode()
    with started(tmp_path) as (_, here, _):
        second = subprocess.run(
            [sys.executable, "-m", "safelight.server"], input=said, capture_output=True, check=False
        )
        assert second.returncode == 1 and here.url in second.stderr.decode()
        assert "Traceback" not in second.stderr.decode()
        assert address.read(tmp_path) == here and httpx.get(f"{here.url}/health").status_code == 200


def test_a_port_that_is_taken_is_said_in_words(tmp_path):
    with started(tmp_path / "one") as (_, here, _):
        port = int(here.url.rpartition(":")[2])
        with pytest.raises(ServerNotRunning, match="Another program has the port"):
            launch.start(settings_of({"storage": {"home": str(tmp_path / "two")}, "server": {"port": port}}), 20)


def test_a_client_starts_a_server_finds_it_again_and_stops_it(tmp_path, monkeypatch):
    for name in [each for each in os.environ if each.startswith("SAFELIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SAFELIGHT_SERVER_PORT", "0")
    with Client.start(home=tmp_path) as first:
        there = address.read(tmp_path)
        assert there is not None and there.url == first.url
        with Client.start(home=tmp_path) as second:
            assert second.url == first.url and second.system()["pid"] == there.pid
        job = first.submit(JOB)
        first.shutdown()
        assert not there.alive and address.read(tmp_path) is None
    with Client.start(home=tmp_path) as again:
        assert again.job(job).state == "queued"
        again.shutdown()
