"""The server itself over HTTP: what is there, its description, who may come in, readiness, figures, and its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.unit.server.staging import Actor, Theatre, problem, stage

from safelight.client import address
from safelight.errors import Conflict
from safelight.jobs.memory import MemoryStore
from safelight.server.app import build
from safelight.settings import InvalidSettings, settings_of
from safelight.workers.messages import Shutdown

SMALL = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_what_is_there_is_listed_with_its_parameters(server):
    get = lambda path: server.http.get(path).json()  # noqa: E731
    models = get("/v1/models")
    assert models["object"] == "list" and models["unusable"] == []
    (model,) = models["data"]
    assert (model["id"], model["object"], model["family"], model["is_default"]) == ("postcards", "model", "sd1", True)
    euler = next(each for each in get("/v1/samplers")["samplers"] if each["id"] == "euler")
    assert {each["name"] for each in euler["parameters"]} >= {"s_churn", "s_noise"} and euler["order"] == 1
    karras = next(each for each in get("/v1/schedules")["schedules"] if each["id"] == "karras")
    assert "rho" in {each["name"] for each in karras["parameters"]}
    guidances = {each["id"]: each for each in get("/v1/guidances")["guidances"]}
    assert "rescale" in guidances and "keep_outside" not in guidances
    assert {each["id"] for each in get("/v1/loras")["loras"]} == {"sepia", "snowman"}
    assert get("/v1/families")["families"][0]["grid"] == 8
    operations = {each["id"]: each for each in get("/v1/operations")["operations"]}
    assert {"image.generate", "image.transform", "image.inpaint"} <= set(operations)
    assert "prompt" in operations["image.inpaint"]["parameters"]["properties"]


def test_a_model_that_cannot_be_used_is_listed_with_the_reason(server):
    folder = server.app.settings.storage.home / "models"
    folder.mkdir(exist_ok=True)
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    unusable = server.http.get("/v1/models").json()["unusable"]
    (folder / "old.ckpt").unlink()
    assert [each["id"] for each in unusable] == ["old"] and unusable[0]["problem"] and unusable[0]["hint"]


def test_the_system_and_its_figures(server):
    server.done(server.submit("draw", **SMALL))
    system = server.http.get("/v1/system").json()
    assert system["workers"][0]["device_name"] == "a stage" and system["jobs"]["succeeded"] >= 1
    metrics = server.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in metrics.text.splitlines() if not line.startswith("#"))
    assert int(samples['safelight_jobs{state="succeeded"}']) == system["jobs"]["succeeded"]
    assert samples['safelight_worker_free_bytes{worker="worker-1",device="cpu"}'] == str(64 << 30)
    named = re.findall(r"^# TYPE (\S+)", metrics.text, re.M)
    assert {each.partition("{")[0] for each in samples} == set(named)


def test_pages_are_whole_and_load_nothing_from_elsewhere(server):
    index = server.http.get("/")
    assert index.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="(/ui/[^"]+)"', index.text):
        answer = server.http.get(name)
        assert answer.status_code == 200 and answer.content
    pages = index.text + server.http.get("/docs").text + server.http.get("/ui/style.css").text
    assert not re.search(r"""(src|href)=["']?(https?:)?//|url\(|@import|<script>|\son\w+=|style=""", pages)
    policy = index.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
    labels = set(re.findall(r'<label for="([^"]+)"', index.text))
    assert labels == set(re.findall(r'<(?:input|select|textarea) id="([^"]+)"', index.text))
    problem(server.http.get("/ui/../app.py"), 404, "not_found")


def test_the_docs_explain_every_kind_of_problem_events_and_fields(server):
    docs = server.http.get("/docs").text
    kind = problem(server.http.get("/v1/jobs/nobody"), 404, "not_found")["type"].partition("#")[2]
    assert f'id="{kind}"' in docs
    for word in ("guidance_scale", "deadline_s", "mask_blur", "POST /v1/jobs", "seed"):
        assert word in docs


