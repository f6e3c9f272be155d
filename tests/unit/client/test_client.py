"""The client against a real server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from types import SimpleNamespace

import httpx
import pytest
from PIL import Image
from tests.unit.server.staging import png, stage

import safelight
from safelight import errors
from safelight.client import AsyncClient, Client, JobFailed, ServerProblem
from safelight.client.sse import Reader

SMALL = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def client(server):
    with Client(server.url) as made:
        yield made


def test_generate_gives_pictures(client, tmp_path):
    seen = []
    result = client.generate("draw 3", **SMALL, seed=5, batch_size=2, on_event=seen.append)
    assert result.job.state == "succeeded" and result.job.resolved["seed"] == 5
    assert [each.index for each in result.artifacts] == [0, 1]
    assert isinstance(result.image(), Image.Image) and result.image(1).size == (64, 64)
    assert [each.kind for each in seen][-1] == "succeeded" and len([e for e in seen if e.kind == "step"]) == 3
    assert result.save(tmp_path).parent == tmp_path
    assert result.save(tmp_path / "mine.png").read_bytes() == result.artifacts[0].data


@pytest.mark.parametrize("give", ["bytes", "path", "text", "image", "id", "base64"])
def test_transform_and_inpaint_take_any_form_of_a_picture(client, tmp_path, give):
    file = tmp_path / "in.png"
    file.write_bytes(png())
    given = {"bytes": png(), "path": file, "text": str(file), "image": Image.new("RGB", (40, 30)),
             "base64": base64.b64encode(png()).decode()}  # fmt: skip
    source = client.upload(file) if give == "id" else given[give]
    assert client.transform(source, "draw", **SMALL).job.operation == "image.transform"
    job = client.inpaint(source, source, "draw", **SMALL).job
    assert job.resolved["image"]["sha256"] == job.resolved["mask"]["sha256"]


def test_a_job_without_a_picture_raises_with_its_record(client):
    with pytest.raises(JobFailed, match="It is too large") as failed:
        client.generate("refuse", **SMALL)
    assert failed.value.hint == "Less." and failed.value.job.failure["kind"] == "out_of_memory"


def test_refusals_are_the_errors_they_name(client):
    with pytest.raises(errors.InvalidRequest) as refused:
        client.generate("draw", steps=0, colour="red")
    assert {each.path for each in refused.value.errors} == {"steps", "colour"}
    with pytest.raises(errors.OperationUnavailable):
        client.submit({"operation": "video.generate"})
    with pytest.raises(errors.NotFound):
        client.job("nobody")
    with pytest.raises(errors.NotFound):
        list(client.stream("nobody"))
    with pytest.raises(errors.UnreadableFile):
        client.upload(b"no picture")
    with pytest.raises(errors.InvalidRequest, match="cannot be read"):
        client.transform("nowhere.png", "draw")
    with pytest.raises(ServerProblem) as forbidden:
        client.shutdown()
    assert (forbidden.value.kind, forbidden.value.status) == ("not_allowed", 403)


def test_jobs_are_handed_in_changed_listed_cancelled_and_retried(client):
    job_id = client.submit({"operation": "image.generate", "prompt": "wait", "tags": ["mine"], **SMALL})
    assert client.submit({"operation": "image.generate", "prompt": "draw", **SMALL}, key="k") == client.submit(
        {"operation": "image.generate", "prompt": "draw", **SMALL}, key="k"
    )
    assert [each.id for each in client.jobs(tag="mine", state=None)] == [job_id]
    assert client.change(job_id, priority=4, pinned=True).fields["priority"] == 4
    client.cancel(job_id)
    assert [each.kind for each in client.stream(job_id)][-1] == "cancelled"
    assert client.job(job_id).over
    again = client.retry(job_id)
    assert client.job(again).fields["retry_of"] == job_id
    client.cancel(again)
    with contextlib.closing(client.stream(again, after=1)) as events:
        assert next(events).number == 2


def test_what_is_there(client):
    assert [each["id"] for each in client.models()] == ["postcards"]
    assert "euler" in {each["id"] for each in client.samplers()}
    assert "karras" in {each["id"] for each in client.schedules()}
    assert "rescale" in {each["id"] for each in client.guidances()}
    assert {each["id"] for each in client.loras()} == {"sepia", "snowman"}
    assert {"image.generate", "image.transform", "image.inpaint"} <= {each["id"] for each in client.operations()}
    assert client.system()["version"] == safelight.__version__


class Breaking(httpx.BaseTransport):
    """Breaks every stream after some bytes, and the first post after it was received."""

    def __init__(self) -> None:
        self.inner = httpx.HTTPTransport()
        self.streams = self.posts = 0

    def handle_request(self, request):
        response = self.inner.handle_request(request)
        if request.url.path.endswith("/stream"):
            self.streams += 1
            return httpx.Response(response.status_code, headers=response.headers, stream=Broken(response.stream))
        if request.method == "POST":
            self.posts += 1
            if self.posts == 1:
                response.read()
                raise httpx.ReadError("the line broke")
        return response

    def close(self) -> None:
        self.inner.close()


class Broken(httpx.SyncByteStream):
    def __init__(self, inner) -> None:
        self.inner = inner

    def __iter__(self):
        size = 0
        for piece in self.inner:
            size += len(piece)
            yield piece
            if size > 600:
                raise httpx.ReadError("the line broke")

    def close(self) -> None:
        self.inner.close()


def test_a_broken_line_loses_no_event_and_makes_no_second_job(server):
    line = Breaking()
    with Client(server.url, transport=line) as client:
        job_id = client.submit({"operation": "image.generate", "prompt": "draw 20", "tags": ["line"], **SMALL})
        numbers = [each.number for each in client.stream(job_id)]
        assert [each.id for each in client.jobs(tag="line")] == [job_id]
    assert numbers == list(range(1, 25))
    assert line.posts == 2 and line.streams > 3


class Blinking(httpx.MockTransport):
    """A quiet job's stream: every connection lives, says that it idles for `quiet_s`, and breaks; the last one ends."""

    def __init__(self, clock, quiet_s, *, answers=True):
        self.clock, self.quiet_s, self.answers, self.streams = clock, quiet_s, answers, 0
        super().__init__(self.answer)

    def answer(self, request):
        self.streams += 1
        if self.streams > 1 and not self.answers:
            self.clock[0] += self.quiet_s
            raise httpx.ConnectError("nobody")
        return httpx.Response(200, stream=Quiet(self))


