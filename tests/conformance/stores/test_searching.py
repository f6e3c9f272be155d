"""Finding artifacts, favourites, and the bin."""

from __future__ import annotations

import pytest
from tests.conformance.stores.making import Clock, artifact, started

from safelight.core.states import AttemptEnd
from safelight.errors import NotFound
from safelight.jobs.records import Artifact, ArtifactFilter, Job
from safelight.jobs.store import Store

pytestmark = pytest.mark.anyio

PROMPTS = ["A red house on GREEN hills", "a café at the strasse", "nothing; DROP TABLE jobs--100%_sure", "\ud800 odd"]


async def drawn(store: Store, prompt: str = "a harbour", *, model: str = "postcards", seed: int = 7, **fields) -> Job:
    """A job that is over and has one picture."""
    resolved = {"operation": "image.generate", "prompt": prompt, "model": {"name": model}}
    job = await started(store, prompt=prompt, resolved=resolved, **fields)
    await store.add_artifact(artifact(job, seed=seed), 1)
    return await store.succeed(job.id, 1, {}, {}, 0)


async def found(store: Store, **wanted) -> list[str]:
    return [each.job_id for each in await store.artifacts(ArtifactFilter(**wanted))]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("red house", [0]), ("HILLS red", [0]), ("gree", [0]), ("red boat", []), ("cafe\u0301", [1]), ("STRASSE", [1]),
        ("straße", [1]), ("100%", [2]), ("10%0", []), ("_sure", [2]), ("a%", []), ("'--", []), ("", [3, 2, 1, 0]),
        ("  ", [3, 2, 1, 0]), ("odd", [3]), ("on", [0]), ("house\0green", [0]),
    ],
)  # fmt: skip
async def test_every_word_stands_in_the_prompt(store: Store, text: str, expected: list[int]) -> None:
    jobs = [await drawn(store, prompt) for prompt in PROMPTS]
    assert await found(store, text=text) == [jobs[n].id for n in expected]


async def test_search_by_everything_else(store: Store, wall: Clock) -> None:
    old = await drawn(store, model="Demo", seed=2**64 - 1, tags=("sea", "day"), group="grid")
    wall.seconds += 100
    new = await drawn(store, seed=8, tags=("sea",))
    foreign = await drawn(store, owner="bob", group="grid")
    at = wall.seconds
    for wanted, expected in [
        ({"model": "demo"}, [old]), ({"model": "dem"}, []), ({"seed": 2**64 - 1}, [old]), ({"seed": 8}, [new]),
        ({"tag": "sea"}, [new, old]), ({"tag": "day"}, [old]), ({"tag": "da"}, []), ({"group": "grid"}, [foreign, old]),
        ({"group": "grid", "owner": "ada"}, [old]), ({"until": at}, [old]), ({"since": at}, [foreign, new]),
        ({"since": at - 100, "until": at - 99}, [old]), ({"favourite": True}, []),
        ({"favourite": False}, [foreign, new, old]), ({"tag": "sea", "text": "harbour", "seed": 8}, [new]),
    ]:  # fmt: skip
        assert await found(store, **wanted) == [job.id for job in expected], wanted


async def test_a_job_that_changes_is_found_by_what_it_is_now(store: Store) -> None:
    job = await drawn(store, tags=("sea",))
    await store.update(job.id, tags=("land",), group="grid")
    assert [await found(store, tag=tag) for tag in ("sea", "land")] == [[], [job.id]]
    assert await found(store, group="grid") == [job.id]


async def test_pages_of_a_search_have_no_gap_and_no_repetition(store: Store) -> None:
    jobs = [await drawn(store, f"a {'boat' if n % 3 else 'house'}") for n in range(10)]
    pages: list[Artifact] = []
    while page := await store.artifacts(ArtifactFilter(text="boat", before=pages[-1].id if pages else None, limit=2)):
        pages += page
        await drawn(store, "a boat that came meanwhile")
    assert [each.job_id for each in pages] == [job.id for n, job in reversed(list(enumerate(jobs))) if n % 3]
    with pytest.raises(NotFound):
        await store.artifacts(ArtifactFilter(before="nobody"))


async def test_a_favourite_keeps_its_job(store: Store) -> None:
    job, plain = await drawn(store), await drawn(store)
    (picture,) = job.artifacts
    assert (await store.update_artifact(picture.id, "ada", favourite=True)).favourite
    assert await found(store, favourite=True) == [job.id]
    assert [each.pinned for each in await store.finished()] == [True, False]
    assert await store.forget([job.id, plain.id]) == 1
    await store.update_artifact(picture.id, binned=True)
    assert [each.pinned for each in await store.finished()] == [False]
    await store.update_artifact(picture.id, binned=False)
    assert await store.forget([job.id]) == 0
    await store.update_artifact(picture.id, favourite=False)
    assert await store.forget([job.id]) == 1


async def test_the_bin(store: Store, wall: Clock, reopen) -> None:
    job, other = await drawn(store), await drawn(store)
    (picture,) = job.artifacts
    binned = await store.update_artifact(picture.id, "ada", binned=True)
    assert binned.binned_at == wall.seconds
    wall.seconds += 10
    assert await store.update_artifact(picture.id, binned=True) == binned
    store = await reopen()
    assert (await found(store), await found(store, binned=True)) == ([other.id], [job.id])
    assert (await store.get(job.id)).artifacts == (binned,)
    assert await store.artifact(picture.id) == binned
    assert (await store.update_artifact(picture.id, binned=False)).binned_at is None
    assert (await found(store), await found(store, binned=True)) == ([other.id, job.id], [])
    for owner, artifact_id in (("bob", picture.id), ("ada", "nobody")):
        with pytest.raises(NotFound):
            await store.update_artifact(artifact_id, owner, binned=True)


async def test_the_bin_is_emptied_of_what_is_old_over_and_unpinned(store: Store, tick: Clock) -> None:
    over, young, pinned = [await drawn(store) for _ in range(3)]
    running = await started(store)
    await store.add_artifact(artifact(running), 1)
    for job in (over, pinned, running):
        (picture,) = (await store.get(job.id)).artifacts
        await store.update_artifact(picture.id, binned=True)
    await store.update(pinned.id, pinned=True)
    tick.seconds += 100
    await store.update_artifact(young.artifacts[0].id, binned=True)
    sha256 = over.artifacts[0].sha256
    assert await store.named([sha256]) == {sha256}
    assert await store.empty_bin(store.steady() - 50) == 1
    assert await found(store, binned=True) == [running.id, pinned.id, young.id]
    assert (await store.get(over.id)).artifacts == ()
    assert await store.named([sha256]) == set()
    with pytest.raises(NotFound):
        await store.artifact(over.artifacts[0].id)
    await store.release(running.id, 1, AttemptEnd.REFUSED, "")
    await store.update(pinned.id, pinned=False)
    assert await store.empty_bin(store.steady() - 50) == 2


async def test_a_file_in_the_bin_stays_while_another_row_names_it(store: Store) -> None:
    first, second = await drawn(store), await started(store)
    sha256 = first.artifacts[0].sha256
    await store.add_artifact(artifact(second, sha256=sha256), 1)
    await store.update_artifact(first.artifacts[0].id, binned=True)
    assert await store.empty_bin(store.steady() + 1) == 1
    assert await store.named([sha256]) == {sha256}
