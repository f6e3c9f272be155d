"""Jobs over HTTP: handing in, reading, changing, cancelling, retrying, and everything that is refused."""

from __future__ import annotations

import json

import pytest
from tests.unit.server.staging import base64_png, problem, stage

from safelight.errors import InvalidRequest, InvalidValue


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("home")) as running:
        yield running


def post(server, body, **options):
    return server.http.post("/v1/jobs", json=body, **options)


GENERATE = {"operation": "image.generate", "prompt": "draw 2", "width": 64, "height": 64}


def test_a_job_is_accepted_drawn_and_recorded_whole(server):
    answer = post(server, {**GENERATE, "seed": 2**64 - 1, "tags": ["cats"], "priority": 3, "batch_size": 2})
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == accepted["url"] == f"/v1/jobs/{accepted['id']}"
    assert accepted["stream_url"] == f"/v1/jobs/{accepted['id']}/stream"
    job = server.done(accepted["id"])
    assert job["state"] == "succeeded"
    assert job["request"] == {"operation": "image.generate", "prompt": "draw 2", "width": 64, "height": 64,
                              "seed": 2**64 - 1, "batch_size": 2}  # fmt: skip
    assert job["resolved"]["seed"] == 2**64 - 1 and None not in job["resolved"].values()
    assert job["resolved"]["model"]["name"] == "postcards" and job["resolved"]["sampler"]
    assert (job["tags"], job["priority"], job["owner"]) == (["cats"], 3, "local")
    assert job["timings"]["denoise"] == 0.25 and job["timings"]["total"] >= job["timings"]["queue"] >= 0
    assert [each["end"] for each in job["attempts"]] == ["succeeded"] and job["peak_bytes"] == 1234
    assert [(each["index"], each["width"], each["media_type"]) for each in job["artifacts"]] == [
        (0, 64, "image/png"), (1, 64, "image/png"),
    ]  # fmt: skip


def test_waiting_gives_the_whole_record_when_it_is_over(server):
    answer = post(server, GENERATE, params={"wait": 20})
    assert answer.status_code == 200 and answer.json()["state"] == "succeeded"
    assert len(answer.json()["artifacts"]) == 1


def test_waiting_ends_when_the_time_is_up(server):
    answer = post(server, {**GENERATE, "prompt": "wait"}, params={"wait": 0.2})
    assert answer.status_code == 202 and answer.json()["state"] in ("queued", "running")
    server.http.post(f"{answer.json()['url']}/cancel")
    server.until(answer.json()["id"], "cancelled")


