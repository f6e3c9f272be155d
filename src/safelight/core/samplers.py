"""The table of samplers: everything about them that needs no torch.

Adding a sampler takes two things: its record in `BUILT_IN` (or `table.register(...)` from an extension), and the
function that `code` names, which is one step written as its paper (see `engine.sampling.step`). Nothing else in the
program names a sampler: requests, documents, the browser's menus and the tests of every sampler read this table.

Ids are k-diffusion's. A1111's, Forge's and ComfyUI's names are aliases.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.core.parameters import Parameter, PathName, complete_options
from safelight.core.registry import Registry

__all__ = ["BUILT_IN", "Parameter", "SamplerRecord", "complete_options", "sampler_table"]


@dataclass(frozen=True)
class SamplerRecord:
    """One sampler.

    `order`: evaluations of the denoiser per step. `stochastic`: draws noise with its default options. `paths`: the
    noise paths it is valid on. `code`: "module:attribute" of its step. `plan`: the same of its plan, where it does
    not simply go down the sigmas. `advised_for`: ids of families it is a good choice for; empty = any.
    """

    id: str
    label: str
    code: str
    aliases: tuple[str, ...] = ()
    order: int = 1
    stochastic: bool = False
    parameters: tuple[Parameter, ...] = ()
    paths: tuple[PathName, ...] = ("ve", "flow")
    plan: str | None = None
    advised_for: tuple[str, ...] = ()


def _eta(default: float) -> Parameter:
    return Parameter("eta", "float", default, 0.0, 1.0, help="share of the noise that is drawn anew each step")


_S_NOISE = Parameter("s_noise", "float", 1.0, 0.0, 2.0, help="scale of the noise that is drawn")
_CHURN = (
    Parameter("s_churn", "float", 0.0, 0.0, 1000.0, help="noise added over the whole walk; 0 = none", paths=("ve",)),
    Parameter("s_tmin", "float", 0.0, 0.0, help="add none below this sigma", paths=("ve",)),
    Parameter("s_tmax", "float", 0.0, 0.0, help="add none above this sigma; 0 = no limit", paths=("ve",)),
    _S_NOISE,
)
_CHURNED = "safelight.engine.sampling.churn:churned"


def _solver(default: str) -> Parameter:
    return Parameter("solver", "choice", default, choices=("midpoint", "heun"), help="form of the second-order term")


BUILT_IN: tuple[SamplerRecord, ...] = (
    SamplerRecord(
        id="euler",
        label="Euler",
        code="safelight.engine.sampling.euler:euler",
        aliases=("k_euler", "sample_euler"),
        parameters=_CHURN,
        plan=_CHURNED,
    ),
    SamplerRecord(
        id="euler_ancestral",
        label="Euler a",
        code="safelight.engine.sampling.euler:euler_ancestral",
        aliases=("Euler a", "Euler Ancestral", "euler_a", "k_euler_a", "k_euler_ancestral", "sample_euler_ancestral"),
        stochastic=True,
        parameters=(_eta(1.0), _S_NOISE),
    ),
    SamplerRecord(
        id="heun",
        label="Heun",
        code="safelight.engine.sampling.heun:heun",
        aliases=("k_heun", "sample_heun"),
        order=2,
        parameters=_CHURN,
        plan=_CHURNED,
    ),
    SamplerRecord(
        id="lms",
        label="LMS",
        code="safelight.engine.sampling.lms:lms",
        aliases=("k_lms", "sample_lms"),
        parameters=(Parameter("order", "int", 4, 1, 4, help="past slopes that a step uses"),),
    ),
    SamplerRecord(
        id="dpmpp_2m",
        label="DPM++ 2M",
        code="safelight.engine.sampling.dpmpp:dpmpp_2m",
        aliases=("DPM++ 2M", "k_dpmpp_2m", "sample_dpmpp_2m"),
    ),
    SamplerRecord(
        id="dpmpp_2m_sde",
        label="DPM++ 2M SDE",
        code="safelight.engine.sampling.dpmpp:dpmpp_2m_sde",
        aliases=("DPM++ 2M SDE", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde", "sample_dpmpp_2m_sde"),
        stochastic=True,
        parameters=(_eta(1.0), _S_NOISE, _solver("midpoint")),
    ),
    SamplerRecord(
        id="dpmpp_2m_sde_heun",
        label="DPM++ 2M SDE Heun",
        code="safelight.engine.sampling.dpmpp:dpmpp_2m_sde",
        aliases=("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun_gpu", "k_dpmpp_2m_sde_heun"),
        stochastic=True,
        parameters=(_eta(1.0), _S_NOISE, _solver("heun")),
    ),
    SamplerRecord(
        id="ddim",
        label="DDIM",
        code="safelight.engine.sampling.ddim:ddim",
        aliases=("k_ddim",),
        parameters=(_eta(0.0), _S_NOISE),
    ),
)


def sampler_table() -> Registry[SamplerRecord]:
    """A new, open table with the built-in samplers."""
    table: Registry[SamplerRecord] = Registry("sampler")
    for record in BUILT_IN:
        table.register(record)
    return table
