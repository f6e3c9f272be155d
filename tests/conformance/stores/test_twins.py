"""Whatever is done to them, the stores answer alike: random lives, step by step, on both."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance.stores.making import Clock, new_job

from safelight.core.events import EventKind
from safelight.core.states import AttemptEnd, JobState
from safelight.errors import SafelightError
from safelight.jobs.memory import MemoryStore
from safelight.jobs.records import Artifact, ArtifactFilter, Checkpoint, DeliveryState, Filter, Webhook
from safelight.jobs.sqlite.store import SqliteStore
from safelight.jobs.store import Store

Step = Callable[[Store], Awaitable[Any]]

IDS = st.sampled_from(["a", "b", "c", "d"])
OWNERS = st.sampled_from(["ada", "bob"])
ATTEMPTS = st.integers(1, 3)
ENDS = st.sampled_from([end for end in AttemptEnd if end is not AttemptEnd.SUCCEEDED])
WORKERS = st.sampled_from(["w0", "w1"])


def step(make: Callable[..., Step], *parts: st.SearchStrategy) -> st.SearchStrategy[Step]:
    return st.builds(make, *parts)


WEBHOOK = Webhook("https://example.org/hook", ("started", "artifact", "warning", "succeeded", "failed", "cancelled"))


async def tell_all(store: Store, state: DeliveryState) -> list[Any]:
    return [await store.tried(each, state, "so it went") for each in await store.undelivered()]


def picture(job_id: str, index: int, number: int) -> Artifact:
    return Artifact(f"{job_id}{index}{number}", job_id, index, "ada", f"{number:064}", "image/png", 9, 1, 1, 2**64 - 1)


STEPS = st.one_of(
    step(
        lambda job_id, owner, priority, prompt, key: lambda store: store.submit(
            new_job(prompt, id=job_id, owner=owner, priority=priority, idempotency_key=key, tags=(prompt,), group=key,
                    webhook=WEBHOOK if key else None), 3
        ),
        IDS, OWNERS, st.integers(-1, 1), st.sampled_from(["x", "y"]), st.sampled_from([None, "k", "l"]),
    ),
    step(lambda j, worker, lease: lambda store: store.claim(j, worker, lease), IDS, WORKERS, st.integers(1, 9)),
    step(lambda j, worker, lease: lambda store: store.claim(j, worker, lease), IDS, WORKERS, st.integers(1, 9)),
    step(lambda j, n, end, alone: lambda store: store.release(j, n, end, "m", alone=alone), IDS, ATTEMPTS, ENDS,
         st.booleans()),
    step(lambda j, n: lambda store: store.succeed(j, n, {"n": n}, {"denoise": 1.0}, 5), IDS, ATTEMPTS),
    step(lambda j, n: lambda store: store.append(j, n, [(EventKind.STEP, {"step": n})]), IDS, ATTEMPTS),
    step(lambda j, n, i: lambda store: store.add_artifact(picture(j, i, n), n), IDS, ATTEMPTS, st.integers(0, 1)),
    step(lambda j, n: lambda store: store.set_checkpoint(Checkpoint(j, n, f"f{n}", n, 1.0)), IDS, ATTEMPTS),
    step(lambda j, n, w: lambda store: store.heartbeat(w, [(j, n)], 5.0), IDS, ATTEMPTS, WORKERS),
    step(lambda j, owner: lambda store: store.request_cancel(j, owner), IDS, OWNERS),
    step(lambda j: lambda store: store.request_pause(j), IDS),
    step(lambda j: lambda store: store.resume(j), IDS),
    step(lambda j: lambda store: store.refuse(j, "deadline", "late"), IDS),
    step(lambda j, n, pin: lambda store: store.update(j, priority=n, pinned=pin, group="gg"[: n + 1]), IDS,
         st.integers(-1, 1), st.booleans()),
    step(lambda j, n: lambda store: store.set_plan(j, n, {"n": n}), IDS, ATTEMPTS),
    step(lambda j, i, n, owner, favourite, binned: lambda store: store.update_artifact(
            f"{j}{i}{n}", owner, favourite=favourite, binned=binned
        ), IDS, st.integers(0, 1), ATTEMPTS, OWNERS, *[st.sampled_from([None, True, False])] * 2),
    step(lambda ago: lambda store: store.empty_bin(1000.0 + ago), st.integers(0, 40)),
    step(lambda state: lambda store: tell_all(store, state), st.sampled_from(DeliveryState)),
    step(lambda j: lambda store: store.pass_over([j]), IDS),
    step(lambda j: lambda store: store.forget([j]), IDS),
)  # fmt: skip


async def answer(store: Store, act: Step) -> Any:
    try:
        return await act(store)
    except SafelightError as error:
        return type(error), error.message, error.hint


SEARCHES = [
    ArtifactFilter(), ArtifactFilter("ada", text="X"), ArtifactFilter(text="y", group="k"), ArtifactFilter(tag="x"),
    ArtifactFilter(binned=True), ArtifactFilter(favourite=True), ArtifactFilter(since=1005.0, until=1020.0),
    ArtifactFilter(seed=2**64 - 1, model="demo"),
]  # fmt: skip


async def everything(store: Store) -> list[Any]:
    jobs = await store.jobs(Filter())
    whole = [await store.get(job.id) for job in jobs]
    assert [replace(job, attempts=(), artifacts=(), checkpoint=None, deliveries=()) for job in whole] == jobs
    counts = await store.counts()
    assert all(counts[state] == sum(job.state is state for job in jobs) for state in JobState)
    return [whole, counts, await store.waiting(0.0), await store.running(), await store.expired(),
            await store.events_of(None), await store.finished(), await store.undelivered(),
            *[await store.artifacts(wanted) for wanted in SEARCHES]]  # fmt: skip


async def live(steps: list[tuple[Step, int]], folder: Path) -> None:
    wall, tick = Clock(), Clock()
    twins: list[Store] = [MemoryStore(wall=wall, tick=tick), SqliteStore(folder / "db", wall=wall, tick=tick)]
    heard: list[list[Any]] = [[], []]
    for store, ear in zip(twins, heard, strict=True):
        await store.open()
        store.listen(ear.extend)
    for act, seconds in steps:
        wall.seconds += seconds
        tick.seconds += seconds
        one, other = [
            (await answer(store, act), await store.waiting(0.0), await store.expired(), await store.counts())
            for store in twins
        ]
        assert one == other
    one, other = [await everything(store) for store in twins]
    assert one == other
    assert heard[0] == heard[1]
    for store in twins:
        await store.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=40))
def test_both_stores_answer_alike(steps: list[tuple[Step, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(steps, Path(folder)))
