"""The table of schedules: everything about them that needs no torch.

Adding a schedule takes its record in `BUILT_IN` (or `table.register(...)` from an extension), and the function that
`code` names: `(n, levels, options) -> n + 1 falling sigmas that end in 0` (see `engine.sampling.schedules`).

Ids are k-diffusion's and ComfyUI's. A1111's and Forge's names are aliases.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.core.parameters import Parameter
from safelight.core.registry import Registry
from safelight.core.samplers import SamplerRecord

AUTOMATIC = "automatic"
"""The id of the record that stands for the family's own schedule (`FamilySpec.schedule`)."""


@dataclass(frozen=True)
class ScheduleRecord:
    """One schedule. `code`: "module:attribute" of its function; None for `automatic`, which a family resolves."""

    id: str
    label: str
    code: str | None
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    advised_for: tuple[str, ...] = ()


_RANGE = (
    # Either alone falls within the other's own value in every model of a family here (0.03 to 14.6 or more), so that
    # what is accepted can run; over the whole range pictures are finite.
    Parameter("sigma_min", "float", 0.0, 0.0, 10.0, least=1e-4, below="sigma_max",
              help="the last sigma before 0; 0 = the model's smallest"),
    Parameter("sigma_max", "float", 0.0, 0.0, 1e5, least=0.1, help="the first sigma; 0 = the model's largest"),
)  # fmt: skip
_RHO = Parameter("rho", "float", 7.0, 1.0, 100.0, help="how strongly steps gather at low noise")

BUILT_IN: tuple[ScheduleRecord, ...] = (
    ScheduleRecord(id=AUTOMATIC, label="Automatic", code=None, aliases=("auto",)),
    ScheduleRecord(
        id="normal",
        label="Normal",
        code="safelight.engine.sampling.schedules:normal",
        aliases=("uniform",),
    ),
    ScheduleRecord(id="simple", label="Simple", code="safelight.engine.sampling.schedules:simple"),
    ScheduleRecord(
        id="karras",
        label="Karras",
        code="safelight.engine.sampling.schedules:karras",
        parameters=(_RHO, *_RANGE),
    ),
    ScheduleRecord(
        id="exponential",
        label="Exponential",
        code="safelight.engine.sampling.schedules:exponential",
        parameters=_RANGE,
    ),
    ScheduleRecord(
        id="sgm_uniform",
        label="SGM Uniform",
        code="safelight.engine.sampling.schedules:sgm_uniform",
        aliases=("SGM Uniform", "sgm"),
    ),
    ScheduleRecord(
        id="ddim_uniform",
        label="DDIM",
        code="safelight.engine.sampling.schedules:ddim_uniform",
        aliases=("DDIM", "DDIM Uniform"),
    ),
)


def schedule_table() -> Registry[ScheduleRecord]:
    """A new, open table with the built-in schedules."""
    table: Registry[ScheduleRecord] = Registry("schedule")
    for record in BUILT_IN:
        table.register(record)
    return table


def split_name(
    name: str, samplers: Registry[SamplerRecord], schedules: Registry[ScheduleRecord]
) -> tuple[SamplerRecord, ScheduleRecord | None]:
    """A sampler's name that may end in its schedule's, as A1111 wrote them until 1.9: "DPM++ 2M Karras".

    Raises InvalidRequest where no part of it names a sampler.
    """
    sampler = samplers.find(name)
    if sampler is not None:
        return sampler, None
    words = name.split(" ")
    for cut in range(len(words) - 1, 0, -1):
        sampler, schedule = samplers.find(" ".join(words[:cut])), schedules.find(" ".join(words[cut:]))
        if sampler is not None and schedule is not None:
            return sampler, schedule
    return samplers.get(name), None