def test_every_route_is_described_and_every_description_is_a_route(server):
    document = server.http.get("/openapi.json").json()
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert ("/v1/jobs", "post") in described and ("/v1/artifacts/{artifact_id}", "get") in described
    assert len({(p, m) for p, m in described}) == len(described) >= 25
    text = json.dumps(document)
    for ref in set(re.findall(r'"#/components/schemas/(\w+)"', text)):
        assert ref in document["components"]["schemas"], ref
    assert "HTTPValidationError" not in text
    assert "application/problem+json" in json.dumps(document["paths"]["/v1/jobs"]["post"]["responses"]["422"])
    submission = document["components"]["schemas"]["Submission"]
    assert submission["discriminator"]["propertyName"] == "operation"
    generate = document["components"]["schemas"]["ImageGenerate"]
    assert {"prompt", "priority", "deadline_s"} <= set(generate["properties"])
    assert generate["required"] == ["operation", "prompt"]


def test_the_guide_names_every_route(server):
    guide = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
    routes = server.http.get("/openapi.json").json()["paths"]
    missing = [
        f"{m.upper()} {p}" for p, methods in routes.items() for m in methods if f"`{m.upper()} {p}`" not in guide
    ]
    assert missing == []


STARTS = ["POST /v1/jobs", "PUT /v1/jobs/{job_id}", "POST /v1/jobs/{job_id}/retry"]
"""Routes that start work: each makes one job of an operation of the contract."""
STEERS = ["PATCH /v1/jobs/{job_id}", "DELETE /v1/jobs/{job_id}", "POST /v1/jobs/{job_id}/cancel"]
"""Routes that change the work of a job that is there."""
KEEPS = ["PATCH /v1/artifacts/{artifact_id}", "DELETE /v1/artifacts/{artifact_id}",
         "POST /v1/artifacts/{artifact_id}/restore", "POST /v1/uploads", "POST /v1/shutdown"]  # fmt: skip
"""Routes that touch no work. (A shutdown that is not allowed, here.)"""


def test_a_route_that_starts_work_submits_an_operation_and_no_other_makes_a_job(server):
    paths = server.http.get("/openapi.json").json()["paths"]
    changing = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if method != "get"}
    assert changing == {*STARTS, *STEERS, *KEEPS}
    old = server.submit("draw", **SMALL)
    artifact_id = server.done(old)["artifacts"][0]["id"]
    operations = {each["id"] for each in server.http.get("/v1/operations").json()["operations"]}
    bodies = {"PATCH /v1/jobs/{job_id}": {"tags": ["seen"]}, "PATCH /v1/artifacts/{artifact_id}": {"favourite": True}}

    def ids() -> list[str]:
        return [each["id"] for each in server.http.get("/v1/jobs", params={"limit": 200}).json()["jobs"]]

    for route in [*STARTS, *STEERS, *KEEPS]:
        before = ids()
        method, path = route.split()
        job_id = "a-new-name" if method == "PUT" else old
        body = {"operation": "image.generate", "prompt": "draw", **SMALL} if route in STARTS[:2] else bodies.get(route)
        answer = server.http.request(method, path.format(job_id=job_id, artifact_id=artifact_id), json=body)
        made = [each for each in ids() if each not in before]
        assert len(made) == (route in STARTS), (route, answer.text)
        assert all(server.done(each)["operation"] in operations for each in made)
        if route in STARTS[:2]:
            problem(server.http.request(method, path.format(job_id="x"), json={"prompt": "draw"}), 422,
                    "invalid_request")  # fmt: skip


