"""Webhooks over real sockets: a receiver of its own, TLS, redirects, servers that die and come back."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import httpx
import pytest
from tests.acceptance.test_http_process import started
from tests.unit.server.staging import problem, stage

from safelight.core.events import Event, EventKind
from safelight.jobs.records import Delivery, DeliveryState
from safelight.server.webhooks import addresses
from safelight.server.webhooks.addresses import Addresses
from safelight.server.webhooks.sender import Sender

GUIDE = Path(__file__).parents[2] / "docs" / "http.md"
HERE = {"enabled": True, "networks": ["127.0.0.0/8", "::1/128"], "first_retry_s": 0.05}
SMALL = {"width": 64, "height": 64}


class Receiver:
    """An HTTP server that keeps what it is told. `statuses`: what it answers first, then 200."""

    def __init__(self, port: int = 0, *statuses: int, tls: ssl.SSLContext | None = None) -> None:
        self.statuses = list(statuses)
        self.location = ""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, scheme: str = "http", host: str = "127.0.0.1", path: str = "/hook?a=b") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    @property
    def said(self) -> list[dict]:
        return [json.loads(body) for _, _, body in self.got]


def deliveries(server, job_id: str, *states: str, within_s: float = 20) -> list[dict]:
    """The job's deliveries once all are in one of the states."""
    deadline = time.monotonic() + within_s
    while True:
        found = server.job(job_id)["webhook"]["deliveries"]
        if found and all(each["state"] in states for each in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("home"), webhooks=HERE) as running:
        yield running


