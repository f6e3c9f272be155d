"""Workers end with their server, however it ends; and nobody but a worker gets into the conversation."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from tests.unit.workers.playing import PRELOAD, ROOT, assign, gone_within, serving, spec

from safelight.errors import WorkerUnavailable
from safelight.workers.channel import BlockingChannel
from safelight.workers.deaths import EXIT_LOST
from safelight.workers.frames import pack
from safelight.workers.local import LocalLauncher, connect
from safelight.workers.messages import Cancel, Happened, Heartbeat, Hello, Ready, Start, Succeeded, ToServer

SERVER = """
import asyncio, sys
import psutil
from safelight.workers.local import LocalLauncher
from safelight.workers.messages import Happened
from tests.unit.workers.playing import PRELOAD, assign, serving, spec

async def main():
    launcher = LocalLauncher(preload=PRELOAD, fork=sys.argv[1] == "fork")
    async with serving(launcher, spec()) as server:
        worker = await server.ready()
        worker.send(assign("a", "busy 60"))
        await server.until(lambda: server.of(Happened, "a"))
        await asyncio.sleep(0.3)
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers find the loops of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize(("way", "processes"), [("fork", 2), ("anew", 1)])
def test_a_server_that_is_killed_takes_zygote_and_busy_worker_along(way, processes):
    with subprocess.Popen([sys.executable, "-c", SERVER, way], stdout=subprocess.PIPE, text=True) as server:
        try:
            pids = [int(pid) for pid in server.stdout.readline().split()]
        finally:
            server.send_signal(signal.SIGKILL)
        assert len(pids) == processes
        assert gone_within(pids, 40) is not None, "they were busy for 60 s"


def test_a_busy_worker_whose_connection_ends_is_gone_at_once():
    """Without the kernel's help: the server lives, only the socket closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = "tcp:{}:{}".format(*listening.getsockname())
        command = [sys.executable, "-m", "safelight.workers.process", str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
            worker.stdin.write(pack(Start(spec=spec(), address=address, token="secret")))
            worker.stdin.flush()
            connection, _ = listening.accept()
            channel = BlockingChannel(connection, ToServer)
            channel.listen()
            assert channel.incoming.get(timeout=60) == Hello(token="secret")
            assert isinstance(channel.incoming.get(timeout=60), Ready)
            channel.send(assign("a", "busy 60"))
            while not isinstance(channel.incoming.get(timeout=60), Happened):
                pass
            time.sleep(0.3)
            channel.close()
            assert worker.wait(timeout=40) == EXIT_LOST, "it was busy for 60 s"


def test_a_worker_that_hears_nonsense_ends_and_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = "tcp:{}:{}".format(*listening.getsockname())
        command = [sys.executable, "-m", "safelight.workers.process", str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False) as worker:
            worker.stdin.write(pack(Start(spec=spec(), address=address, token="secret")))
            worker.stdin.flush()
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"\xff\xff\xff\xff")
                _, said = worker.communicate(timeout=60)
    assert worker.returncode == EXIT_LOST
    assert b"a frame of 4294967295 bytes was announced" in said.lower()


@pytest.mark.parametrize("tcp", [True, False])
def test_strangers_are_shown_the_door_and_workers_work_on(tcp, tmp_path, caplog):
    def strange(address: str, *frames: bytes) -> bytes:
        with connect(address) as stranger:
            for frame in frames:
                stranger.sendall(frame)
            stranger.settimeout(20)
            try:
                return stranger.recv(100)
            except ConnectionResetError:
                return b""

    async def scenario():
        launcher = LocalLauncher(tmp_path, PRELOAD, tcp=tcp)
        async with serving(launcher, spec()) as server:
            worker = await server.ready()
            for frames in (
                (b"GET / HTTP/1.1\r\n\r\n",),
                (b"\x00\x00\x00\x03abc",),
                (pack(Hello(token="guess")),),
                (pack(Cancel(job="a", attempt=1)),),
                (pack(Happened(job="a", attempt=1, kind="step", data={})), pack(Hello(token="late"))),
                (),  # says nothing
            ):
                assert await asyncio.to_thread(strange, launcher.address, *frames) == b""
            worker.send(assign("a", "draw"))
            await server.until(lambda: server.of(Succeeded, "a"))
            assert server.of(Happened)[0].kind == "started", "nothing a stranger said was heard"
            assert server.of(Heartbeat) and len(server.pool.ready) == 1
        await launcher.close()

    asyncio.run(scenario())
    assert len([record for record in caplog.records if "was ended" in record.message]) == 6


def test_a_zygote_has_one_thread_after_its_imports():
    async def scenario():
        launcher = LocalLauncher(preload=PRELOAD)
        async with serving(launcher, spec()) as server:
            worker = await server.ready()
            zygote = psutil.Process(psutil.Process(worker.pid).ppid())
            command = zygote.cmdline()
            threads = zygote.num_threads()
        await launcher.close()
        return command, threads

    command, threads = asyncio.run(scenario())
    assert "safelight.workers.zygote" in command and threads == 1


def test_a_zygote_that_came_out_with_threads_does_not_fork(caplog, tmp_path, monkeypatch):
    (tmp_path / "threads_at_import.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")

    async def scenario():
        launcher = LocalLauncher(preload=("threads_at_import", "no_such_module"))
        async with serving(launcher, spec()) as server:
            worker = await server.ready()
            parent = psutil.Process(worker.pid).ppid()
        await launcher.close()
        return parent

    assert asyncio.run(scenario()) == os.getpid(), "started anew by the server itself"
    words = " ".join(record.message for record in caplog.records)
    assert "2 threads and must not fork" in words and "could not import no_such_module" in words


@pytest.mark.parametrize(
    ("options", "fields", "words"),
    [
        ({"start_s": 0.0}, {}, "did not connect within 0 s and was ended"),
        ({"fork": False, "start_s": 0.0}, {}, "did not connect within 0 s and was ended"),
        ({}, {"threads": -1}, "ended (exit code 1) before it connected"),
        ({"fork": False}, {"threads": -1}, "ended (exit code 1) before it connected"),
        ({"preload": ("ends_at_import",)}, {}, "The zygote ended (exit code 3) while it imported ends_at_import"),
    ],
)
def test_a_worker_that_does_not_come_is_told_in_words(options, fields, words, tmp_path, monkeypatch):
    (tmp_path / "ends_at_import.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")

    async def scenario():
        launcher = LocalLauncher(**{"preload": PRELOAD, **options})
        with pytest.raises(WorkerUnavailable) as refusal:
            await launcher.start(spec(**fields))
        await launcher.close()
        return str(refusal.value)

    said = asyncio.run(scenario())
    # asyncio's watcher may find a child reaped already, and then tells 255 for its exit code
    code = re.search(r"exit code \d+", words)
    assert words in (said.replace("exit code 255", code[0]) if code else said)
    assert not [child for child in psutil.Process().children() if "safelight.workers" in " ".join(child.cmdline())]
