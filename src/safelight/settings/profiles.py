"""The four environments: small overlays over the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENVIRONMENTS: Mapping[str, str] = {
    "development": "one person at one machine: debug log, small batches",
    "testing": "under test: no batching, a data folder among the temporary files",
    "staging": "as production, with the debug log",
    "production": "a server that others rely on: full batches, a log for machines",
}
"""The environments with what each is for."""

_CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "JENKINS_URL", "TEAMCITY_VERSION", "TF_BUILD")


def environment_of(environ: Mapping[str, str]) -> str:
    """What SAFELIGHT_ENV says; else `testing` where a CI service's variable is set; else `development`.

    Not checked against ENVIRONMENTS.
    """
    named = environ.get("SAFELIGHT_ENV", "").strip().lower()
    if named:
        return named
    on_ci = any(environ.get(name, "").lower() not in ("", "0", "false") for name in _CI)
    return "testing" if on_ci else "development"


def overlay(environment: str) -> dict[str, Any]:
    """The environment's values by `section.name`, as a file would give them."""
    production = {"log.level": "info", "log.format": "json", "devices.dtype": "auto", "performance.max_batch_size": 16}
    if environment == "development":
        return {"log.level": "debug", "performance.max_batch_size": 2}
    if environment == "testing":
        return {"storage.home": str(_testing_home()), "performance.max_batch_size": 1}
    return {**production, "log.level": "debug"} if environment == "staging" else production


def _testing_home() -> Path:
    """A folder per user, the same for every command: they find their server by it."""
    import tempfile  # brings much with it, and only this environment needs it

    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"safelight-testing-{user}"
