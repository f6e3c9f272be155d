"""Files that are whole or not there, and texts that survive inside pictures."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from safelight import artifacts
from safelight.artifacts import Files, encode_picture, read_metadata
from safelight.core.media import MEDIA_TYPES, sniff
from safelight.errors import UnreadableFile

FORMATS = sorted(MEDIA_TYPES)

TEXTS = {
    "parameters": "a harbour at night, 夜の港 🌃, (näh)\nNegative prompt: fog\nSteps: 20, Sampler: Euler a, Seed: 7",
    "safelight": json.dumps({"prompt": 'she said "ü"\n\t\\', "seed": 2**64 - 1}, ensure_ascii=False),
    "workflow": '{"nodes": []}',
}


def picture(mode: str = "RGB", side: int = 24) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side)).convert(mode)


# ---- texts inside pictures


@pytest.mark.parametrize("format", FORMATS)
def test_texts_come_back(format: str, tmp_path: Path) -> None:
    data = encode_picture(picture(), format, 90, TEXTS)
    assert sniff(data[:16]) == MEDIA_TYPES[format]
    assert read_metadata(data) == TEXTS
    (tmp_path / "named.wrongly").write_bytes(data)
    assert read_metadata(tmp_path / "named.wrongly") == TEXTS


@pytest.mark.parametrize("format", FORMATS)
def test_no_texts(format: str) -> None:
    assert read_metadata(encode_picture(picture(), format, 90, {})) == {}


@pytest.mark.parametrize("format", FORMATS)
def test_long_texts_come_back(format: str) -> None:
    """A JPEG segment holds 64 KiB; a graph of ComfyUI is easily more."""
    long_graph = TEXTS | {"prompt": json.dumps({str(n): "ü" * 50 for n in range(3000)}, ensure_ascii=False)}
    assert read_metadata(encode_picture(picture(), format, 90, long_graph)) == long_graph
    long_prompt = {"parameters": "港" * 40_000}
    assert read_metadata(encode_picture(picture(), format, 90, long_prompt)) == long_prompt


PRINTABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffe"), min_size=1, max_size=60)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=25, deadline=None)
@given(parameters=PRINTABLE, safelight=PRINTABLE)
def test_any_text_comes_back(format: str, parameters: str, safelight: str) -> None:
    texts = {"parameters": parameters, "safelight": safelight}
    assert read_metadata(encode_picture(picture(side=8), format, 80, texts)) == texts


@pytest.mark.parametrize("format", ["png", "webp"])
def test_pixels_are_kept_where_the_format_can(format: str) -> None:
    pixels = picture("RGBA")
    pixels.putpixel((0, 0), (200, 100, 50, 0))
    with Image.open(BytesIO(encode_picture(pixels, format, 100, TEXTS))) as again:
        assert again.convert("RGBA").tobytes() == pixels.tobytes()


def test_jpeg_lays_transparency_on_white() -> None:
    with Image.open(BytesIO(encode_picture(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "jpeg", 95, {}))) as again:
        assert again.mode == "RGB"
        assert min(again.getpixel((4, 4))) > 250


def test_quality_matters() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    for format in ("jpeg", "webp", "avif"):
        assert len(encode_picture(noise, format, 30, {})) < len(encode_picture(noise, format, 95, {}))


def test_the_infotext_lies_where_a1111_looks(tmp_path: Path) -> None:
    """PNG chunk `parameters`; else EXIF UserComment: eight bytes "UNICODE", then UTF-16 big-endian."""
    (tmp_path / "a.png").write_bytes(encode_picture(picture(), "png", 90, TEXTS))
    with Image.open(tmp_path / "a.png") as png:
        assert png.info["parameters"] == TEXTS["parameters"]
    (tmp_path / "a.jpg").write_bytes(encode_picture(picture(), "jpeg", 90, TEXTS))
    with Image.open(tmp_path / "a.jpg") as jpeg:
        comment = jpeg.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + TEXTS["parameters"].encode("utf-16-be")


def foreign(**tags: object) -> bytes:
    exif = Image.Exif()
    for name, value in tags.items():
        if name == "comment":
            exif.get_ifd(0x8769)[0x9286] = value
        else:
            exif[{"make": 0x010F, "model": 0x0110, "description": 0x010E}[name]] = value
    file = BytesIO()
    picture().save(file, "WEBP", exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (foreign(make='workflow:{"a": 1}', model='prompt:{"b": 2}'), {"workflow": '{"a": 1}', "prompt": '{"b": 2}'}),
        (foreign(make="Canon", model="EOS: R5"), {}),
        (foreign(comment=b"ASCII\0\0\0steps 20"), {"parameters": "steps 20"}),
        (foreign(comment=b"UNICODE\0\xff\xfe" + "steps".encode("utf-16-le")), {"parameters": "steps"}),
        (foreign(description="a holiday"), {"description": "a holiday"}),
        (foreign(description="[1, 2]"), {"description": "[1, 2]"}),
        (foreign(description='{"n": 1}'), {"description": '{"n": 1}'}),
    ],
    ids=["comfy", "camera", "ascii", "little-endian", "words", "list", "no-texts"],
)
def test_texts_of_other_programs(data: bytes, texts: dict[str, str]) -> None:
    assert read_metadata(data) == texts


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40), b"RIFF\0\0\0\0WEBPVP8 "):
        with pytest.raises(UnreadableFile):
            read_metadata(data)
    with pytest.raises(UnreadableFile, match="absent"):
        read_metadata(tmp_path / "absent.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(format=st.sampled_from(FORMATS), at=st.floats(0, 1), damage=st.binary(min_size=0, max_size=12))
def test_damage_is_refused_or_read_but_never_worse(format: str, at: float, damage: bytes) -> None:
    whole = encode_picture(picture(side=8), format, 80, TEXTS)
    cut = int(at * len(whole))
    for data in (whole[:cut], whole[:cut] + damage + whole[cut + len(damage) :]):
        try:
            found = read_metadata(data)
        except UnreadableFile:
            continue
        assert all(isinstance(text, str) for text in found.values())


def test_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_METADATA_BYTES", 1000)
    data = encode_picture(picture(), "png", 90, {"a": "x" * 600, "b": "y" * 600})
    with pytest.raises(UnreadableFile, match="1200"):
        read_metadata(data)


def test_a_text_that_unpacks_to_more_than_it_should_is_refused() -> None:
    info, file = PngImagePlugin.PngInfo(), BytesIO()
    info.add_text("bomb", "x" * 20_000_000, zip=True)
    picture().save(file, "PNG", pnginfo=info)
    assert len(file.getvalue()) < 100_000
    with pytest.raises(UnreadableFile):
        read_metadata(file.getvalue())


# ---- files


def content(files: Files) -> dict[str, bytes]:
    return {sha256: files.path(sha256).read_bytes() for sha256, _ in files}


def test_put_and_path(tmp_path: Path) -> None:
    files = Files(tmp_path / "deep" / "artifacts")
    sha256 = files.put(b"one")
    assert sha256 == hashlib.sha256(b"one").hexdigest() == files.put(b"one")
    assert files.path(sha256).read_bytes() == b"one"
    files.put(b"two")
    assert sorted(content(files).values()) == [b"one", b"two"]
    for wrong in ("", "../../etc/passwd", "A" * 64, "a" * 63):
        with pytest.raises(ValueError, match="SHA-256"):
            files.path(wrong)


def test_adopt(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for _ in range(2):
        temporary = files.temporary(".mp4")
        temporary.write_bytes(b"video" * 1000)
        sha256 = files.adopt(temporary)
        assert not temporary.exists()
        assert content(files) == {sha256: b"video" * 1000}


def test_sweep_removes_what_a_crash_left_and_nothing_else(tmp_path: Path) -> None:
    files = Files(tmp_path / "none yet")
    assert files.sweep() == 0
    kept = files.put(b"kept")
    files.temporary().write_bytes(b"half a pict")
    files.temporary(".mp4").write_bytes(b"half a vid")
    assert files.sweep() == 2
    assert content(files) == {kept: b"kept"}
    assert [path.name for path in files.root.iterdir()] == [kept[:2]]


def test_sweep_brings_back_what_was_half_removed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    sha256 = files.put(b"kept")
    files.path(sha256).rename(tmp_path / f".{sha256}.aside")
    (tmp_path / ".notes.aside").write_bytes(b"another program's")
    assert files.sweep() == 0
    assert content(files) == {sha256: b"kept"}


def test_remove_spares_what_was_put_since(tmp_path: Path) -> None:
    files = Files(tmp_path)
    sha256 = files.put(b"12345")
    put_at = files.path(sha256).stat().st_mtime
    assert files.remove(sha256, put_before=put_at - 1) == 0
    assert content(files) == {sha256: b"12345"}
    os.utime(files.path(sha256), (put_at - 100, put_at - 100))
    files.put(b"12345")
    assert files.remove(sha256, put_before=put_at - 50) == 0
    assert files.remove(sha256, put_before=time.time() + 5) == 5
    assert content(files) == {}
    assert files.remove(sha256, put_before=time.time()) == 0


def test_what_was_put_stays_whoever_removes_meanwhile(tmp_path: Path) -> None:
    """One thread removes old files all the time while others put the same content: what `put` answered is there."""
    files = Files(tmp_path)
    sha256, stop = hashlib.sha256(b"x").hexdigest(), threading.Event()

    def remover() -> None:
        while not stop.is_set():
            files.remove(sha256, put_before=time.time() - 30)

    thread = threading.Thread(target=remover)
    thread.start()
    try:
        for _ in range(200):
            with contextlib.suppress(FileNotFoundError):
                os.utime(files.path(sha256), (0, 0))
            files.put(b"x")
            until = time.monotonic() + 5
            while not files.path(sha256).exists():  # moved aside, looked at, and brought back
                assert time.monotonic() < until
    finally:
        stop.set()
        thread.join()
    assert content(files) == {sha256: b"x"}


def test_what_other_programs_leave_in_the_folder_is_not_seen(tmp_path: Path) -> None:
    files = Files(tmp_path)
    sha256 = files.put(b"ours")
    there = files.path(sha256).parent
    for stray in ("Thumbs.db", ".DS_Store", "desktop.ini", f"{sha256}.bak", sha256.upper(), f"{sha256}\n"):
        (there / stray).write_bytes(b"stray")
    (there / (sha256[:2] + "0" * 62)).mkdir()
    (there / (sha256[:2] + "1" * 62)).symlink_to(files.path(sha256))
    elsewhere = tmp_path / ("00" if sha256[:2] != "00" else "01")
    elsewhere.mkdir()
    (elsewhere / sha256).write_bytes(b"in another's folder")
    assert [found for found, _ in files] == [sha256]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room that a file cut short takes would be missing at the next attempt."""
    files = Files(tmp_path)
    files.put(b"kept")
    before = set(tmp_path.rglob("*"))
    real = Path.write_bytes

    def cut_short(path: Path, data: bytes) -> int:
        real(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", cut_short)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            files.put(b"too much")
    assert set(tmp_path.rglob("*")) == before
    assert files.path(files.put(b"too much")).read_bytes() == b"too much"


LIMITED = """
import resource, signal, sys
from pathlib import Path
from safelight.artifacts import Files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Files(Path(sys.argv[1])).put(bytes(5000))
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Unix")
def test_a_file_that_the_system_cuts_short_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


WRITER = """
import os, sys
from pathlib import Path
from safelight.artifacts import Files
files = Files(Path(sys.argv[1]))
for n in range(10**9):
    os.write(1, (files.put(str(n).encode() * 20000) + "\\n").encode())
"""


def test_after_a_kill_every_file_is_whole_and_every_answered_one_is_there(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for answers in (1, 3, 10):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = b"".join(process.stdout.readline() for _ in range(answers))
            process.kill()
            said += process.stdout.read()
        files.sweep()
        there = content(files)
        assert {line.decode() for line in said.split()} <= there.keys()
        assert all(hashlib.sha256(data).hexdigest() == sha256 for sha256, data in there.items())