class Quiet(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, line):
        self.line = line

    def __iter__(self):
        for _ in range(3):
            self.line.clock[0] += self.line.quiet_s
            yield b": idle\n\n"
        if self.line.streams < 4:
            raise httpx.ReadError("a blip")
        yield b'id: 1\ndata: {"job_id":"j","kind":"succeeded","number":1,"sequence":1,"at":1,"data":{}}\n\n'

    async def __aiter__(self):
        for each in self:
            yield each


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so, for the client's patience."""
    now = [1000.0]
    for module in ("sse", "sync", "asynchronous"):
        monkeypatch.setattr(
            f"safelight.client.{module}.time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: None)
        )
    return now


def streamed(kind, line):
    """The kinds of the events of a job's stream over `line`."""
    if kind is Client:
        with Client("http://127.0.0.1:9", transport=line) as client:
            return [each.kind for each in client.stream("j")]

    async def act():
        async with AsyncClient("http://127.0.0.1:9", transport=line) as client:
            return [each.kind async for each in client.stream("j")]

    return asyncio.run(act())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_quiet_job_outlives_a_blip_of_the_line(clock, kind):
    line = Blinking(clock, 50.0)
    assert streamed(kind, line) == ["succeeded"] and line.streams == 4


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_server_that_stays_away_is_given_up(clock, kind):
    line = Blinking(clock, 50.0, answers=False)
    with pytest.raises(errors.ServerNotRunning, match="does not answer"):
        streamed(kind, line)
    assert line.streams == 3


class Number:
    """Like a NumPy number: no int, and JSON does not know it."""


@pytest.mark.parametrize(
    ("value", "words"),
    [(Number(), "type Number"), (float("nan"), "nan"), ({1, 2}, "type set"), ("\ud800", "surrogates")],
)
def test_what_cannot_be_sent_is_the_callers_fault_and_named(client, value, words):
    for field in ("seed", "steps"):
        with pytest.raises(errors.InvalidRequest, match=words) as refused:
            client.generate("draw", **SMALL, **{field: value})
        assert [each.path for each in refused.value.errors] == [field]

    async def act():
        async with AsyncClient(client.url) as other:
            await other.generate("draw", **SMALL, seed=value)

    with pytest.raises(errors.InvalidRequest, match=words):
        asyncio.run(act())