def test_the_end_of_a_job_is_told_and_the_documented_check_finds_the_signature_good(server, tmp_path):
    with Receiver() as receiver:
        job_id = server.submit("draw", webhook=receiver.url(), **SMALL)
        [delivery] = deliveries(server, job_id, "delivered")
    [(path, headers, body)] = receiver.got
    [said] = receiver.said
    last = server.events(job_id)[-1]["data"]
    assert path == "/hook?a=b" and headers["host"] == f"127.0.0.1:{receiver.port}"
    assert said == {"id": delivery["id"], **last} and said["kind"] == "succeeded"
    assert (delivery["event"], delivery["tries"], delivery["said"]) == ("succeeded", 1, "")
    assert headers["webhook-id"] == said["id"] and headers["content-type"] == "application/json"

    snippet = re.search(r"```python\n(import base64.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert snippet is not None
    names: dict = {}
    exec(compile(snippet[1], str(GUIDE), "exec"), names)  # what the guide tells people to write
    secret = (server.app.settings.storage.home / "webhook.secret").read_text()
    assert names["is_genuine"](secret, headers, body)
    assert not names["is_genuine"](secret, headers, body + b" ")
    assert not names["is_genuine"](secret, {**headers, "webhook-id": "another"}, body)
    assert not names["is_genuine"](secret, {**headers, "webhook-timestamp": str(int(time.time()) - 3600)}, body)
    other = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    assert not names["is_genuine"](other, headers, body)


def test_only_the_events_that_were_asked_for_are_told(server):
    with Receiver() as receiver:
        wish = {"url": receiver.url(), "events": ["queued", "started", "artifact"]}
        job_id = server.submit("draw", webhook=wish, **SMALL)
        server.done(job_id)
        deliveries(server, job_id, "delivered")
        quiet = server.submit("draw", **SMALL)
        server.done(quiet)
    assert sorted(each["kind"] for each in receiver.said) == ["artifact", "queued", "started"]
    assert {each["job_id"] for each in receiver.said} == {job_id}
    assert server.job(job_id)["webhook"]["events"] == wish["events"] and server.job(quiet)["webhook"] is None


@pytest.mark.parametrize(("prompt", "kind"), [("refuse", "failed"), ("wait", "cancelled")])
def test_other_ends_are_told_too(server, prompt, kind):
    with Receiver() as receiver:
        job_id = server.submit(prompt, webhook=receiver.url(), **SMALL)
        if prompt == "wait":
            server.until(job_id, "running")
            server.http.post(f"/v1/jobs/{job_id}/cancel")
        deliveries(server, job_id, "delivered")
    assert [each["kind"] for each in receiver.said] == [kind]


def test_a_receiver_that_fails_is_asked_again_with_the_same_id(server):
    with Receiver(0, 500, 404) as receiver:
        job_id = server.submit("draw", webhook=receiver.url(), **SMALL)
        [delivery] = deliveries(server, job_id, "delivered")
    assert delivery["tries"] == 3
    assert len(receiver.got) == 3 and {each["id"] for each in receiver.said} == {delivery["id"]}
    assert len({body for _, _, body in receiver.got}) == 1


def test_a_receiver_that_is_down_hears_of_it_when_it_is_up(server):
    with Receiver() as receiver:
        port = receiver.port
    job_id = server.submit("draw", webhook=f"http://127.0.0.1:{port}/", **SMALL)
    server.done(job_id)
    deadline = time.monotonic() + 20
    while (delivery := deliveries(server, job_id, "pending")[0])["tries"] < 2:
        assert time.monotonic() < deadline
    assert "ConnectError" in delivery["said"] and delivery["tried_at"] > 1e9
    with Receiver(port) as receiver:
        deliveries(server, job_id, "delivered")
    assert len(receiver.got) == 1


def test_a_redirect_is_not_followed(server):
    with Receiver() as inner, Receiver(0, *[302] * 50) as receiver:
        receiver.location = inner.url()
        job_id = server.submit("draw", webhook=receiver.url(), **SMALL)
        deadline = time.monotonic() + 20
        while not (found := server.job(job_id)["webhook"]["deliveries"]) or not found[0]["tries"]:
            assert time.monotonic() < deadline
        assert "302; redirects are not followed" in found[0]["said"] and found[0]["state"] == "pending"
        receiver.statuses.clear()
        deliveries(server, job_id, "delivered")
    assert inner.got == []


def test_what_fails_too_often_is_dead_and_the_record_says_why(tmp_path):
    with Receiver(0, *[503] * 9) as receiver, stage(tmp_path, webhooks={**HERE, "max_tries": 3}) as server:
        job_id = server.submit("draw", webhook=receiver.url(), **SMALL)
        [dead] = deliveries(server, job_id, "dead")
        receiver.statuses = [410]
        gone = server.submit("draw", webhook=receiver.url(), **SMALL)
        [left] = deliveries(server, gone, "dead")
    assert (dead["tries"], dead["said"]) == (3, "the address answered 503")
    assert left["tries"] == 1 and "410" in left["said"]


@pytest.mark.skipif(sys.platform != "linux", reason="a port that answers nothing, as Linux has it")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_address_that_is_silent_leaves_time_for_the_next(anyio_backend):
    """A listener whose queue is full drops what comes: nothing is refused, the connection is never made."""
    silent, good = IPv4Address("127.0.0.2"), IPv4Address("127.0.0.1")

    async def resolve(host: str, port: int) -> list[IPv4Address]:
        return [silent, good]

    with Receiver() as receiver, contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((str(silent), receiver.port))
        listener.listen(0)
        for _ in range(3):
            filling = sockets.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex((str(silent), receiver.port))
        sender = Sender(Addresses([ip_network("127.0.0.0/8")], resolve), b"secret", 2.0)
        event = Event("job", EventKind.SUCCEEDED, {}, 3, 7, 1e9)
        came = await sender.send(Delivery(event, receiver.url("http", "hook.invalid")))
        await sender.close()
    assert came == (DeliveryState.DELIVERED, "") and len(receiver.got) == 1


# ---- what is refused


def submit(server, webhook):
    return server.http.post("/v1/jobs", json={"operation": "image.generate", "prompt": "x", "webhook": webhook})


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data", "https://localhost:8484/v1",
     "https://2130706433/", "https://[::ffff:127.0.0.1]/", "https://10.0.0.1/", "https://0.0.0.0/", "http://1.1.1.1/"],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(tmp_path_factory, url):
    with stage(tmp_path_factory.mktemp("home"), webhooks={"enabled": True}) as server:
        [fault] = problem(submit(server, url), 422, "invalid_request")["errors"]
    assert fault["path"] == "webhook.url" and "webhooks.networks" in fault["hint"]
    assert server.app.services.settings.webhooks.networks == ()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_name_is_asked_once_a_try_and_only_what_was_checked_is_spoken_to(anyio_backend):
    """DNS rebinding: each answer of the name's server is another address. No DNS knows the name: were it asked for by
    the connection too, nothing could arrive."""
    answers = ["93.184.216.34", "127.0.0.1", "169.254.169.254", "127.0.0.1"]

    async def resolve(host: str, port: int) -> list[IPv4Address]:
        assert host == "hook.invalid"
        return [IPv4Address(answers.pop(0))]

    event = Event("job", EventKind.SUCCEEDED, {}, 3, 7, 1e9)
    with Receiver() as receiver:
        delivery = Delivery(event, receiver.url("https", "hook.invalid"))
        outside, inside = Addresses([], resolve), Addresses([ip_network("127.0.0.0/8")], resolve)
        await outside.of(outside.parsed(delivery.url))  # as it is handed in
        for allowed, url, said in [
            (outside, delivery.url, "leads to 127.0.0.1, which is not public"),
            (inside, receiver.url("http", "hook.invalid"), "leads to 169.254.169.254, which is not public"),
            (inside, receiver.url("http", "hook.invalid"), ""),
        ]:
            sender = Sender(allowed, b"secret", 5.0)
            state, why = await sender.send(replace(delivery, url=url))
            await sender.close()
            assert said in why and (state is DeliveryState.DELIVERED) == (not said)
    assert answers == [] and [headers["host"] for _, headers, _ in receiver.got] == [f"hook.invalid:{receiver.port}"]


