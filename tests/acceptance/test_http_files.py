"""Artifacts and uploads over HTTP: ranges, validators, thumbnails, metadata, and what is refused."""

from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image
from tests.unit.server.staging import base64_png, png, problem, stage

from safelight.artifacts import Files


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stage(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def artifact(server):
    job = server.done(server.submit("draw", width=320, height=192, seed=7))
    return job["artifacts"][0]


def test_an_artifact_is_sent_whole_with_a_strong_validator(server, artifact):
    answer = server.http.get(artifact["url"])
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
    assert answer.headers["etag"] == f'"{artifact["sha256"]}"' and "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert Image.open(io.BytesIO(answer.content)).size == (320, 192)
    head = server.http.head(artifact["url"])
    assert head.content == b"" and head.headers["content-length"] == str(len(answer.content))


def test_who_has_it_gets_nothing_again(server, artifact):
    etag = server.http.get(artifact["url"]).headers["etag"]
    assert server.http.get(artifact["url"], headers={"If-None-Match": f'"x", {etag}'}).status_code == 304
    assert server.http.get(artifact["url"], headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-9", 0, 9), ("bytes=10-", 10, None), ("bytes=-5", -5, None), ("bytes=3-999999", 3, None)],
)
def test_a_range_is_sent(server, artifact, asked, first, last):
    whole = server.http.get(artifact["url"]).content
    answer = server.http.get(artifact["url"], headers={"Range": asked})
    expected = whole[first : None if last is None else last + 1]
    assert answer.status_code == 206 and answer.content == expected
    start = len(whole) + first if first < 0 else first
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=5-1", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "bytes=a-b"])
def test_what_is_no_single_range_gets_the_whole(server, artifact, asked):
    answer = server.http.get(artifact["url"], headers={"Range": asked})
    assert answer.status_code == 200 and len(answer.content) == artifact["bytes"]


def test_a_range_outside_of_the_file_is_refused(server, artifact):
    answer = server.http.get(artifact["url"], headers={"Range": f"bytes={artifact['bytes']}-"})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{artifact['bytes']}"


def test_a_range_of_another_version_gets_the_whole(server, artifact):
    answer = server.http.get(artifact["url"], headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert answer.status_code == 200


def test_a_thumbnail_is_small_and_made_once(server, artifact):
    answer = server.http.get(artifact["thumbnail_url"], params={"side": 64})
    assert answer.headers["content-type"] == "image/webp"
    assert max(Image.open(io.BytesIO(answer.content)).size) == 64
    made = list((server.app.settings.storage.home / "thumbnails").rglob("*.webp"))
    before = {each: each.stat().st_mtime_ns for each in made}
    assert server.http.get(artifact["thumbnail_url"], params={"side": 64}).content == answer.content
    assert {each: each.stat().st_mtime_ns for each in made} == before
    problem(server.http.get(artifact["thumbnail_url"], params={"side": 5000}), 422, "invalid_request")


def test_metadata_says_what_made_it(server, artifact):
    answer = server.http.get(f"{artifact['url']}/metadata").json()
    assert answer["artifact"] == artifact and answer["operation"] == "image.generate"
    assert answer["resolved"]["seed"] == 7 and answer["request"]["prompt"] == "draw"


def test_artifacts_are_listed_in_pages(server):
    made = server.done(server.submit("draw", width=64, height=64, batch_size=3))["artifacts"]
    page = server.http.get("/v1/artifacts", params={"limit": 2}).json()
    assert [each["id"] for each in page["artifacts"]] == [made[2]["id"], made[1]["id"]]
    rest = server.http.get("/v1/artifacts", params={"limit": 200, "before": page["next"]}).json()
    assert rest["artifacts"][0]["id"] == made[0]["id"] and rest["next"] is None


def test_what_is_not_there_is_not_found(server, artifact):
    for path in ("/v1/artifacts/nothing", "/v1/artifacts/nothing/thumbnail", "/v1/artifacts/nothing/metadata"):
        problem(server.http.get(path), 404, "not_found")
    problem(server.http.get("/v1/artifacts", params={"before": "nothing"}), 404, "not_found")


def test_an_artifact_whose_file_is_gone_says_so(server):
    made = server.done(server.submit("draw", width=72, height=64))["artifacts"][0]
    server.app.services.artifact_file(made["sha256"]).unlink()
    assert "gone" in problem(server.http.get(made["url"]), 404, "not_found")["detail"]
    problem(server.http.get(made["thumbnail_url"]), 404, "not_found")


def test_an_upload_is_named_by_its_content_and_serves_a_request(server):
    data = png(200, 100)
    raw = server.http.post("/v1/uploads", content=data, headers={"Content-Type": "image/png"})
    assert raw.status_code == 201
    assert raw.json() == {"id": hashlib.sha256(data).hexdigest(), "media_type": "image/png", "bytes": len(data),
                          "width": 200, "height": 100}  # fmt: skip
    form = server.http.post("/v1/uploads", files={"file": ("x.png", data, "text/html")})
    assert form.status_code == 201 and form.json() == raw.json()
    fields = {"operation": "image.inpaint", "prompt": "draw", "width": 64, "height": 64}
    job = server.http.post("/v1/jobs", json={**fields, "image": form.json()["id"], "mask": base64_png()}).json()
    record = server.done(job["id"])
    assert record["state"] == "succeeded"
    assert record["resolved"]["image"]["sha256"] == form.json()["id"] and record["resolved"]["image"]["width"] == 200
    assert len(record["request"]["mask"]) == 64


def test_an_upload_whose_file_is_gone_is_asked_for_again(server):
    data = png(color="plum")
    kept = server.http.post("/v1/uploads", content=data, headers={"Content-Type": "image/png"}).json()
    body = {"operation": "image.transform", "prompt": "draw", "image": kept["id"], "width": 64, "height": 64}
    Files(server.app.settings.storage.home / "uploads").path(kept["id"]).unlink()
    [fault] = problem(server.http.post("/v1/jobs", json=body), 422, "invalid_request")["errors"]
    assert fault["path"] == "image" and "is gone" in fault["message"] and "send the picture again" in fault["hint"]
    assert server.http.post("/v1/uploads", content=data, headers={"Content-Type": "image/png"}).status_code == 201
    assert server.http.post("/v1/jobs", json=body).status_code == 202


def test_an_artifact_can_be_the_picture_of_the_next_job(server, artifact):
    body = {"operation": "image.transform", "prompt": "draw", "image": artifact["id"], "width": 64, "height": 64}
    record = server.done(server.http.post("/v1/jobs", json=body).json()["id"])
    assert record["resolved"]["image"]["sha256"] == artifact["sha256"]
    assert record["request"]["image"] == artifact["id"]


def test_a_picture_with_a_data_prefix_is_taken(server):
    image = "data:image/png;base64," + base64_png()
    body = {"operation": "image.transform", "prompt": "draw", "image": image, "width": 64, "height": 64}
    assert server.done(server.http.post("/v1/jobs", json=body).json()["id"])["state"] == "succeeded"


@pytest.mark.parametrize("data", [b"", b"no picture at all", png()[:60], b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_no_whole_picture_is_refused_and_leaves_nothing(server, data):
    root = server.app.settings.storage.home / "artifacts"
    answer = server.http.post("/v1/uploads", content=data, headers={"Content-Type": "image/png"})
    problem(answer, 422, "unreadable_file")
    assert [each for each in root.iterdir() if each.name.startswith(".")] == []


def test_an_upload_of_another_kind_or_form_is_refused(server):
    answer = server.http.post("/v1/uploads", content=b"x", headers={"Content-Type": "text/html"})
    problem(answer, 415, "unsupported_media_type")
    two = [("file", ("a.png", png())), ("file", ("b.png", png()))]
    assert problem(server.http.post("/v1/uploads", files=two), 422, "invalid_request")["errors"]
    nothing = server.http.post("/v1/uploads", files={"text": (None, "hello")})
    assert "0 files" in problem(nothing, 422, "invalid_request")["errors"][0]["message"]
    broken = {"Content-Type": "multipart/form-data"}
    problem(server.http.post("/v1/uploads", content=b"xx", headers=broken), 422, "invalid_request")


def test_a_body_over_the_bound_is_refused_before_it_is_read(server):
    declared = server.http.post("/v1/uploads", content=bytes(34 << 20), headers={"Content-Type": "image/png"})
    problem(declared, 413, "too_large")

    def pieces():
        for _ in range(34):
            yield bytes(1 << 20)

    streamed = server.http.post("/v1/uploads", content=pieces(), headers={"Content-Type": "image/png"})
    problem(streamed, 413, "too_large")


def test_a_job_body_over_its_bound_is_refused(tmp_path):
    with stage(tmp_path, server={"max_body_mib": 1}) as small:
        body = {"operation": "image.generate", "prompt": "x" * (2 << 20)}
        problem(small.http.post("/v1/jobs", json=body), 413, "too_large")
        headers = {"Content-Type": "application/json"}
        pieces = (b"[" + b" " * (1 << 19) for _ in range(4))
        problem(small.http.post("/v1/jobs", content=pieces, headers=headers), 413, "too_large")
        assert small.http.get("/health").status_code == 200


# ---- searching, favourites, the bin


@pytest.fixture(scope="module")
def gallery(server):
    """Three jobs' artifacts, oldest first: two of the group `hills`, one with another seed."""
    fields = [
        {"prompt": "draw 1 Red HILLS", "seed": 2**64 - 1, "group": "hills", "tags": ["gallery", "old"]},
        {"prompt": "draw 1 red boats", "seed": 11, "tags": ["gallery"]},
        {"prompt": "draw 1 blue hills", "seed": 11, "group": "hills", "tags": ["gallery"]},
    ]
    jobs = [server.done(server.submit(width=64, height=64, **each)) for each in fields]
    return [job["artifacts"][0] for job in jobs]


def ids(server, **search) -> list[str]:
    answer = server.http.get("/v1/artifacts", params={"tag": "gallery", **search})
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["artifacts"]]


def test_artifacts_are_searched(server, gallery):
    first, second, third = [each["id"] for each in gallery]
    for search, expected in [
        ({}, [third, second, first]), ({"prompt": "hills red"}, [first]), ({"prompt": "HILL"}, [third, first]),
        ({"seed": 2**64 - 1}, [first]), ({"seed": 11, "group": "hills"}, [third]), ({"tag": "old"}, [first]),
        ({"model": "Postcards"}, [third, second, first]), ({"model": "other"}, []),
        ({"since": gallery[1]["created_at"]}, [third, second]), ({"until": gallery[1]["created_at"]}, [first]),
    ]:  # fmt: skip
        assert ids(server, **search) == expected, search


def test_a_search_has_pages(server, gallery):
    page = server.http.get("/v1/artifacts", params={"tag": "gallery", "prompt": "red", "limit": 1}).json()
    assert [each["id"] for each in page["artifacts"]] == [gallery[1]["id"]]
    assert ids(server, prompt="red", limit=1, before=page["next"]) == [gallery[0]["id"]]


def test_a_search_that_cannot_be_is_refused(server):
    found = problem(server.http.get("/v1/artifacts", params={"promt": "x", "seed": -1}), 422, "invalid_request")
    assert {each["path"] for each in found["errors"]} == {"promt", "seed"}
    problem(server.http.get("/v1/artifacts", params={"before": "nobody"}), 404, "not_found")


def test_a_favourite(server, gallery):
    url = gallery[1]["url"]
    assert server.http.patch(url, json={"favourite": True}).json()["favourite"] is True
    assert ids(server, favourite=True) == [gallery[1]["id"]]
    assert server.job(gallery[1]["job_id"])["artifacts"][0]["favourite"]
    assert server.http.patch(url, json={"favourite": False}).json()["favourite"] is False
    assert ids(server, favourite=True) == []
    problem(server.http.patch(url, json={}), 422, "invalid_request")
    problem(server.http.patch("/v1/artifacts/nobody", json={"favourite": True}), 404, "not_found")


def test_the_bin_and_back(server, gallery):
    first, second, third = [each["id"] for each in gallery]
    binned = server.http.delete(gallery[1]["url"]).json()
    assert binned["binned_at"] > 1e9
    assert (ids(server), ids(server, bin=True)) == ([third, first], [second])
    job = server.job(gallery[1]["job_id"])
    assert (job["artifacts"], [each["id"] for each in job["binned"]]) == ([], [second])
    assert server.http.get(gallery[1]["url"]).status_code == 200
    restored = server.http.post(f"{gallery[1]['url']}/restore").json()
    assert restored == gallery[1]
    assert (ids(server), ids(server, bin=True)) == ([third, second, first], [])
    assert server.job(gallery[1]["job_id"])["binned"] == []
    problem(server.http.delete("/v1/artifacts/nobody"), 404, "not_found")
    problem(server.http.post("/v1/artifacts/nobody/restore"), 404, "not_found")