def test_what_is_answered_is_what_is_described(server):
    """Each answer of a described route has the fields of its schema, and no others."""
    document = server.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    job_id = server.submit("draw", **SMALL)
    artifact_id = server.done(job_id)["artifacts"][0]["id"]
    checked = 0
    for path, methods in document["paths"].items():
        described = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        ref = described.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        if ref:
            answer = server.http.get(path.format(job_id=job_id, artifact_id=artifact_id))
            assert answer.status_code == 200, path
            assert answer.json().keys() == schemas[ref]["properties"].keys(), path
            checked += 1
    assert checked >= 14


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8484", "127.0.0.1.evil.example", "", "[::1", "10.0.0.5"]
)
def test_a_foreign_host_is_refused(server, host):
    for path in ("/", "/v1/jobs", "/health"):
        problem(server.http.get(path, headers={"Host": host}), 403, "not_allowed")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:8484", "LOCALHOST", "127.1.2.3"])
def test_a_name_of_this_machine_is_taken(server, host):
    assert server.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_may_change_nothing(server, headers):
    body = {"operation": "image.generate", "prompt": "draw", **SMALL}
    before = server.http.get("/v1/system").json()["jobs"]
    problem(server.http.post("/v1/jobs", json=body, headers=headers), 403, "not_allowed")
    plain = {**headers, "Content-Type": "text/plain"}
    problem(server.http.post("/v1/jobs", content=json.dumps(body), headers=plain), 403, "not_allowed")
    problem(server.http.post("/v1/jobs/x/cancel", headers=headers), 403, "not_allowed")
    assert server.http.get("/v1/system").json()["jobs"] == before


def test_our_own_page_may(server):
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    body = {"operation": "image.generate", "prompt": "draw", **SMALL}
    assert server.http.post("/v1/jobs", json=body, headers=headers).status_code == 202


def test_no_answer_may_be_read_by_another_origin(server):
    for path in ("/", "/v1/jobs", "/nowhere", "/docs"):
        headers = server.http.get(path, headers={"Origin": "http://evil.example"}).headers
        assert not [each for each in headers if each.startswith("access-control")]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"


def test_unknown_routes_and_methods_are_problems(server):
    assert "/docs" in problem(server.http.get("/v1/nowhere"), 404, "not_found")["hint"]
    answer = server.http.post("/v1/samplers")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


def test_a_fault_of_our_own_is_a_problem_without_a_trace(server, monkeypatch):
    def broken(*_):
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(server.app.services.hub.__class__, "listeners", property(broken))
    answer = server.http.get("/v1/system")
    found = problem(answer, 500, "internal")
    assert "secret" not in answer.text and "RuntimeError" in found["detail"]