@pytest.mark.parametrize(
    ("webhook", "path"),
    [("ftp://x", "webhook.url"), ("", "webhook.url"), (7, "webhook"), ({"url": "https://x", "on": 1}, "webhook.on"),
     ({"events": ["failed"]}, "webhook.url"), ({"url": "https://127.0.0.1", "events": ["step"]}, "webhook.events.0"),
     ({"url": "https://127.0.0.1", "events": []}, "webhook.events"), ("https://nowhere.invalid/", "webhook.url")],
)  # fmt: skip
def test_a_webhook_that_is_none_is_refused(server, webhook, path):
    fault = problem(submit(server, webhook), 422, "invalid_request")["errors"][0]
    assert fault["path"] == path and fault["hint"]


def test_webhooks_are_off_by_default_and_the_refusal_says_the_way_out(tmp_path):
    with stage(tmp_path) as server:
        [fault] = problem(submit(server, "https://example.org/"), 422, "invalid_request")["errors"]
    assert fault["path"] == "webhook" and "webhooks.enabled" in fault["hint"] and "stream" in fault["hint"]
    assert not (tmp_path / "webhook.secret").exists()


def test_hung_lookups_are_told_apart_and_keep_no_delivery_from_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "RESOLVE_S", 0.4)
    hung = threading.Event()

    def look(host, port, **more):
        if host.endswith(".hung.example"):
            hung.wait(60)
        return socket.getaddrinfo(host, port, **more)

    monkeypatch.setattr(addresses.Lookups.__init__, "__defaults__", (look,))
    try:
        with Receiver() as receiver, stage(tmp_path, webhooks=HERE) as server:
            early = server.submit("wait", webhook=receiver.url(), **SMALL)
            server.until(early, "running")
            for each in range(addresses.LOOKUPS):
                [fault] = problem(submit(server, f"https://n{each}.hung.example"), 422, "invalid_request")["errors"]
                assert "not found: no answer within" in fault["message"]
            busy = submit(server, receiver.url())
            assert "127.0.0.1" in problem(busy, 503, "lookups_busy")["detail"]
            assert int(busy.headers["retry-after"]) > 0
            server.http.post(f"/v1/jobs/{early}/cancel")
            [delivery] = deliveries(server, early, "delivered")
            assert delivery["tries"] == 1
    finally:
        hung.set()


# ---- TLS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_the_certificate_must_be_that_of_the_name(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Receiver(tls=tls) as receiver, stage(tmp_path / "home", webhooks={**HERE, "max_tries": 1}) as server:
        good = server.submit("draw", webhook=receiver.url("https", "localhost"), **SMALL)
        deliveries(server, good, "delivered")
        bad = server.submit("draw", webhook=receiver.url("https", "127.0.0.1"), **SMALL)
        [dead] = deliveries(server, bad, "dead")
    assert "certificate" in dead["said"].lower()
    assert len(receiver.got) == 1 and receiver.got[0][1]["host"] == f"localhost:{receiver.port}"


# ---- servers that die


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_a_killed_server_had_not_told_the_next_one_tells(tmp_path):
    settings = {"webhooks": HERE}
    with Receiver() as receiver:
        port = receiver.port
    later = {"operation": "image.generate", "prompt": "a lighthouse", "not_before": 4e9, **SMALL}
    with started(tmp_path, sections=settings) as (process, here, _), httpx.Client(base_url=here.url) as http_:
        url = f"http://127.0.0.1:{port}/"
        ids = [http_.post("/v1/jobs", json={**later, "webhook": url}).json()["id"] for _ in range(5)]
        for each in ids:
            assert http_.post(f"/v1/jobs/{each}/cancel").json()["state"] == "cancelled"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Receiver(port) as receiver, started(tmp_path, sections=settings) as (_, here, _):
        deadline = time.monotonic() + 30
        while {each["job_id"] for each in receiver.said} != set(ids):
            assert time.monotonic() < deadline, receiver.said
            time.sleep(0.02)
        with contextlib.closing(httpx.Client(base_url=here.url)) as http_:
            for each in ids:
                while http_.get(f"/v1/jobs/{each}").json()["webhook"]["deliveries"][0]["state"] != "delivered":
                    assert time.monotonic() < deadline
    assert {each["kind"] for each in receiver.said} == {"cancelled"}
    assert len({each["id"] for each in receiver.said}) == 5