def test_an_alias_of_operation_and_field_is_answered_in_our_words(server):
    body = {"operation": "image_transform", "prompt": "draw", "init_image": base64_png(), "width": 64, "height": 64}
    job = server.done(post(server, body).json()["id"])
    assert job["operation"] == job["request"]["operation"] == "image.transform"
    assert len(job["request"]["image"]) == 64 and "init_image" not in job["request"]


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ({**GENERATE, "promt": "x"}, "promt", "Did you mean 'prompt'?"),
        ({**GENERATE, "prompt": "   "}, "prompt", "the prompt is empty"),
        ({**GENERATE, "steps": 151}, "steps", "151"),
        ({**GENERATE, "width": 65}, "width", "65"),
        ({**GENERATE, "guidance_scale": 31}, "guidance_scale", "31"),
        ({**GENERATE, "model": "postcard"}, "model", "postcards"),
        ({**GENERATE, "sampler": "eular"}, "sampler", "euler"),
        ({**GENERATE, "loras": [{"name": "nope"}]}, "loras.0.name", "nope"),
        ({**GENERATE, "priority": 11}, "priority", "11"),
        ({**GENERATE, "priority": True}, "priority", "True"),
        ({**GENERATE, "worker": "cuda:7"}, "worker", "worker-1"),
        ({**GENERATE, "deadline_s": 0}, "deadline_s", "greater than 0"),
        ({"prompt": "x"}, "operation", "image.generate"),
        ([1], "", "no object but '[1]'"),
        ({"operation": "image.transform", "prompt": "draw", "image": "!!! broken"}, "image", "base64"),
        ({"operation": "image.transform", "prompt": "draw", "image": "nowhere"}, "image", "no upload or artifact"),
        ({"operation": "image.transform", "prompt": "draw", "image": "QUJD" * 50}, "image", "picture"),
        ({"operation": "image.transform", "prompt": "draw"}, "image", "required"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_path_value_and_way_out(server, body, path, says):
    found = problem(post(server, body), 422, "invalid_request")
    fault = next(each for each in found["errors"] if each["path"].startswith(path))
    assert says in fault["message"] + fault["hint"]
    assert fault["hint"]


def test_everything_wrong_is_said_at_once(server):
    found = problem(post(server, {**GENERATE, "steps": 0, "priority": 99, "colour": 1}), 422, "invalid_request")
    assert {each["path"] for each in found["errors"]} == {"steps", "priority", "colour"}


def test_an_operation_that_is_not_here_is_refused_with_those_that_are(server):
    planned = problem(post(server, {"operation": "video.generate", "prompt": "x"}), 422, "operation_unavailable")
    assert "image.generate" in planned["hint"]
    unknown = problem(post(server, {"operation": "image.generat"}), 422, "operation_unavailable")
    assert "Did you mean 'image.generate'" in unknown["hint"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":NaN}', b"\xff\xfe", b"[" * 100_000, b'{"a":1}x'])
def test_what_is_not_json_is_refused(server, body):
    answer = server.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 422, "invalid_request")["errors"][0]["path"] == ""


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_another_media_type_is_refused(server, media_type):
    headers = {"Content-Type": media_type} if media_type else {}
    answer = server.http.post("/v1/jobs", content=json.dumps(GENERATE).encode(), headers=headers)
    assert "application/json" in problem(answer, 415, "unsupported_media_type")["hint"]


def test_the_same_key_is_the_same_job_and_another_body_a_conflict(server):
    headers = {"Idempotency-Key": "one"}
    first = post(server, GENERATE, headers=headers).json()["id"]
    again = post(server, dict(reversed(GENERATE.items())), headers=headers)
    assert again.status_code == 202 and again.json()["id"] == first
    problem(post(server, {**GENERATE, "steps": 3}, headers=headers), 409, "conflict")
    assert post(server, GENERATE).json()["id"] != first


def test_a_repeat_is_the_same_job_although_its_model_is_gone(server, monkeypatch):
    by_key = post(server, GENERATE, headers={"Idempotency-Key": "gone"}).json()["id"]
    assert server.http.put("/v1/jobs/gone-1", json=GENERATE).status_code == 202

    def gone(*_):
        raise InvalidRequest(InvalidValue("model", "it is not here", "Put it back."))

    monkeypatch.setattr(type(server.app.services.catalog), "model", gone)
    problem(post(server, GENERATE), 422, "invalid_request")
    assert post(server, GENERATE, headers={"Idempotency-Key": "gone"}).json()["id"] == by_key
    assert server.http.put("/v1/jobs/gone-1", json=GENERATE).json()["id"] == "gone-1"
    problem(server.http.put("/v1/jobs/gone-1", json={**GENERATE, "seed": 3}), 409, "conflict")


def test_the_same_key_with_a_picture_is_the_same_job_whether_inline_or_kept(server):
    body = {"operation": "image.transform", "prompt": "draw", "image": base64_png(color="red"), "width": 64,
            "height": 64}  # fmt: skip
    headers = {"Idempotency-Key": "picture"}
    first = post(server, body, headers=headers).json()["id"]
    assert post(server, body, headers=headers).json()["id"] == first
    kept = server.job(first)["request"]["image"]
    assert post(server, {**body, "image": kept}, headers=headers).json()["id"] == first


def test_a_client_may_name_its_job(server):
    put = server.http.put("/v1/jobs/my-own_id", json=GENERATE)
    assert put.status_code == 202 and put.json()["id"] == "my-own_id"
    assert server.http.put("/v1/jobs/my-own_id", json=GENERATE).json()["id"] == "my-own_id"
    problem(server.http.put("/v1/jobs/my-own_id", json={**GENERATE, "steps": 4}), 409, "conflict")
    found = problem(server.http.put("/v1/jobs/.hidden", json=GENERATE), 422, "invalid_request")
    assert found["errors"][0]["path"] == "id"


@pytest.mark.parametrize("name", ["abc%0A", "abc%0Ad", "a" * 65, "-abc", "a.b"])
def test_a_name_that_could_not_name_a_file_is_refused(server, name):
    found = problem(server.http.put(f"/v1/jobs/{name}", json=GENERATE), 422, "invalid_request")
    assert [each["path"] for each in found["errors"]] == ["id"]


def test_jobs_are_listed_in_pages_and_filtered(server):
    ids = [server.submit(tags=["page"], width=64, height=64) for _ in range(5)]
    for each in ids:
        server.done(each)
    first = server.http.get("/v1/jobs", params={"tag": "page", "limit": 3}).json()
    assert [each["id"] for each in first["jobs"]] == ids[:1:-1] and first["next"] == ids[2]
    second = server.http.get("/v1/jobs", params={"tag": "page", "limit": 3, "before": first["next"]}).json()
    assert [each["id"] for each in second["jobs"]] == ids[1::-1] and second["next"] is None
    params = {"tag": "page", "state": ["failed", "cancelled"]}
    assert server.http.get("/v1/jobs", params=params).json()["jobs"] == []
    params = {"tag": "page", "operation": "image_generation", "state": "succeeded"}
    assert len(server.http.get("/v1/jobs", params=params).json()["jobs"]) == 5
    wrong = problem(server.http.get("/v1/jobs", params={"limit": 0, "state": "done"}), 422, "invalid_request")
    assert {each["path"] for each in wrong["errors"]} == {"limit", "state.0"}
    problem(server.http.get("/v1/jobs", params={"before": "nothing"}), 404, "not_found")


def test_a_running_job_is_cancelled_and_a_finished_one_stays(server):
    job_id = server.submit("wait", width=64, height=64)
    server.until(job_id, "running")
    assert server.http.post(f"/v1/jobs/{job_id}/cancel").json()["cancel_requested"]
    assert server.until(job_id, "cancelled")["attempts"][0]["end"] == "cancelled"
    done = server.submit(width=64, height=64)
    server.done(done)
    assert server.http.delete(f"/v1/jobs/{done}").json()["state"] == "succeeded"
    problem(server.http.post("/v1/jobs/nobody/cancel"), 404, "not_found")


def test_a_job_is_set_aside_at_its_step_and_goes_on_from_its_checkpoint(server):
    job_id = server.submit("wait", width=64, height=64)
    server.until(job_id, "running")
    assert server.http.patch(f"/v1/jobs/{job_id}", json={"paused": True}).status_code == 200
    server.until(job_id, "paused")
    server.http.patch(f"/v1/jobs/{job_id}", json={"paused": False, "priority": 5, "tags": ["kept"], "pinned": True})
    job = server.until(job_id, "running")
    assert (job["priority"], job["tags"], job["pinned"], job["attempt"]) == (5, ["kept"], True, 2)
    orders = [each for each in server.theatre.actors[-1].assigned if each.job == job_id]
    assert orders[0].checkpoint == "" and orders[1].checkpoint.startswith(orders[0].folder)
    server.http.post(f"/v1/jobs/{job_id}/cancel")
    server.until(job_id, "cancelled")


def test_a_change_that_is_none_or_cannot_be_is_refused(server):
    job_id = server.submit(width=64, height=64)
    server.done(job_id)
    problem(server.http.patch(f"/v1/jobs/{job_id}", json={}), 422, "invalid_request")
    found = problem(server.http.patch(f"/v1/jobs/{job_id}", json={"priorty": 1}), 422, "invalid_request")
    assert "Did you mean 'priority'" in found["errors"][0]["hint"]
    problem(server.http.patch(f"/v1/jobs/{job_id}", json={"priority": 11}), 422, "invalid_request")
    problem(server.http.patch(f"/v1/jobs/{job_id}", json={"paused": True}), 409, "conflict")
    problem(server.http.patch("/v1/jobs/nobody", json={"priority": 1}), 404, "not_found")


def test_a_retry_is_a_new_job_of_the_same_resolved_request(server):
    job_id = server.submit("refuse", width=64, height=64)
    old = server.done(job_id)
    assert old["state"] == "failed" and old["failure"]["kind"] == "out_of_memory" and old["failure"]["hint"] == "Less."
    answer = server.http.post(f"/v1/jobs/{job_id}/retry")
    assert answer.status_code == 202 and answer.headers["location"] == answer.json()["url"]
    new = server.done(answer.json()["id"])
    assert new["retry_of"] == job_id and new["resolved"] == old["resolved"]
    waiting = server.submit("wait", width=64, height=64)
    problem(server.http.post(f"/v1/jobs/{waiting}/retry"), 409, "conflict")
    server.http.post(f"/v1/jobs/{waiting}/cancel")


def test_three_charged_errors_fail_a_job_and_are_kept_as_data(server):
    job = server.done(server.submit("error", width=64, height=64))
    assert job["state"] == "failed"
    assert [each["end"] for each in job["attempts"]] == ["error"] * 3
    assert job["attempts"][0]["trace"] == "Traceback: there"


def test_a_declined_job_is_offered_again_at_no_charge(server):
    job = server.done(server.submit("decline", width=64, height=64))
    assert job["state"] == "succeeded"
    assert [each["end"] for each in job["attempts"]] == ["declined", "succeeded"]


def test_a_stale_word_is_refused_and_the_job_goes_on(server):
    job_id = server.submit("stale 3", width=64, height=64)
    assert server.done(job_id)["state"] == "succeeded"
    assert "warning" not in [each["event"] for each in server.events(job_id)]
    told = [each for each in server.theatre.actors[-1].heard if type(each).__name__ == "Cancel" and each.job == job_id]
    assert [each.attempt for each in told] == [8]


def test_a_higher_priority_goes_first_and_not_before_waits(server):
    blockers = [server.submit("wait", width=64, height=64) for _ in range(8)]
    for each in blockers:
        server.until(each, "running")
    low = server.submit("draw", width=64, height=64)
    high = server.submit("draw", width=64, height=64, priority=0, tags=["x"])
    server.http.patch(f"/v1/jobs/{low}", json={"priority": -5})
    later = server.submit("draw", width=64, height=64, not_before=4e9)
    assert server.job(low)["state"] == "queued" and server.http.get("/v1/system").json()["jobs"]["queued"] == 3
    server.http.delete(f"/v1/jobs/{blockers[0]}")
    assert server.done(high)["ended_at"] <= server.done(low)["ended_at"]
    assert server.job(later)["state"] == "queued"
    for each in (*blockers, later):
        server.http.delete(f"/v1/jobs/{each}")
    for each in blockers:
        server.until(each, "cancelled")


def test_a_higher_priority_pushes_a_running_job_out_when_all_is_full(server):
    blockers = [server.submit("wait", width=64, height=64, priority=-1) for _ in range(8)]
    for each in blockers:
        server.until(each, "running")
    urgent = server.done(server.submit("draw", width=64, height=64, priority=9))
    assert urgent["state"] == "succeeded"
    ends = [each["end"] for blocker in blockers for each in server.job(blocker)["attempts"]]
    assert ends.count("preempted") == 1
    for each in blockers:
        server.http.delete(f"/v1/jobs/{each}")
    for each in blockers:
        server.until(each, "cancelled")


def test_a_deadline_passed_in_the_queue_fails_the_job(server):
    blockers = [server.submit("wait", width=64, height=64, priority=9) for _ in range(8)]
    for each in blockers:
        server.until(each, "running")
    job = server.done(server.submit("draw", width=64, height=64, deadline_s=0.2))
    assert job["state"] == "failed" and job["failure"]["kind"] == "deadline"
    for each in blockers:
        server.http.delete(f"/v1/jobs/{each}")
    for each in blockers:
        server.until(each, "cancelled")


def test_groups(server):
    first, second = [server.submit(group="grid", width=64, height=64) for _ in range(2)]
    lone = server.submit(width=64, height=64)
    for each in (first, second, lone):
        server.done(each)

    def members(**more):
        return [each["id"] for each in server.http.get("/v1/jobs", params={"group": "grid", **more}).json()["jobs"]]

    assert members() == [second, first] and members(limit=1, before=second) == [first]
    assert server.http.patch(f"/v1/jobs/{lone}", json={"group": "grid"}).json()["group"] == "grid"
    assert server.http.patch(f"/v1/jobs/{first}", json={"group": None}).json()["group"] is None
    assert server.http.patch(f"/v1/jobs/{second}", json={"pinned": False}).json()["group"] == "grid"
    assert members() == [lone, second]
    again = server.http.post(f"/v1/jobs/{second}/retry").json()["id"]
    assert server.done(again)["group"] == "grid"
    assert problem(post(server, {**GENERATE, "group": ""}), 422, "invalid_request")["errors"][0]["path"] == "group"
    problem(server.http.patch(f"/v1/jobs/{lone}", json={"group": "x" * 101}), 422, "invalid_request")
