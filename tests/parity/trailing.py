"""An extension with one schedule: diffusers' "trailing" spacing, whose timesteps are whole numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from safelight.core.schedules import ScheduleRecord
from safelight.core.tables import Tables
from safelight.engine.sampling.levels import NoiseLevels


def trailing(n: int, levels: NoiseLevels, options: Mapping[str, object]) -> list[float]:
    """As `timestep_spacing="trailing"` of diffusers' schedulers."""
    timesteps = np.round(np.arange(len(levels), 0, -len(levels) / n)) - 1
    return [*(levels.sigma(float(timestep)) for timestep in timesteps), 0.0]


def register(tables: Tables) -> None:
    """Add the schedule."""
    tables.schedules.register(ScheduleRecord(id="trailing", label="Trailing", code=f"{__name__}:trailing"))
