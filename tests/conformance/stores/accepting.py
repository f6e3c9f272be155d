"""A server reduced to its store: accepts jobs as fast as it can and prints each id once it was accepted."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.conformance.stores.making import new_job

from safelight.core.events import EventKind
from safelight.jobs.records import Webhook
from safelight.jobs.sqlite.store import SqliteStore

WEBHOOK = Webhook("https://example.org/hook", ("succeeded",))


async def main(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()

    async def client(n: int) -> None:
        while True:
            job, _ = await store.submit(new_job(f"client {n}", owner=f"o{n}", webhook=WEBHOOK))
            os.write(1, f"submitted {job.id}\n".encode())
            if n % 2:
                await store.claim(job.id, "w0", 10.0)
                await store.append(job.id, 1, [(EventKind.STEP, {"step": 1})])
                await store.succeed(job.id, 1, {}, {}, 0)
                os.write(1, f"succeeded {job.id}\n".encode())

    await asyncio.gather(*(client(n) for n in range(16)))


asyncio.run(main(Path(sys.argv[1])))
