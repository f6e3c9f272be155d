"""What the server is put together from."""

from __future__ import annotations

import os
import sys

import pytest

from safelight.server.app import worker_specs
from safelight.settings import settings_of


@pytest.mark.skipif(sys.platform != "linux", reason="binding a process to cores is Linux's")
def test_a_worker_has_as_many_threads_as_cores_it_may_use(tmp_path, monkeypatch):
    values = {"storage": {"home": str(tmp_path)}}
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 9})
    assert worker_specs(settings_of(values))[0].threads == 3
    assert worker_specs(settings_of({**values, "devices": {"threads": 2}}))[0].threads == 2
