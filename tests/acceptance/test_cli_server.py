"""The command line against a real server: started, used and stopped by commands alone, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from safelight.client import address

SAFELIGHT = (sys.executable, "-c", "from safelight.cli.main import main; main()")
ONE_PASS = ("--steps", "1", "--width", "64", "--height", "64", "--guidance-scale", "1")
LONG = ("--steps", "150", "--batch-size", "8")


def _hears_interrupts() -> None:
    """A suite that runs in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Shell:
    """A data folder, a working folder, and commands in them."""

    def __init__(self, folder: Path) -> None:
        self.home, self.work = folder / "home", folder / "work"
        self.work.mkdir(parents=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SAFELIGHT_")}
        self.environ = clean | {
            "SAFELIGHT_HOME": str(self.home), "SAFELIGHT_ENV": "production", "SAFELIGHT_SERVER_PORT": "0",
        }  # fmt: skip

    def begin(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """A command that runs on."""
        return subprocess.Popen(
            [*SAFELIGHT, *arguments], cwd=self.work, env=self.environ | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=None if sys.platform == "win32" else _hears_interrupts,  # noqa: PLW1509 - it takes no lock
        )  # fmt: skip

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """A command's exit code, standard output and standard error."""
        process = self.begin(*arguments, **more)
        out, err = process.communicate(timeout=240)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def json(self, *arguments: str, code: int = 0) -> dict:
        """The one document that a command prints with --json."""
        status, out, err = self.run(*arguments, "--json")
        assert status == code, err
        return json.loads(out)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A shell with a server that was started by `serve --detach`."""
    made = Shell(tmp_path_factory.mktemp("cli"))
    started = made.json("serve", "--detach")
    assert started["started"] is True
    yield made
    if address.read(made.home) is not None:
        made.run("stop")


@pytest.fixture(scope="module")
def house(shell) -> Path:
    """A picture that `generate` wrote."""
    code, out, err = shell.run("generate", "a red house", *ONE_PASS, "--seed", "7", "-o", "house.png")
    assert (code, out, err) == (0, "house.png\n", "")
    return shell.work / "house.png"


def test_a_second_start_finds_the_first(shell):
    again = shell.json("serve", "--detach")
    there = address.read(shell.home)
    assert again == {"url": there.url, "pid": there.pid, "started": False}


def test_status_says_where_it_is(shell):
    said = shell.json("status")
    assert said["url"] == address.read(shell.home).url
    assert said["home"] == str(shell.home)
    code, out, _ = shell.run("status")
    assert code == 0 and said["url"] in out and "worker-1" in out


def test_generate_writes_the_picture_and_is_silent_in_a_pipe(house):
    with Image.open(house) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))
        assert "Seed: 7" in picture.info["parameters"]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals of this kind")
def test_a_terminal_shows_the_progress_and_what_was_drawn(shell):
    screen, end = os.openpty()
    drawing = subprocess.Popen(
        [*SAFELIGHT, "generate", "a hill", *ONE_PASS, "--batch-size", "2", "--seed", "9", "-o", "hill.png"],
        cwd=shell.work, env=shell.environ | {"TERM": "xterm", "COLUMNS": "100"}, stdin=end, stdout=end, stderr=end,
    )  # fmt: skip
    os.close(end)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal's other end closes with the process
        while chunk := os.read(screen, 65536):
            seen += chunk
    os.close(screen)
    assert drawing.wait(timeout=60) == 0
    text = seen.decode()
    assert "picture 1" in text and "picture 2" in text and "1/1" in text
    assert "hill-1.png  seed 9" in text and "hill-2.png  seed 10" in text


def test_the_ending_says_the_format_and_several_are_numbered(shell):
    said = shell.json("generate", "a boat", *ONE_PASS, "--batch-size", "2", "-o", "boat.webp")
    assert said["state"] == "succeeded" and said["files"] == ["boat-1.webp", "boat-2.webp"]
    for file in said["files"]:
        with Image.open(shell.work / file) as picture:
            assert picture.format == "WEBP"


def test_every_option_reaches_the_job(shell):
    said = shell.json(
        "generate", "a boat", *ONE_PASS, "--sampler", "euler_ancestral", "--sampler-option", "eta=0.5", "--schedule",
        "karras", "--guidance", "rescale:amount=0.3", "--noise-source", "comfy", "--no-metadata", "-o", "all/",
    )  # fmt: skip
    resolved = said["resolved"]
    assert (resolved["sampler"], resolved["sampler_options"]["eta"]) == ("euler_ancestral", 0.5)
    assert resolved["schedule"] == "karras" and resolved["noise"] == {"source": "comfy"}
    assert resolved["guidance"] == [{"kind": "rescale", "options": {"amount": 0.3}}]
    [file] = said["files"]
    assert Path(file).parent == Path("all")
    with Image.open(shell.work / file) as picture:
        assert "parameters" not in picture.info


def test_transform_and_inpaint_take_files_and_ids(shell, house):
    artifact = shell.json("jobs", "list", "--limit", "200")["jobs"]
    drawn = next(each for each in artifact if each["resolved"]["seed"] == 7)
    from_id = shell.json("jobs", "show", drawn["id"])["artifacts"][0]["id"]
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    half.save(shell.work / "mask.png")
    shape = ("--steps", "2", "--width", "64", "--height", "64", "--seed", "3")
    by_file = shell.json("transform", "a blue house", "--image", str(house), *shape, "-o", "file.png")
    by_id = shell.json("transform", "a blue house", "--image", from_id, *shape, "-o", "id.png")
    assert by_file["resolved"]["strength"] == by_id["resolved"]["strength"] == 0.8
    assert by_file["artifacts"][0]["width"] == 64
    code, out, err = shell.run("inpaint", "a tree", "--image", "house.png", "--mask", "mask.png", "--mask-blur", "0",
                               *shape, "-o", "in.png")  # fmt: skip
    assert (code, out, err) == (0, "in.png\n", "")
    with Image.open(house) as before, Image.open(shell.work / "in.png") as after:
        box = (48, 0, 64, 64)
        kept = zip(before.convert("L").crop(box).tobytes(), after.convert("L").crop(box).tobytes(), strict=True)
        assert max(abs(one - other) for one, other in kept) <= 2


def test_no_wait_watch_and_retry(shell):
    code, out, _ = shell.run("generate", "a lake", *ONE_PASS, "--seed", "5", "--no-wait")
    assert code == 0
    job_id = out.strip()
    watched = shell.json("jobs", "watch", job_id, "-o", "lake.png")
    assert watched["id"] == job_id and watched["files"] == ["lake.png"]
    code, out, _ = shell.run("jobs", "retry", job_id)
    assert code == 0
    again = shell.json("jobs", "watch", out.strip(), "-o", "lake2.png")
    assert again["retry_of"] == job_id and again["resolved"]["seed"] == 5
    code, out, _ = shell.run("jobs", "show", job_id)
    assert code == 0 and "a lake" in out and "succeeded" in out
    assert job_id in shell.run("jobs", "list", "--state", "succeeded")[1]


def test_a_cancelled_job_exits_4(shell):
    _, out, _ = shell.run("generate", "a sea", *LONG, "--no-wait")
    job_id = out.strip()
    watching = shell.begin("jobs", "watch", job_id)
    code, out, _ = shell.run("jobs", "cancel", job_id)
    assert code == 0 and job_id in out
    _, err = watching.communicate(timeout=120)
    assert watching.returncode == 4 and "cancelled" in err


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
def test_ctrl_c_cancels_the_job(shell):
    before = {each["id"] for each in shell.json("jobs", "list")["jobs"]}
    drawing = shell.begin("generate", "a storm", *LONG)
    deadline = time.monotonic() + 60
    new: list[dict] = []
    while not new or new[0]["state"] != "running":  # by then the command follows the job
        assert time.monotonic() < deadline and drawing.poll() is None
        new = [each for each in shell.json("jobs", "list")["jobs"] if each["id"] not in before]
    time.sleep(1.0)
    drawing.send_signal(signal.SIGINT)
    _, err = drawing.communicate(timeout=120)
    assert drawing.returncode == 130, err
    assert "Traceback" not in err and new[0]["id"] in err
    assert shell.json("jobs", "show", new[0]["id"])["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", "x", "--model", "postcard"), "Did you mean 'postcards'"),
        (("generate", "x", "--sampler", "eulr"), "euler"),
        (("generate", "x", "--sampler-option", "warp=9"), "warp"),
        (("generate", "x", "--lora", "nothing"), "there is no LoRA 'nothing'"),
        (("generate", "x", "-o", "no/such/folder.png"), "end the name with /"),
        (("transform", "x", "--image", "nowhere.png"), "nowhere.png cannot be read"),
        (("generat", "x"), "Did you mean generate"),
        (("serve", "--set", "server.prt=1"), "server.port"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_exits_2_and_says_the_way_out(shell, arguments, said):
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_lists(shell):
    assert [each["id"] for each in shell.json("models", "list")["models"] if each["is_default"]] == ["postcards"]
    assert shell.json("models", "show", "Postcards")["family"] == "sd1"
    code, _, err = shell.run("models", "show", "postcart")
    assert code == 1 and "Did you mean postcards" in err
    assert {"loras"} == set(shell.json("loras", "list"))
    assert "euler" in [each["id"] for each in shell.json("samplers")["samplers"]]
    assert "karras" in [each["id"] for each in shell.json("schedules")["schedules"]]
    for command in (("models", "list"), ("loras", "list"), ("samplers",), ("schedules",)):
        assert shell.run(*command)[1].strip()


def test_an_import_is_seen_by_the_running_server(shell):
    [file] = [each["path"] for each in shell.json("doctor")["models"] if each["name"] == "postcards"]
    shell.json("models", "import", file, "--name", "copied")
    assert "copied" in [each["id"] for each in shell.json("models", "list")["models"]]


def test_doctor_finds_nothing_wrong_and_says_what_is(shell):
    code, out, _ = shell.run("doctor")
    assert code == 0 and "torch" in out and "Nothing is wrong." in out
    said = shell.json("doctor")
    assert said["healthy"] and said["server"]["url"] == address.read(shell.home).url
    assert any(each["device"] == said["device"]["device"] and each["bytes_free"] > 0 for each in said["devices"])


def test_doctor_says_what_is_wrong_and_how_to_mend_it(shell):
    broken = {"SAFELIGHT_DEVICES_DEVICE": "cuda:99", "SAFELIGHT_MODELS_DEFAULT": "nothing",
              "SAFELIGHT_MODELS_FOLDERS": str(shell.work / "gone")}  # fmt: skip
    code, out, _ = shell.run("doctor", "--json", **broken)
    said = json.loads(out)
    assert code == 1 and not said["healthy"]
    found = [each["message"] for each in said["findings"]]
    assert [each for each in found if "cuda:99" in each and "cannot be used" in each]
    assert [each for each in found if "'nothing' is not there" in each]
    assert [each for each in found if "gone is not there" in each]
    assert all(each["mend"] for each in said["findings"])


def test_a_url_with_no_server_exits_3(shell):
    code, out, err = shell.run("jobs", "list", SAFELIGHT_URL="http://127.0.0.1:9")
    assert (code, out) == (3, "") and "does not answer" in err


def test_stop_ends_it_and_a_second_stop_exits_3(tmp_path):
    shell = Shell(tmp_path)
    there = shell.json("serve", "--detach")
    assert shell.json("stop") == {"url": there["url"], "pid": there["pid"], "stopped": True}
    assert address.read(shell.home) is None
    code, _, err = shell.run("stop")
    assert code == 3 and "No server runs" in err
    assert shell.run("status")[0] == 3
    assert shell.run("generate", "x", "--no-wait")[0] == 3


def test_a_command_without_a_server_starts_one_for_itself_and_ends_it(tmp_path):
    shell = Shell(tmp_path)
    code, out, err = shell.run("generate", "a hill", *ONE_PASS, "-o", "hill.png")
    assert (code, out) == (0, "hill.png\n")
    assert "started one at" in err
    assert (shell.work / "hill.png").is_file()
    assert address.read(shell.home) is None
    code, out, err = shell.run("jobs", "list", "--json")
    assert code == 0 and [each["state"] for each in json.loads(out)["jobs"]] == ["succeeded"]
    assert address.read(shell.home) is None


def test_a_server_of_a_command_stays_for_the_jobs_of_others(tmp_path):
    shell = Shell(tmp_path)
    first = shell.begin("generate", "a hill", *ONE_PASS, "-o", "hill.png")
    deadline = time.monotonic() + 60
    while (there := address.read(shell.home)) is None or not there.url:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job_id = shell.run("generate", "a sea", *LONG, "--no-wait")[1].strip()
    _, err = first.communicate(timeout=240)
    assert first.returncode == 0 and "The server stays" in err
    shell.json("jobs", "cancel", job_id)
    assert shell.run("stop")[0] == 0


def test_a_server_of_a_command_leaves_older_jobs_to_one_of_their_own(tmp_path):
    shell = Shell(tmp_path)
    shell.json("serve", "--detach", "--set", "jobs.max_open=1")
    long = shell.run("generate", "a sea", *LONG, "--no-wait")[1].strip()
    waiting = shell.run("generate", "a dune", *ONE_PASS, "--no-wait")[1].strip()
    assert shell.run("stop")[0] == 0
    code, _, err = shell.run("generate", "a hill", *ONE_PASS, "-o", "hill.png")
    assert code == 0 and "The server stays" not in err
    states = {each["id"]: each["state"] for each in shell.json("jobs", "list")["jobs"]}
    assert states[long] == states[waiting] == "queued"
    assert address.read(shell.home) is None


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C alone there")
def test_ctrl_c_ends_a_server_in_the_foreground(tmp_path):
    shell = Shell(tmp_path)
    serving = shell.begin("serve")
    assert str(shell.home) in serving.stdout.readline()
    assert shell.json("status")["pid"] == serving.pid
    serving.send_signal(signal.SIGINT)
    out, err = serving.communicate(timeout=60)
    assert serving.returncode == 0 and "Traceback" not in out + err
    assert address.read(shell.home) is None


def test_demo_draws_with_a_server_of_its_own(tmp_path):
    shell = Shell(tmp_path)
    said = shell.json("demo", "--seed", "4")
    assert said["state"] == "succeeded" and said["resolved"]["seed"] == 4
    assert said["files"] == ["safelight-demo.png"] and said["seconds"] > 0
    with Image.open(shell.work / "safelight-demo.png") as picture:
        assert picture.size == (128, 128) and "full moon" in picture.info["parameters"]
    assert address.read(shell.home / "demo") is None and address.read(shell.home) is None
