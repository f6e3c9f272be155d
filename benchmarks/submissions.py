"""Durable submissions: how many jobs a second 32 clients can hand in, each committed before it is answered.

The worker stands still meanwhile, and the client and the server share the machine's cores.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measure import PAIRS, Report, Row, percentile
from benchmarks.service import PROMPT, Client, Service, request, service

CLIENTS = 32
ROUND_S = 2.0
AT_LEAST = 500
VALUES = {"jobs": {"max_queued": 10_000_000, "lease_s": 3600.0, "hang_s": 86_400.0}}


def run() -> Report:
    """Rounds of two seconds; the median round."""
    with tempfile.TemporaryDirectory() as folder, service(Path(folder) / "home", VALUES) as made:
        before = _jobs(made)
        with made.paused_worker():
            rates, waits = asyncio.run(_load(made.url))
            committed = _jobs(made) - before
    if committed != len(waits):
        raise RuntimeError(f"{len(waits)} jobs were answered, and {committed} are in the store.")
    spread = f"{min(rates):.0f} to {max(rates):.0f} in {len(rates)} rounds; p50 {1000 * percentile(waits, 0.5):.0f} ms"
    note = f"{spread}, p99 {1000 * percentile(waits, 0.99):.0f} ms; {committed} jobs in the store afterwards"
    name = f"accepted jobs a second, {CLIENTS} clients"
    return Report("submissions", [Row(name, statistics.median(rates), "/s", AT_LEAST, "least", note)])


async def _load(url: str) -> tuple[list[float], list[float]]:
    """Accepted jobs a second of each round, and the seconds that each job waited for its answer."""
    clients = [await Client.connect(url) for _ in range(CLIENTS)]
    asked = request(url, "POST", "/v1/jobs", json.dumps(PROMPT).encode())
    rates: list[float] = []
    waits: list[float] = []

    async def hand_in(client: Client, until: float) -> int:
        accepted = 0
        while (began := time.perf_counter()) < until:
            status = await client.ask(asked)
            if status != 202:
                raise RuntimeError(f"A job was answered with {status}.")
            waits.append(time.perf_counter() - began)
            accepted += 1
        return accepted

    for _ in range(PAIRS + 1):
        began = time.perf_counter()
        accepted = await asyncio.gather(*(hand_in(client, began + ROUND_S) for client in clients))
        rates.append(sum(accepted) / (time.perf_counter() - began))
    for client in clients:
        client.close()
    return rates[1:], waits


def _jobs(made: Service) -> int:
    return sum(int(count) for count in made.http.get("/v1/system").json()["jobs"].values())


if __name__ == "__main__":
    print(run().table())
