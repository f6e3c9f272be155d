"""The table of deaths, and the kernel's count of killings."""

from __future__ import annotations

import signal

import pytest

from safelight.core.states import CHARGED, AttemptEnd
from safelight.workers.deaths import EXIT_BROKEN, EXIT_LOST, Death, oom_kills, released

ONE, TWO = [("a", 1)], [("a", 1), ("b", 3)]


@pytest.mark.parametrize(
    ("death", "one", "two", "words"),
    [
        (Death(-signal.SIGSEGV), AttemptEnd.CRASHED, AttemptEnd.SUSPECT, "SIGSEGV"),
        (Death(-signal.SIGBUS), AttemptEnd.CRASHED, AttemptEnd.SUSPECT, "SIGBUS"),
        (Death(-signal.SIGABRT), AttemptEnd.CRASHED, AttemptEnd.SUSPECT, "SIGABRT"),
        (Death(-signal.SIGSEGV, stopping=True), AttemptEnd.CRASHED, AttemptEnd.SUSPECT, "SIGSEGV"),
        (Death(-signal.SIGKILL, oom=True), AttemptEnd.CRASHED, AttemptEnd.SUSPECT, "out-of-memory killer"),
        (Death(-signal.SIGKILL), AttemptEnd.KILLED, AttemptEnd.KILLED, "SIGKILL"),
        (Death(-signal.SIGTERM), AttemptEnd.KILLED, AttemptEnd.KILLED, "SIGTERM"),
        (Death(-signal.SIGKILL, hung="no step for 61 s"), AttemptEnd.SUSPECT, AttemptEnd.SUSPECT, "no step for 61 s"),
        (Death(-signal.SIGKILL, stopping=True), AttemptEnd.SERVER_STOPPED, AttemptEnd.SERVER_STOPPED, "SIGKILL"),
        (Death(0, stopping=True), AttemptEnd.SERVER_STOPPED, AttemptEnd.SERVER_STOPPED, "exit code 0"),
        (Death(0), AttemptEnd.KILLED, AttemptEnd.KILLED, "exit code 0"),
        (Death(None), AttemptEnd.KILLED, AttemptEnd.KILLED, "nobody saw how"),
        (Death(EXIT_LOST), AttemptEnd.KILLED, AttemptEnd.KILLED, "lost its connection"),
        (Death(EXIT_BROKEN, error="KeyError: 'x'"), AttemptEnd.ERROR, AttemptEnd.SUSPECT, "KeyError: 'x'"),
        (Death(-signal.SIGILL), AttemptEnd.SUSPECT, AttemptEnd.SUSPECT, "SIGILL"),
        (Death(-signal.SIGFPE), AttemptEnd.SUSPECT, AttemptEnd.SUSPECT, "SIGFPE"),
    ],
)
def test_what_a_death_means(death, one, two, words):
    (single,) = released("cpu", death, ONE)
    several = released("cpu", death, TWO)
    assert (single.job, single.attempt, single.end) == ("a", 1, one)
    assert [(each.job, each.attempt, each.end) for each in several] == [("a", 1, two), ("b", 3, two)]
    assert words in single.message and "cpu" in single.message
    assert single.alone is (one is AttemptEnd.SUSPECT)
    assert not any(each.end in CHARGED for each in several), "with several open none is charged"


def test_an_idle_workers_death_concerns_nobody():
    assert released("cpu", Death(-signal.SIGSEGV), []) == []


def test_a_worker_error_keeps_its_trace():
    (single,) = released("cpu", Death(EXIT_BROKEN, error="x", trace="Traceback ..."), ONE)
    assert single.trace == "Traceback ..."


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/box\n0::/\n",
                "sys/fs/cgroup/memory/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
                "proc/vmstat": "oom_kill 9\n",
            },
            5,
        ),
        ({"proc/self/cgroup": "0::/\n", "proc/vmstat": "nr_free_pages 1\noom_kill 9\n"}, 9),
        ({"proc/vmstat": "oom_kill 1\n"}, 1),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({}, None),
    ],
)
def test_the_count_of_killings_is_the_nearest_that_can_be_read(tmp_path, files, count):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == count