def test_a_full_queue_says_when_to_come_again(tmp_path):
    with stage(tmp_path, jobs={"max_queued": 1, "max_open": 1}) as small:
        running = small.submit("wait", **SMALL)
        small.until(running, "running")
        small.submit("wait", **SMALL)
        body = {"operation": "image.generate", "prompt": "draw", **SMALL}
        answer = small.http.post("/v1/jobs", json=body)
        problem(answer, 429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_worker_that_dies_gives_its_job_to_the_next(tmp_path):
    with stage(tmp_path) as here:
        job = here.done(here.submit("die", **SMALL))
        assert job["state"] == "failed" and [each["end"] for each in job["attempts"]] == ["crashed", "crashed"]
        assert here.done(here.submit("draw", **SMALL))["state"] == "succeeded"
        assert len(here.theatre.actors) == 3


def test_readiness_says_why_not(tmp_path):
    class Nobody(Theatre):
        async def start(self, spec):
            from safelight.errors import WorkerUnavailable

            raise WorkerUnavailable("There is no such device.")

    with stage(tmp_path, theatre=Nobody()) as here:
        deadline = time.monotonic() + 10
        while (answer := here.http.get("/ready")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "no such device" in problem(answer, 503, "worker_unavailable")["detail"]
        assert here.http.get("/health").status_code == 200
        job_id = here.submit("draw", **SMALL)
        assert here.job(job_id)["state"] == "queued"


def test_a_keeper_of_workers_that_has_ended_makes_it_unready(tmp_path):
    class Faulty(Theatre):
        async def start(self, spec):
            raise ZeroDivisionError("a fault of ours")

    with stage(tmp_path, theatre=Faulty()) as here:
        deadline = time.monotonic() + 30
        while (answer := here.http.get("/ready")).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "not looked after" in problem(answer, 503, "worker_unavailable")["detail"]


def test_a_stop_ends_streams_refuses_work_and_gives_jobs_back_with_their_checkpoints(tmp_path):
    with stage(tmp_path) as first:
        job_id = first.submit("wait", **SMALL)
        waiting = first.submit("draw", **SMALL, not_before=4e9)
        first.until(job_id, "running")
        with first.http.stream("GET", f"/v1/jobs/{job_id}/stream") as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            first.app.begin_stop()
            for piece in pieces:
                text += piece
        assert "event: started" in text
        body = {"operation": "image.generate", "prompt": "draw", **SMALL}
        refused = first.http.post("/v1/jobs", json=body)
        problem(refused, 503, "stopping")
        assert refused.headers["retry-after"]
        problem(first.http.get("/ready"), 503, "stopping")
    assert address.read(tmp_path) is None
    with stage(tmp_path) as second:
        job = second.until(job_id, "running")
        assert [each["end"] for each in job["attempts"]] == ["server_stopped", None]
        assert second.theatre.actors[0].assigned[0].checkpoint == str(tmp_path / "checkpoints" / job_id / "1" / "1")
        assert second.job(waiting)["state"] == "queued"
        second.http.delete(f"/v1/jobs/{job_id}")
        second.until(job_id, "cancelled")


class Deaf(Actor):
    """Does not hear that it should end."""

    async def hear(self, message) -> bool:
        return False if isinstance(message, Shutdown) else await super().hear(message)


def test_a_second_signal_does_not_wait_for_workers(tmp_path):
    theatre = Theatre(Deaf)
    with stage(tmp_path, theatre=theatre) as here:
        job_id = here.submit("wait", **SMALL)
        here.until(job_id, "running")
        here.app.grace_s = 3600.0
        for _ in range(2):
            here.server.handle_exit(signal.SIGTERM, None)
    with stage(tmp_path) as again:
        assert [each["end"] for each in again.until(job_id, "running")["attempts"]] == ["server_stopped", None]
        again.http.delete(f"/v1/jobs/{job_id}")


def test_it_works_the_same_over_a_store_that_keeps_nothing(tmp_path):
    with stage(tmp_path, store=MemoryStore()) as here:
        job_id = here.submit("draw 4", **SMALL)
        assert here.done(job_id)["state"] == "succeeded"
        assert len(here.events(job_id)) == 8


def test_a_second_server_on_the_folder_says_where_the_first_is(tmp_path):
    with stage(tmp_path) as first, pytest.raises(Conflict) as refused, stage(tmp_path):
        pass
    assert first.url in refused.value.message and "safelight stop" in refused.value.hint
    with stage(tmp_path) as again:
        assert again.http.get("/health").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_listening_elsewhere_without_keys_is_refused(tmp_path, host):
    with pytest.raises(InvalidSettings, match=r"server\.host"):
        build(settings_of({"storage": {"home": str(tmp_path)}, "server": {"host": host}}))


def test_the_server_imports_no_torch():
    code = "import sys, safelight.server.app, safelight.server.serve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_elsewhere_cannot_stop_it_and_neither_can_a_guess(server):
    problem(server.http.post("/v1/shutdown"), 403, "not_allowed")
    problem(server.http.post("/v1/shutdown", headers={"Authorization": "Bearer guess"}), 403, "not_allowed")


def test_the_token_of_the_folder_stops_it_and_it_answers_first(tmp_path):
    with stage(tmp_path) as here:
        file = tmp_path / "server.json"
        token = json.loads(file.read_text())["token"]
        if sys.platform != "win32":
            assert file.stat().st_mode & 0o777 == 0o600
        answer = here.http.post("/v1/shutdown", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 202 and answer.json()["status"] == "stopping"
        deadline = time.monotonic() + 10
        while Path(file).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not file.exists()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{here.url}/health", timeout=2)
