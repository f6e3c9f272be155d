"""The files process: what may come in comes in, what may not is refused in words, and no picture harms the server."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import struct
import subprocess
import sys
import zlib

import psutil
import pytest
from PIL import Image

from safelight.errors import UnreadableFile
from safelight.workers.files import FilesPool
from safelight.workers.messages import PictureFacts


@pytest.fixture
def ask():
    """Asks one pool many things, by method's name and arguments: the answers, or the errors that came instead."""

    def ask(*requests, pool=None):
        async def scenario():
            files = pool or FilesPool()
            try:
                asked = [getattr(files, method)(*arguments) for method, *arguments in requests]
                return await asyncio.gather(*asked, return_exceptions=True)
            finally:
                await files.close()

        return asyncio.run(scenario())

    return ask


def noise(width, height, mode="RGB"):
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), random.Random(1).randbytes(width * height * channels))


def encoded(image, format_, **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG that says its size and has nothing behind it: bombs say a lot in few bytes."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (body, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("format_", "mode", "media_type"),
    [
        ("PNG", "RGBA", "image/png"),
        ("PNG", "L", "image/png"),
        ("JPEG", "RGB", "image/jpeg"),
        ("WEBP", "RGB", "image/webp"),
        ("AVIF", "RGB", "image/avif"),
    ],
)
def test_pictures_are_known_by_content_whatever_their_name(ask, tmp_path, format_, mode, media_type):
    path = tmp_path / "picture.txt"
    before = encoded(noise(40, 30, mode), format_)
    path.write_bytes(before)
    assert ask(("inspect", path)) == [PictureFacts(media_type=media_type, width=40, height=30, frames=1)]
    assert path.read_bytes() == before, "nothing is stripped"


