"""From the records of the tables to their code."""

from __future__ import annotations

from typing import cast

from safelight.core.names import attribute
from safelight.core.samplers import SamplerRecord
from safelight.core.schedules import ScheduleRecord
from safelight.engine.sampling.churn import renoise
from safelight.engine.sampling.schedules import Schedule
from safelight.engine.sampling.step import Move, Plan, Sampler, walk


def plan_of(record: SamplerRecord) -> Plan:
    """The sampler's walk as data."""
    return walk if record.plan is None else cast(Plan, attribute(record.plan))


def sampler_of(record: SamplerRecord, move: Move) -> Sampler:
    """What carries out one move of the sampler's plan: its own step, or noise added on the way up."""
    return renoise if move.kind == "renoise" else cast(Sampler, attribute(record.code))


def schedule_of(record: ScheduleRecord) -> Schedule:
    """The schedule's function. ValueError for `automatic`, which stands for a family's own."""
    if record.code is None:
        raise ValueError(f"{record.label} stands for the family's own schedule; resolve it before sampling.")
    return cast(Schedule, attribute(record.code))
