"""A server as its users run it: a process of its own, real workers, the bundled model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from safelight.client import address

SMALL: dict[str, Any] = {
    "operation": "image.generate",
    "prompt": "a red house on green hills",
    "width": 64,
    "height": 64,
}
PATIENCE_S = 120.0


class RealServer:
    """Start, talk to, kill and start again. Checkpoints after every step, one thread, unless said otherwise."""

    def __init__(self, home: Path, **values: Any) -> None:
        self.home = home
        self._values = {
            "storage.home": str(home),
            "server.port": 0,
            "devices.threads": 1,
            "performance.max_batch_size": 8,  # the testing environment's 1 would let no jobs share a pass
            "jobs.checkpoint_interval_s": 0.0,
            "jobs.heartbeat_s": 0.5,
            "jobs.lease_s": 3.0,
            **values,
        }
        self.process: subprocess.Popen[str] | None = None
        self.http = httpx.Client()

    def __enter__(self) -> RealServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> float:
        """Start the process and wait until it accepts jobs; returns the seconds that took."""
        began = time.monotonic()
        with (self.home.parent / f"{self.home.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "safelight.server"], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )
        assert self.process.stdin is not None
        values: dict[str, dict[str, Any]] = {}
        for name, value in self._values.items():
            section, _, field = name.partition(".")
            values.setdefault(section, {})[field] = value
        self.process.stdin.write(json.dumps({"environment": "testing", "values": values}))
        self.process.stdin.close()
        while True:
            here = address.read(self.home)
            if here is not None and here.pid == self.process.pid and here.url:
                break
            assert self.process.poll() is None, self.log()
            assert time.monotonic() - began < PATIENCE_S, self.log()
            time.sleep(0.02)
        self.http.close()
        self.http = httpx.Client(base_url=here.url, timeout=PATIENCE_S)
        return time.monotonic() - began

    def stop(self) -> int:
        """End it in order; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.http.close()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL the server."""
        assert self.process is not None
        self.process.kill()
        self.http.close()
        self.process.wait(PATIENCE_S)

    def kill_worker(self) -> int:
        """SIGKILL the worker; its pid."""
        pid = self.worker_pid()
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker_pid(self) -> int:
        """The pid of the ready worker, once there is one."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for worker in self.http.get("/v1/system").json()["workers"]:
                if worker["pid"] and worker["state"] == "ready":
                    return int(worker["pid"])
            time.sleep(0.05)
        raise AssertionError(f"no worker got ready\n{self.log()}")

    def log(self) -> str:
        """What it has printed."""
        return (self.home.parent / f"{self.home.name}.log").read_text()

    def submit(self, body: dict[str, Any] | None = None, **more: Any) -> str:
        """An accepted job's id."""
        answer = self.http.post("/v1/jobs", json={**SMALL, **(body or {}), **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def accepted(self, job_id: str, body: dict[str, Any]) -> None:
        """Hand a job in under the client's own id, again and again until it is accepted, as a patient client does:
        whatever happens to the server meanwhile."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            here = address.read(self.home)
            if here is not None and here.url:
                try:
                    answer = httpx.put(f"{here.url}/v1/jobs/{job_id}", json=body, timeout=PATIENCE_S)
                except httpx.TransportError:
                    pass  # it was killed, or is not up yet
                else:
                    if answer.status_code in (200, 202):
                        return
                    assert answer.status_code in (429, 503, 507), (answer.status_code, answer.text)
            time.sleep(0.05)
        raise AssertionError(f"{job_id} was not accepted\n{self.log()}")

    def job(self, job_id: str) -> dict[str, Any]:
        """The record."""
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        record: dict[str, Any] = answer.json()
        return record

    def finished(self, job_id: str) -> dict[str, Any]:
        """The record once the job is over."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            record = self.job(job_id)
            if record["state"] in ("succeeded", "failed", "cancelled"):
                return record
            time.sleep(0.05)
        raise AssertionError(f"{self.job(job_id)}\n{self.log()}")

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All stored events of a job, once it is over."""
        text = self.http.get(f"/v1/jobs/{job_id}/stream").text
        found = []
        for block in text.split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
            if "id" in lines:
                found.append(json.loads(lines["data"]))
                assert (int(lines["id"]), lines["event"]) == (found[-1]["number"], found[-1]["kind"])
        return found

    def steps(self, job_id: str) -> list[int]:
        """The steps it has told of, once it is over."""
        return [event["data"]["step"] for event in self.events(job_id) if event["kind"] == "step"]

    def wait_for_step(self, job_id: str, step: int) -> None:
        """Return once the job has told of that step."""
        with self.http.stream("GET", f"/v1/jobs/{job_id}/stream") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    if event["kind"] == "step" and event["data"]["step"] >= step:
                        return
        raise AssertionError(f"the job ended before step {step}: {self.job(job_id)}")

    def file(self, job_id: str, index: int = 0) -> bytes:
        """A finished file."""
        record = self.finished(job_id)
        assert record["state"] == "succeeded", (record, self.log())
        artifact = next(each for each in record["artifacts"] if each["index"] == index)
        return self.http.get(artifact["url"]).content
