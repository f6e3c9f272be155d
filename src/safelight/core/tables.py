"""All tables together: built once at start-up, in the server and in each worker, extended, then closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from safelight.core.families import FamilySpec, family_table
from safelight.core.guidances import GuidanceRecord, guidance_table
from safelight.core.handlers import StageRecord, stage_table
from safelight.core.names import attribute
from safelight.core.operations.contract import OperationSpec, operation_table
from safelight.core.parsers import ParserRecord, parser_table
from safelight.core.registry import Registry
from safelight.core.samplers import SamplerRecord, sampler_table
from safelight.core.schedules import ScheduleRecord, schedule_table


@dataclass(frozen=True)
class Tables:
    """Every registry of the program. Each field is open until `build_tables` returns."""

    operations: Registry[OperationSpec] = field(default_factory=operation_table)
    stages: Registry[StageRecord] = field(default_factory=stage_table)
    families: Registry[FamilySpec] = field(default_factory=family_table)
    samplers: Registry[SamplerRecord] = field(default_factory=sampler_table)
    schedules: Registry[ScheduleRecord] = field(default_factory=schedule_table)
    guidances: Registry[GuidanceRecord] = field(default_factory=guidance_table)
    parsers: Registry[ParserRecord] = field(default_factory=parser_table)


def build_tables(extensions: Sequence[str] = ()) -> Tables:
    """The built-in tables and what extensions add to them, closed.

    `extensions`: names of importable modules, each with a function `register(tables)` that registers records.
    """
    tables = Tables()
    for module in extensions:
        attribute(f"{module}:register")(tables)
    for table in vars(tables).values():
        table.close()
    return tables
