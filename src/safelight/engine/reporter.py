"""What the loop tells whoever runs it. The worker's process turns it into messages; tests listen directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from safelight.core.plans import Plan


class Reporter(Protocol):
    """Told of everything that happens to an attempt. Called from the loop's thread and its writing threads."""

    def event(self, job: str, attempt: int, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the job (core.events)."""
        ...

    def planned(self, job: str, attempt: int, plan: Plan) -> None:
        """A deterministic job begins: later attempts are to compute by this plan."""
        ...

    def saved(self, job: str, attempt: int, facts: Mapping[str, Any]) -> None:
        """An artifact is finished: index, sha256, media_type, bytes, width, height, seed."""
        ...

    def checkpointed(self, job: str, attempt: int, folder: str, step: int) -> None:
        """The job can go on from `folder`."""
        ...

    def succeeded(
        self, job: str, attempt: int, result: Mapping[str, Any], timings: Mapping[str, float], peak_bytes: int
    ) -> None:
        """The recipe ended."""
        ...

    def ended(self, job: str, attempt: int, end: str, error: Mapping[str, str]) -> None:
        """The attempt ended without a result. `end`: an AttemptEnd; `error`: kind, message, hint, trace."""
        ...

    def declined(self, job: str, attempt: int, reason: str) -> None:
        """The job cannot go on beside the others that are open; it has left, and costs nothing."""
        ...

    def profile(self, network: str, shape: str, dtype: str, width: int, seconds: float) -> None:
        """A pass was measured."""
        ...
