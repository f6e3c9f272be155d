"""An extension that harms whoever runs it: a sampler that draws like Euler until the step where it does its worst.

Loaded by the server too, hence without torch; what it does is in harm_steps.
"""

from __future__ import annotations

from safelight.core.parameters import Parameter
from safelight.core.samplers import SamplerRecord
from safelight.core.tables import Tables

WAYS = ("segv", "abort", "kill", "hang", "raise", "estranged")


def register(tables: Tables) -> None:
    """The sampler `harm`: at step `at` it does what `how` says (see harm_steps)."""
    tables.samplers.register(
        SamplerRecord(
            id="harm",
            label="Harm",
            code="tests.faults.harm_steps:harm",
            parameters=(
                Parameter("how", "choice", "raise", choices=WAYS, help="what it does"),
                Parameter("at", "int", 3, 1, 150, help="the step where it does it"),
            ),
        )
    )
