"""Problem documents of a disk that takes nothing more, through the handlers that a server installs."""

from __future__ import annotations

import errno
import os

import httpx
import pytest
from fastapi import FastAPI
from tests.unit.server.staging import problem

from safelight.server.problems import install

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def answered(method: str, number: int) -> httpx.Response:
    """The answer of a route that fails with the OSError of this number."""
    web = FastAPI()
    install(web)

    @web.api_route("/", methods=["GET", "POST", "DELETE"])
    async def fail() -> None:
        raise OSError(number, os.strerror(number))

    transport = httpx.ASGITransport(web, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.request(method, "/")


@pytest.mark.parametrize(
    ("number", "way"),
    [(errno.ENOSPC, "Free space"), (errno.EDQUOT, "Free space"), (errno.EROFS, "Let it be written to")],
)
async def test_a_disk_that_takes_nothing_more_is_said_with_the_way_out(number: int, way: str) -> None:
    answer = await answered("POST", number)
    said = problem(answer, 507, "disk_full")
    assert os.strerror(number) in said["detail"] and "Nothing was accepted" in said["detail"]
    assert said["hint"].startswith(way) and answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(("method", "accepts"), [("GET", False), ("POST", True), ("DELETE", True)])
async def test_only_what_could_accept_something_says_that_it_did_not(method: str, accepts: bool) -> None:
    said = problem(await answered(method, errno.ENOSPC), 507, "disk_full")
    assert ("Nothing was accepted" in said["detail"]) is accepts and "nothing accepted is lost" in said["detail"]


async def test_other_errors_of_the_system_are_no_full_disk() -> None:
    problem(await answered("GET", errno.EIO), 500, "internal")
