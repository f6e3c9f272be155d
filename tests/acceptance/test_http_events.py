"""Event streams over HTTP: order, replay after a reconnect, previews, heartbeats, many and slow listeners."""

from __future__ import annotations

import threading
import time

import pytest
from tests.unit.server.staging import problem, read_events, stage

SMALL = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"stream_heartbeat_s": 0.1, "max_streams": 20}
    with stage(tmp_path_factory.mktemp("home"), server=settings) as running:
        yield running


def read_until(pieces, enough):
    """What comes of a stream's pieces up to where `enough(text)`."""
    text = ""
    for piece in pieces:
        text += piece
        if enough(text):
            return text
    raise AssertionError(f"the stream ended: {text}")


def test_a_stream_tells_everything_in_order_and_ends(server):
    events = server.events(server.submit("draw 5", **SMALL))
    assert [each["event"] for each in events] == ["queued", "started", *["step"] * 5, "artifact", "succeeded"]
    assert [int(each["id"]) for each in events] == list(range(1, 10))
    assert [each["data"]["number"] for each in events] == list(range(1, 10))
    assert events[2]["data"]["data"]["steps"] == 5
    artifact = events[-2]["data"]["data"]
    assert server.http.get(artifact["url"]).status_code == 200


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_reconnect_replays_what_was_missed_and_nothing_twice(server, how):
    job_id = server.submit("draw 30", **SMALL)
    with server.http.stream("GET", f"/v1/jobs/{job_id}/stream") as first:
        seen = read_events(
            read_until(first.iter_text(), lambda text: text.count("\n\n") >= 6).rpartition("\n\n")[0] + "\n\n"
        )
    last = seen[-1]["id"]
    options = {"headers": {"Last-Event-ID": last}} if how == "header" else {"params": {"after": last}}
    with server.http.stream("GET", f"/v1/jobs/{job_id}/stream", **options) as second:
        rest = read_events("".join(second.iter_text()))
    assert [int(each["id"]) for each in seen + rest] == list(range(1, 35))
    assert rest[-1]["event"] == "succeeded"


def test_a_stream_of_a_job_that_is_over_ends_at_once(server):
    job_id = server.submit("draw 1", **SMALL)
    server.done(job_id)
    assert [each["event"] for each in server.events(job_id)][-1] == "succeeded"
    assert server.events(job_id, after=1000) == []


def test_a_silent_stream_says_that_it_lives(server):
    job_id = server.submit("wait", **SMALL)
    with server.http.stream("GET", f"/v1/jobs/{job_id}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        text = read_until(answer.iter_text(), lambda text: text.count(": idle") >= 2)
    assert "event: started" in text
    server.http.delete(f"/v1/jobs/{job_id}")


def test_previews_come_to_who_asked_only_and_have_no_id(server):
    job_id = server.submit("preview", **SMALL)
    server.until(job_id, "running")
    plain: list = []
    listening = threading.Thread(target=lambda: plain.extend(server.events(job_id)))
    listening.start()
    events = server.events(job_id, previews="true")
    listening.join()
    previews = [each for each in events if each["event"] == "preview"]
    assert len(previews) == 2 and all("id" not in each for each in previews)
    assert previews[0]["data"]["data"]["media_type"] == "image/png"
    assert [each["event"] for each in plain] == ["queued", "started", "step", "step", "succeeded"]
    assert "preview" not in [each["event"] for each in server.events(job_id, previews="true")]


def test_the_worker_is_told_when_nobody_watches_any_more(server):
    job_id = server.submit("wait", **SMALL)
    server.until(job_id, "running")
    with server.http.stream("GET", f"/v1/jobs/{job_id}/stream", params={"previews": "true"}) as answer:
        read_until(answer.iter_text(), lambda text: ": idle" in text)
    deadline = time.monotonic() + 5
    heard = server.theatre.actors[-1].heard
    while [e.previews for e in heard if type(e).__name__ == "Watch" and e.job == job_id] != [True, False]:
        assert time.monotonic() < deadline, heard
        time.sleep(0.02)
    server.http.delete(f"/v1/jobs/{job_id}")


def test_all_jobs_in_one_stream_in_commit_order(server):
    start = server.http.get("/v1/jobs", params={"limit": 1}).json()
    assert start["jobs"]
    ids: list[str] = []

    def submit():
        ids.extend(server.submit("draw 3", **SMALL) for _ in range(3))
        for each in ids:
            server.done(each)

    working = threading.Thread(target=submit)
    with server.http.stream("GET", "/v1/events", params={"after": 0}) as answer:
        pieces = answer.iter_text()
        past = read_until(pieces, lambda text: ": idle" in text)
        working.start()
        text = read_until(pieces, lambda text: text.count("event: succeeded") >= 3)
    working.join()
    events = read_events((past + text).rpartition("\n\n")[0] + "\n\n")
    numbers = [int(each["id"]) for each in events]
    assert numbers == sorted(set(numbers))
    mine = [each["data"] for each in events if each["data"]["job_id"] == ids[0]]
    assert [each["number"] for each in mine] == list(range(1, 8))
    with server.http.stream("GET", "/v1/events", headers={"Last-Event-ID": str(numbers[0])}) as answer:
        again = read_events(
            read_until(answer.iter_text(), lambda text: text.count("\n\n") > 3).rpartition("\n\n")[0] + "\n\n"
        )
    assert int(again[0]["id"]) > numbers[0]


def test_many_listen_to_one_job(server):
    job_id = server.submit("preview", **SMALL)
    heard: list[list[str]] = []

    def listen():
        heard.append([each["event"] for each in server.events(job_id, previews="true") if each["event"] != "preview"])

    threads = [threading.Thread(target=listen) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert heard == [["queued", "started", "step", "step", "succeeded"]] * 12


def test_one_stream_too_many_is_refused(server):
    job_id = server.submit("wait", **SMALL)
    open_streams = [server.http.stream("GET", f"/v1/jobs/{job_id}/stream") for _ in range(20)]
    try:
        pieces = [each.__enter__().iter_text() for each in open_streams]
        for each in pieces:
            read_until(each, lambda text: "event: queued" in text)
        answer = server.http.get(f"/v1/jobs/{job_id}/stream")
        assert "max_streams" in problem(answer, 429, "queue_full")["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    finally:
        for each in open_streams:
            each.__exit__(None, None, None)
        server.http.delete(f"/v1/jobs/{job_id}")


def test_a_bad_place_to_go_on_from_is_refused(server):
    job_id = server.submit("draw 1", **SMALL)
    answer = server.http.get(f"/v1/jobs/{job_id}/stream", headers={"Last-Event-ID": "x"})
    assert problem(answer, 422, "invalid_request")["errors"][0]["path"] == "Last-Event-ID"
    problem(server.http.get(f"/v1/jobs/{job_id}/stream", params={"after": -1}), 422, "invalid_request")
    problem(server.http.get("/v1/events", params={"after": 10**20}), 422, "invalid_request")
    problem(server.http.get("/v1/events", headers={"Last-Event-ID": "9" * 20}), 422, "invalid_request")
    problem(server.http.get("/v1/jobs/nobody/stream"), 404, "not_found")
