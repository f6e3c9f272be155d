"""Models brought into memory and let go by hand, on a running server; folders and files it sees without a new start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.builders.stable_diffusion import (
    single_file_metadata,
    single_file_tensors,
    tiny_stable_diffusion,
    write_single_file,
)
from transformers import CLIPTextConfig, CLIPTextModel

from safelight.core.names import attribute
from safelight.engine.openjob import Order
from safelight.workflows.context import Context

from .real_server import RealServer
from .studio import Studio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """With three tiny models, computing in fp32."""
    home = tmp_path_factory.mktemp("by-hand") / "home"
    (home / "models" / "nested").mkdir(parents=True)
    torch.manual_seed(0)
    tiny = tiny_stable_diffusion()
    for name in ("tiny", "other", "nested/deep"):
        metadata = single_file_metadata(tiny)
        save_file(single_file_tensors(tiny), home / "models" / f"{name}.safetensors", metadata)
    with RealServer(home, **{"devices.dtype": "fp32"}) as running:
        yield running


def done(server: RealServer, operation: str, **fields: Any) -> dict[str, Any]:
    """The result of an operation that succeeds."""
    answer = server.http.post("/v1/jobs", json={"operation": operation, **fields})
    assert answer.status_code == 202, answer.text
    record = server.finished(answer.json()["id"])
    assert record["state"] == "succeeded", record
    return {**record["result"], "id": record["id"]}


def refused(server: RealServer, operation: str, **fields: Any) -> dict[str, Any]:
    """What is wrong with an operation that is refused at submission."""
    answer = server.http.post("/v1/jobs", json={"operation": operation, **fields})
    assert answer.status_code == 422, answer.text
    return dict(answer.json()["errors"][0])


def held(server: RealServer) -> list[str]:
    """The weights keys that the worker says it holds, once its next heartbeat has told."""
    pid, before = server.worker_pid(), None
    for _ in range(200):
        [worker] = server.http.get("/v1/system").json()["workers"]
        assert worker["pid"] == pid
        if worker["holds"] == before:
            return list(worker["holds"])
        before = worker["holds"]
        time.sleep(0.6)
    raise AssertionError("the worker's holds never came to rest")


def test_what_was_loaded_is_there_for_the_next_job(server: RealServer) -> None:
    result = done(server, "model.load", model="tiny")
    assert [each["component"] for each in result["components"]] == ["network", "text", "vae"]
    assert all(each["loaded"] and each["bytes"] > 0 for each in result["components"])
    assert result["bytes"] == sum(each["bytes"] for each in result["components"])
    assert (result["dtype"], result["device"]) == ("fp32", "cpu")
    again = done(server, "model.load", model="tiny", role="denoise")
    assert [(each["component"], each["loaded"]) for each in again["components"]] == [("network", False)]
    job = server.submit(model="tiny", steps=1)
    assert server.finished(job)["state"] == "succeeded"
    assert [event for event in server.events(job) if event["kind"] == "loading"] == []
    assert len(held(server)) == 1
    [view] = [each for each in server.http.get("/v1/models").json()["data"] if each["id"] == "tiny"]
    assert view["loaded_on"] == ["worker-1"] and set(view["stored"]) == {"F32", "I64"}
    shown = shell(server, "models", "show", "tiny").stdout
    assert "loaded_on" in shown and "F32 " in shown and "MiB, I64 616 B" in shown, "bytes of each kind"


def test_a_loading_is_told_in_bytes_while_it_goes_on(server: RealServer) -> None:
    """A text encoder of about 300 MB, most of it in two layers of absurd width."""
    tiny = tiny_stable_diffusion()
    config = CLIPTextConfig(**{**tiny.text.config.to_dict(), "intermediate_size": 600_000})
    wide = replace(tiny, text=CLIPTextModel(config))
    file = server.home / "models" / "wide.safetensors"
    save_file(single_file_tensors(wide), file, single_file_metadata(wide))
    del wide
    try:
        result = done(server, "model.load", model="wide")
    finally:
        file.unlink()
    told = [event["data"] for event in server.events(result["id"]) if event["kind"] == "loading"]
    for component, size in ((each["component"], each["bytes"]) for each in result["components"]):
        mine = [each["bytes_done"] for each in told if each["component"] == f"wide/{component}"]
        assert [mine[0], mine[-1]] == [0, size]
        assert mine == sorted(set(mine)), "it only grows"
        assert {each["bytes_total"] for each in told if each["component"] == f"wide/{component}"} == {size}
        if component == "text":
            assert size > 300_000_000 and len(mine) >= 5
    done(server, "model.unload", model=None)


@pytest.mark.parametrize("form", ["file", "without its ending", "index"])
def test_a_path_inside_a_model_folder_names_a_model(server: RealServer, form: str) -> None:
    models = server.home / "models"
    name = {"file": str(models / "nested" / "deep.safetensors"), "without its ending": "nested/deep",
            "index": str(models / "nested" / ".." / "nested" / "deep.safetensors")}[form]  # fmt: skip
    assert done(server, "model.load", model=name, role="vae")["model"] == "deep"


def test_what_cannot_be_loaded_is_refused_with_the_way_out(server: RealServer) -> None:
    server.worker_pid()  # before it is ready its device is not known
    unknown = refused(server, "model.load", model="tyni")
    assert unknown["path"] == "model" and "'tiny'" in unknown["hint"]
    for path in ("/etc/passwd", str(server.home / "models" / ".." / "safelight.db"), "/nowhere/at/all.safetensors"):
        outside = refused(server, "model.load", model=path)
        assert "outside the model folders" in outside["message"] and "add-folder" in outside["hint"]
    device = refused(server, "model.load", model="tiny", device="cuda:7")
    assert device["path"] == "device" and "cpu" in device["hint"]
    both = refused(server, "model.load", model="tiny", device="cpu", worker="worker-1")
    assert both["path"] == "device"
    assert refused(server, "model.unload", model="tyni")["path"] == "model"
    record = server.finished(
        server.http.post("/v1/jobs", json={"operation": "model.load", "model": "tiny", "dtype": "bf16"}).json()["id"]
    )
    assert record["state"] == "failed" and "fp32" in record["failure"]["message"]
    assert "devices.dtype" in record["failure"]["hint"]
    assert done(server, "model.load", model="tiny", device="cpu", dtype="fp32")["dtype"] == "fp32"


def test_unloading(server: RealServer) -> None:
    done(server, "model.load", model="tiny", pinned=True)
    done(server, "model.load", model="other")
    idle = done(server, "model.unload")
    assert {"other/network", "other/text", "other/vae"} <= set(idle["unloaded"]) and idle["bytes_freed"] > 0
    assert idle["kept"] == [{"name": f"tiny/{part}", "reason": "pinned"} for part in ("network", "text", "vae")]
    assert len(held(server)) == 1
    named = done(server, "model.unload", model="tiny")
    assert sorted(named["unloaded"]) == ["tiny/network", "tiny/text", "tiny/vae"] and named["kept"] == []
    assert held(server) == []
    nothing = done(server, "model.unload")
    assert (nothing["unloaded"], nothing["kept"], nothing["bytes_freed"]) == ([], [], 0)
    job = server.submit(model="tiny", steps=1)
    assert server.finished(job)["state"] == "succeeded", "the next request loads again"


def test_a_pinned_model_can_be_let_go_of_though_its_file_changed_or_went(server: RealServer) -> None:
    file = server.home / "models" / "passing.safetensors"
    parts = ["passing/network", "passing/text", "passing/vae"]
    shutil.copyfile(server.home / "models" / "tiny.safetensors", file)
    for change in (lambda: os.utime(file, (1, 1)), file.unlink):
        done(server, "model.load", model="passing", pinned=True)
        change()
        gone = done(server, "model.unload", model="passing")
        assert sorted(gone["unloaded"]) == parts and gone["kept"] == []
    assert refused(server, "model.load", model="passing")["path"] == "model"
    assert refused(server, "model.unload", model="pasing")["path"] == "model"


def test_what_a_job_is_using_stays_and_the_result_says_so(server: RealServer) -> None:
    job = server.submit(model="tiny", steps=150, width=256, height=256)
    server.wait_for_step(job, 2)
    result = done(server, "model.unload", model="tiny")
    assert {"name": "tiny/network", "reason": "in use"} in result["kept"]
    warnings = [event["data"]["message"] for event in server.events(result["id"]) if event["kind"] == "warning"]
    assert any("tiny/network stays" in each for each in warnings)
    assert server.finished(job)["state"] == "succeeded"


def by_hand(studio: Studio, job: str, operation: str, **fields: Any) -> dict[str, Any]:
    """The result of an operation on a loop without a server."""
    spec = studio.contract.spec(operation)
    request = studio.contract.parse({"operation": operation, **fields})
    resolved = attribute(spec.resolve)(request, Context(studio.catalog, studio.tables))
    order = Order(job, 1, attribute(spec.recipe)(resolved), job, studio.folder / "checkpoints" / job)
    studio.loop.open(order)
    studio.finish()
    return dict(studio.told.results[job, 1])


def test_what_is_pinned_is_never_evicted_and_what_is_not_makes_room(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two", "three")):
        write_single_file(
            tiny_stable_diffusion(seed=seed, real_words=True), tmp_path / "models" / f"{name}.safetensors"
        )
    alone = Studio(tmp_path / "alone", models=tmp_path / "models")
    whole = by_hand(alone, "load", "model.load", model="one")["bytes"]
    alone.loop.stop()
    studio = Studio(tmp_path / "tight", models=tmp_path / "models", memory_gib=2.2 * whole / 2**30)
    pinned = by_hand(studio, "pin", "model.load", model="one", pinned=True)
    for name in ("two", "three", "two", "three"):
        drawn = f"{name}-{len(studio.told.results)}"
        studio.draw(drawn, model=name, prompt=drawn, width=64, height=64, steps=1)  # its words were never encoded
    again = by_hand(studio, "again", "model.load", model="one")
    assert [each["loaded"] for each in again["components"]] == [False] * 3, "it was there all the time"
    assert again["bytes"] == pinned["bytes"]
    for name in ("two", "three"):
        drawn = f"{name}-{len(studio.told.results)}"
        studio.draw(drawn, model=name, prompt=drawn, width=64, height=64, steps=1)  # its words were never encoded
    last = by_hand(studio, "last", "model.load", model="one", pinned=True)
    assert any(each["loaded"] for each in last["components"]), "loading it without a pin took the pin off"
    studio.loop.stop()


def shell(server: RealServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command beside the running server."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SAFELIGHT_")}
    environ |= {"SAFELIGHT_HOME": str(server.home), "SAFELIGHT_ENV": "production"}
    command = [sys.executable, "-c", "from safelight.cli.main import main; main()", *arguments]
    return subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=120)


def test_the_commands_load_and_unload(server: RealServer) -> None:
    loaded = shell(server, "models", "load", "tiny", "--pinned")
    assert loaded.returncode == 0 and "tiny is in memory and stays there" in loaded.stdout, loaded.stderr
    kept = json.loads(shell(server, "models", "unload", "--json").stdout)["result"]["kept"]
    assert {each["reason"] for each in kept} == {"pinned"}
    gone = shell(server, "models", "unload", "tiny")
    assert gone.returncode == 0 and "Unloaded tiny/network." in gone.stdout
    wrong = shell(server, "models", "load", "tyni")
    assert wrong.returncode == 2 and "'tiny'" in wrong.stderr


def names(server: RealServer) -> set[str]:
    """The models that can be asked for."""
    return {each["id"] for each in server.http.get("/v1/models").json()["data"]}


def test_a_folder_that_is_added_is_seen_at_once(server: RealServer) -> None:
    """A tree as ComfyUI lays it out; then a file put into it later, and the folder taken out of the file again."""
    tree = server.home.parent / "ComfyUI" / "models"
    for folder in ("checkpoints", "loras", "vae"):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(server.home / "models" / "tiny.safetensors", tree / "checkpoints" / "from-comfy.safetensors")
    before = server.worker_pid()
    assert "from-comfy" not in names(server)
    said = json.loads(shell(server, "models", "add-folder", str(tree.parent), "--json").stdout)
    assert (said["kind"], said["found"]["checkpoint"]) == ("ComfyUI", 1)
    assert "from-comfy" in names(server)
    assert done(server, "model.load", model="from-comfy", role="vae")["model"] == "from-comfy"
    shutil.copyfile(server.home / "models" / "tiny.safetensors", tree / "checkpoints" / "later.safetensors")
    assert "later" in names(server)
    (server.home / "safelight.toml").write_text("[models]\nfolders = 7\n")
    assert "later" in names(server), "a file that says something wrong changes nothing"
    (server.home / "safelight.toml").unlink()
    assert "later" not in names(server)
    assert server.worker_pid() == before


def test_an_import_is_seen_at_once(server: RealServer) -> None:
    file = server.home / "models" / "tiny.safetensors"
    assert shell(server, "models", "import", str(file), "--name", "brought").returncode == 0
    assert done(server, "model.load", model="brought", role="vae")["model"] == "brought"