def test_the_asynchronous_client_does_the_same(server):
    async def act():
        async with AsyncClient(server.url) as client:
            seen = []
            result = await client.generate("draw 2", **SMALL, on_event=seen.append)
            assert result.image().size == (64, 64) and seen[-1].kind == "succeeded"
            kept = await client.upload(png())
            assert (await client.transform(kept, "draw", **SMALL)).job.resolved["image"]["id"] == kept
            both = await asyncio.gather(*(client.generate("draw", **SMALL) for _ in range(2)))
            assert both[0].job.id != both[1].job.id
            with pytest.raises(JobFailed):
                await client.generate("refuse", **SMALL)
            with pytest.raises(errors.NotFound):
                await client.cancel("nobody")
            assert [each.id for each in await client.jobs(limit=1)] and await client.models()

    asyncio.run(act())


def test_both_clients_have_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
    assert safelight.Client is Client and safelight.AsyncClient is AsyncClient


def test_it_finds_the_server_of_the_folder_or_of_the_variable(server, monkeypatch, tmp_path):
    home = server.app.settings.storage.home
    monkeypatch.delenv("SAFELIGHT_URL", raising=False)
    monkeypatch.setenv("SAFELIGHT_HOME", str(home))
    with Client() as found:
        assert found.url == server.url
    monkeypatch.setenv("SAFELIGHT_HOME", str(tmp_path))
    with pytest.raises(errors.ServerNotRunning, match="safelight serve"):
        Client()
    monkeypatch.setenv("SAFELIGHT_URL", server.url + "/")
    with Client() as named:
        assert named.url == server.url and named.models()
    with pytest.raises(errors.ServerNotRunning, match="http"):
        Client("localhost:8484")


def test_nobody_at_the_url_is_said_in_words():
    with Client("http://127.0.0.1:9") as client, pytest.raises(errors.ServerNotRunning, match="does not answer"):
        client.models()


def test_another_server_at_the_url_is_said_in_words():
    transport = httpx.MockTransport(lambda request: httpx.Response(502, text="<html>"))
    with Client("http://127.0.0.1:9", transport=transport) as client, pytest.raises(ServerProblem, match="502"):
        client.models()
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="hello"))
    with Client("http://127.0.0.1:9", transport=transport) as client, pytest.raises(errors.UnreadableFile):
        client.models()


def test_the_reader_of_events_keeps_to_the_standard():
    reader = Reader()
    lines = [": comment", "", "id: 7", "event: step", 'data: {"job_id":"j","kind":"step","number":7,',
             'data:"sequence":9,"at":1.5,"data":{}}']  # fmt: skip
    assert [reader.line(each) for each in lines] == [None] * 6
    event = reader.line("")
    assert (event.number, event.sequence, event.kind, reader.last) == (7, 9, "step", 7)
    for each in ("event: preview", 'data: {"job_id":"j","kind":"preview","number":0,"sequence":0,"at":1,"data":{}}'):
        assert reader.line(each) is None
    assert reader.line("").kind == "preview" and reader.last == 7


def test_pictures_are_found_kept_binned_and_brought_back(client):
    [kept, other] = client.generate("draw 1", **SMALL, batch_size=2, group="wall", seed=77).artifacts

    def found(**search):
        return [each["id"] for each in client.artifacts(group="wall", **search)]

    assert found() == [other.id, kept.id] and found(prompt="DRAW", limit=1, before=other.id) == [kept.id]
    assert client.favourite(kept.id)["favourite"] and found(favourite=True) == [kept.id]
    assert not client.favourite(kept.id, False)["favourite"]
    assert client.bin(other.id)["binned_at"] and (found(), found(bin=True)) == ([kept.id], [other.id])
    assert client.restore(other.id)["binned_at"] is None and found(prompt=None) == [other.id, kept.id]
    job = client.jobs(group="wall")[0]
    assert client.change(job.id, group=None).fields["group"] is None and found() == []
    with pytest.raises(errors.NotFound):
        client.bin("nobody")


def test_the_async_client_does_the_same(server):
    async def act():
        async with AsyncClient(server.url) as client:
            [picture] = (await client.generate("draw 1", **SMALL, tags=["async gallery"])).artifacts
            assert [each["id"] for each in await client.artifacts(tag="async gallery")] == [picture.id]
            assert (await client.favourite(picture.id))["favourite"]
            assert (await client.bin(picture.id))["binned_at"]
            assert [each["id"] for each in await client.artifacts(tag="async gallery", bin=True)] == [picture.id]
            assert (await client.restore(picture.id))["favourite"]

    asyncio.run(act())
