"""`safelight reproduce`: real commands against a real server, from files alone."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.artifacts import MADE, REQUEST, encode_picture, read_metadata

from .real_server import RealServer

QUICK: dict[str, Any] = {"steps": 3, "seed": 5, "sampler": "euler_ancestral"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with RealServer(tmp_path_factory.mktemp("reproduce") / "home", **{"devices.dtype": "fp32"}) as running:
        yield running


def reproduce(server: RealServer, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    environ = os.environ | {"SAFELIGHT_URL": str(server.http.base_url), "SAFELIGHT_HOME": str(server.home)}
    command = [sys.executable, "-c", "from safelight.cli.main import main; main()", "reproduce", *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def drawn(server: RealServer, folder: Path, name: str = "made.png", index: int = 0, **body: Any) -> Path:
    path = folder / name
    path.write_bytes(server.file(server.submit({**QUICK, **body}), index))
    return path


def upload(server: RealServer, data: bytes) -> str:
    answer = server.http.post("/v1/uploads", content=data, headers={"Content-Type": "image/png"})
    return str(answer.json()["id"])


def rewritten(source: Path, target: Path, **texts: str) -> Path:
    """The same pixels with other texts inside."""
    with Image.open(source) as picture:
        target.write_bytes(encode_picture(picture, "png", 92, {**read_metadata(source), **texts}))
    return target


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.png", {}),
        ("a.webp", {"format": "webp", "quality": 60}),
        ("a.jpg", {"format": "jpeg", "quality": 70}),
        ("a.avif", {"format": "avif", "quality": 70}),
    ],
)
def test_a_deterministic_picture_comes_out_the_same(server, tmp_path, name, output) -> None:
    loras = [{"name": "snowman", "strength": 0.8}, {"name": "sepia", "strength": 0.5, "text_strength": 0.2}]
    body = {"deterministic": True, "batch_size": 2, "loras": loras, "output": output}
    file = drawn(server, tmp_path, name, 1, **body)
    code, out, err = reproduce(server, file, "-o", tmp_path / f"again-{name}", "--json")
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert said["reproduced"] and said["identical"] and said["promised"] == "identical" and said["plan"] == []
    assert np.array_equal(Image.open(tmp_path / f"again-{name}"), Image.open(file))


def test_any_other_is_promised_40_dB(server, tmp_path) -> None:
    code, out, _ = reproduce(server, drawn(server, tmp_path), "--json")
    said = json.loads(out)
    assert code == 0 and said["promised"] == "alike" and (said["identical"] or said["psnr"] >= 40)


def test_a_picture_from_a_picture_finds_it_in_the_data_folder_or_takes_it(server, tmp_path) -> None:
    first = drawn(server, tmp_path, "first.png")
    image = upload(server, first.read_bytes())
    mask = io.BytesIO()
    Image.new("L", (64, 64), 255).save(mask, "PNG")
    masked = upload(server, mask.getvalue())
    body = {"operation": "image.inpaint", "image": image, "mask": masked, "deterministic": True}
    made = drawn(server, tmp_path, "inpainted.png", **body)
    assert reproduce(server, made)[:2] == (0, "The same, byte for byte.\n")
    kept = server.home / "uploads" / image[:2] / image
    aside = kept.rename(tmp_path / "kept")
    lost = json.loads(read_metadata(made)[REQUEST])
    lost["image"]["id"] = lost["image"]["sha256"] = "0" * 64
    code, _, err = reproduce(server, rewritten(made, tmp_path / "lost.png", **{REQUEST: json.dumps(lost)}))
    assert code == 2 and "image: the picture it was made from is not kept here" in err and "--image FILE" in err
    code, _, err = reproduce(server, made, "--image", made)
    assert code == 2 and "image: inpainted.png has the SHA-256" in err
    assert reproduce(server, made, "--image", aside)[0] == 0


def test_what_keeps_it_from_being_made_again_is_said_by_name(server, tmp_path) -> None:
    made = drawn(server, tmp_path, loras=[{"name": "sepia"}])
    request = json.loads(read_metadata(made)[REQUEST])

    def refused(**changed: Any) -> str:
        file = rewritten(made, tmp_path / "other.png", **{REQUEST: json.dumps(request | changed)})
        code, out, err = reproduce(server, file)
        assert (code, out) == (2, "")
        return err

    assert "there is no model 'gone'" in refused(model={**request["model"], "name": "gone"})
    assert "model.header_hash was 'other'" in refused(model={**request["model"], "header_hash": "other"})
    lora = request["loras"][0]
    assert "there is no LoRA 'seppia'" in refused(loras=[{**lora, "file": {**lora["file"], "name": "seppia"}}])
    stripped = tmp_path / "stripped.png"
    Image.open(made).save(stripped)
    assert reproduce(server, stripped)[0] == 2 and "tells nothing of how it was made" in reproduce(server, stripped)[2]
    text = tmp_path / "text.png"
    text.write_text("no picture")
    code, _, err = reproduce(server, text)
    assert code == 2 and "is no picture" in err


def test_a_picture_that_was_touched_is_told_apart(server, tmp_path) -> None:
    made = drawn(server, tmp_path, deterministic=True)
    with Image.open(made) as picture:
        touched = picture.copy()
    value = touched.getpixel((10, 10))
    touched.putpixel((10, 10), (value[0] ^ 1, *value[1:]))
    file = tmp_path / "touched.png"
    file.write_bytes(encode_picture(touched, "png", 92, read_metadata(made)))
    code, out, _ = reproduce(server, file)
    assert code == 1 and out.startswith("Not the same: ") and "by at most 1 of 255; promised: the same bytes" in out
    other = tmp_path / "cropped.png"
    other.write_bytes(encode_picture(touched.crop((0, 0, 32, 32)), "png", 92, read_metadata(made)))
    code, _, err = reproduce(server, other)
    assert code == 2 and "cropped.png was changed since it was made: 32x32" in err


def test_another_plan_is_told_by_name_and_promises_40_dB(server, tmp_path) -> None:
    made = drawn(server, tmp_path, deterministic=True)
    told = json.loads(read_metadata(made)[MADE])
    told["plan"] |= {"torch": "1.0", "threads": 64}
    code, out, _ = reproduce(server, rewritten(made, tmp_path / "older.png", **{MADE: json.dumps(told)}), "--json")
    said = json.loads(out)
    assert code == 0 and said["promised"] == "alike"
    assert [each.split(" was ")[0] for each in said["plan"]] == ["torch", "threads"]
    assert said["settings"] == ["devices.threads=64"]


def test_where_it_does_not_come_out_the_way_to_it_is_told(server, tmp_path) -> None:
    other = drawn(server, tmp_path, "other.png", deterministic=True, seed=6)
    texts = read_metadata(drawn(server, tmp_path, deterministic=True))
    told = json.loads(texts[MADE])
    told["plan"] |= {"dtype": "bf16"}
    file = rewritten(other, tmp_path / "bf16.png", **{REQUEST: texts[REQUEST], MADE: json.dumps(told)})
    code, out, _ = reproduce(server, file)
    assert code == 1 and "promised: at least 40 dB." in out
    assert "Computed otherwise: dtype was bf16, here it is fp32." in out
    assert "A server with --set devices.dtype=bf16 computes more alike." in out