def test_an_animation_has_frames_and_all_of_them_are_decoded(ask, tmp_path):
    frames = [noise(64, 64), noise(64, 64).rotate(90), noise(64, 64).rotate(180)]
    whole = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    (tmp_path / "whole.webp").write_bytes(whole)
    # The first frame is whole, the last one lacks its end; the sizes in the headers agree with what is left.
    (tmp_path / "cut.webp").write_bytes(whole[: len(whole) - 4000])
    facts, cut = ask(("inspect", tmp_path / "whole.webp"), ("inspect", tmp_path / "cut.webp"))
    assert facts == PictureFacts(media_type="image/webp", width=64, height=64, frames=3)
    assert isinstance(cut, UnreadableFile)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.png", b"I am a picture, believe me", "is no picture: it begins with b'I am a pictu'"),
        ("empty.png", b"", "is no picture: it begins with b''"),
        ("page.png", b"<svg onload=alert(1)>", "is no picture"),
        ("old.gif", encoded(noise(4, 4), "GIF"), "is no picture"),
        ("broken.png", encoded(noise(50, 50), "PNG")[:60] + b"\0" * 3000, "begins like image/png but is broken"),
        ("flipped.png", encoded(noise(50, 50), "PNG").replace(b"IDAT", b"IDAX"), "begins like image/png but is broken"),
        ("cut.jpg", encoded(noise(200, 200), "JPEG")[:9000], "begins like image/jpeg but is broken or cut short"),
        ("cut.webp", encoded(noise(200, 200), "WEBP")[:9000], "begins like image/webp but is broken or cut short"),
        ("cut.avif", encoded(noise(200, 200), "AVIF")[:9000], "begins like image/avif but is broken or cut short"),
        ("head.jpg", b"\xff\xd8\xff\xe0" + b"\0" * 40, "begins like image/jpeg but is broken"),
        ("bomb.png", png_header(20_000, 10_000), "20000 x 10000 = 200.0 megapixels; at most 64 are taken"),
        ("line.png", png_header(2**31 - 1, 2**31 - 1), "megapixels; at most 64 are taken"),
        ("none.png", png_header(0, 10), "broken"),
        ("fat.png", encoded(noise(8, 8), "PNG") + b"\0" * 2**25, "at most 32 MiB are taken"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_what_may_not_come_in_is_refused_in_words(ask, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.png").write_bytes(encoded(noise(9, 9), "PNG"))
    refusal, small, good = ask(
        ("inspect", tmp_path / name), ("thumbnail", tmp_path / name, 64), ("inspect", tmp_path / "good.png")
    )  # fmt: skip
    assert isinstance(refusal, UnreadableFile) and refusal.message.startswith(name)
    assert words in refusal.message and refusal.hint
    assert isinstance(small, UnreadableFile)
    assert good == PictureFacts(media_type="image/png", width=9, height=9, frames=1)


def test_a_file_that_is_not_there_is_refused(ask, tmp_path):
    (refusal,) = ask(("inspect", tmp_path / "no.png"))
    assert refusal.message == "no.png cannot be read: No such file or directory."


def test_the_largest_picture_that_is_taken_is_taken(ask, tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (8000, 8000)).save(path, compress_level=1)
    assert ask(("inspect", path))[0].width == 8000


def test_thumbnails_are_small_upright_webp_and_keep_transparency(ask, tmp_path):
    wide = Image.new("RGB", (400, 100), "red")
    exif = wide.getexif()
    exif[0x0112] = 6  # lies on its side
    wide.save(tmp_path / "side.jpg", exif=exif)
    Image.new("RGBA", (100, 300), (0, 0, 255, 0)).save(tmp_path / "clear.png")
    Image.new("I;16", (64, 64), 32768).save(tmp_path / "deep.png")
    noise(10, 10).save(tmp_path / "tiny.png")
    names = ("side.jpg", "clear.png", "deep.png", "tiny.png")
    answers = ask(*(("thumbnail", tmp_path / name, 50) for name in names))
    pictures = [Image.open(io.BytesIO(answer)) for answer in answers]
    assert [picture.format for picture in pictures] == ["WEBP"] * 4
    assert [picture.size for picture in pictures] == [(12, 50), (17, 50), (50, 50), (10, 10)]
    assert pictures[0].getpixel((6, 25))[0] > 230
    assert pictures[1].convert("RGBA").getpixel((8, 25))[3] == 0
    assert 118 < pictures[2].getpixel((25, 25))[0] < 138, "16 bits are scaled, not cut off"


def test_many_requests_at_once_get_their_own_answers(ask, tmp_path):
    requests = []
    for number in range(1, 31):
        noise(number, 2).save(tmp_path / f"{number}.png")
        requests.append(("inspect", tmp_path / f"{number}.png"))
    assert [facts.width for facts in ask(*requests)] == list(range(1, 31))


def files_processes():
    return [child for child in psutil.Process().children() if "safelight.workers.files_process" in child.cmdline()]


def files_process():
    (one,) = files_processes()
    return one


def test_a_process_that_hangs_or_dies_fails_its_request_and_the_next_one_is_served(tmp_path):
    path = tmp_path / "good.png"
    noise(9, 9).save(path)

    async def scenario():
        hasty = FilesPool(timeout_s=5.0)
        await hasty.inspect(path)
        first = files_process()
        first.suspend()
        with pytest.raises(UnreadableFile, match=r"good.png took longer than 5 s to decode"):
            await hasty.inspect(path)
        assert not psutil.pid_exists(first.pid)
        await hasty.inspect(path)
        await hasty.close()
        files = FilesPool()
        await files.inspect(path)
        second = files_process()
        second.suspend()
        asked = asyncio.create_task(files.inspect(path))
        await asyncio.sleep(0.3)
        os.kill(second.pid, signal.SIGSEGV)
        second.resume()
        with pytest.raises(UnreadableFile, match=r"good.png broke the process that decodes pictures"):
            await asked
        await files.inspect(path)
        third = files_process()
        third.kill()
        while third.is_running():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert (await files.inspect(path)).width == 9, "it died idle: nobody's request fails"
        last = files_process()
        await files.close()
        return last

    assert not psutil.pid_exists(asyncio.run(scenario()).pid)


def test_a_picture_that_takes_long_does_not_hold_up_the_others_nor_the_end(tmp_path):
    noise(9, 9).save(tmp_path / "long.png")
    noise(5, 5).save(tmp_path / "short.png")

    async def scenario():
        files = FilesPool(timeout_s=3600)
        await files.inspect(tmp_path / "long.png")
        files_process().suspend()
        long = asyncio.create_task(files.inspect(tmp_path / "long.png"))
        await asyncio.sleep(0)
        widths = [(await files.inspect(tmp_path / "short.png")).width for _ in range(3)]
        assert not long.done()
        other = next(child for child in files_processes() if child.status() != psutil.STATUS_STOPPED)
        other.suspend()
        waiting = [asyncio.create_task(files.inspect(tmp_path / "short.png")) for _ in range(3)]
        await asyncio.sleep(0.1)
        here = files_processes()
        await files.close()
        told = await asyncio.gather(long, *waiting, return_exceptions=True)
        with pytest.raises(UnreadableFile, match="stopping"):
            await files.inspect(tmp_path / "short.png")
        return widths, told, here

    widths, told, here = asyncio.run(scenario())
    assert widths == [5, 5, 5] and len(here) == 2
    assert all(isinstance(each, UnreadableFile) and "the server is stopping" in str(each) for each in told)
    assert not any(psutil.pid_exists(each.pid) for each in here)


def test_a_caller_that_goes_away_leaves_no_answer_behind_for_the_next(tmp_path):
    noise(9, 9).save(tmp_path / "a.png")
    noise(5, 5).save(tmp_path / "b.png")

    async def scenario():
        files = FilesPool()
        await files.inspect(tmp_path / "a.png")
        files_process().suspend()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(files.inspect(tmp_path / "a.png"), 0.2)
        facts = await files.inspect(tmp_path / "b.png")
        await files.close()
        return facts

    assert asyncio.run(scenario()).width == 5


def test_it_starts_with_pillow_and_msgspec_alone():
    code = (
        "import sys; from safelight.workers import files_process; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'pydantic', 'asyncio', 'PIL', 'msgspec', 'diffusers'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['PIL', 'msgspec']"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of resources are POSIX")
def test_it_is_bounded_in_memory_and_cpu_time(tmp_path):
    import resource

    noise(9, 9).save(tmp_path / "a.png")

    async def scenario():
        files = FilesPool()
        await files.inspect(tmp_path / "a.png")
        pid = files_process().pid
        limits = [resource.prlimit(pid, which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]
        await files.close()
        return limits

    memory, cpu_s = asyncio.run(scenario())
    assert memory == 3 * 2**30 and 60 <= cpu_s <= 65
