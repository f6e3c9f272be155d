"""The table of guidances: what answers a sampler's queries from evaluations of the network.

A new kind is a line here and a function `(query, run) -> generator` (see engine/guidance.py). A guidance around
another asks `run.inner(query)`; a base asks the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.core.parameters import Parameter
from safelight.core.registry import Registry


@dataclass(frozen=True)
class GuidanceRecord:
    """One kind of guidance. `base`: it asks the network itself. `public`: requests may name it."""

    id: str
    label: str
    help: str
    code: str
    parameters: tuple[Parameter, ...] = ()
    base: bool = False
    public: bool = True
    aliases: tuple[str, ...] = ()


BUILT_IN: tuple[GuidanceRecord, ...] = (
    GuidanceRecord(
        id="cfg",
        label="Classifier-free guidance",
        help="Away from the negative prompt, towards the prompt. Ho & Salimans (2022).",
        code="safelight.engine.guidance:cfg",
        base=True,
        public=False,
    ),
    GuidanceRecord(
        id="rescale",
        label="Guidance rescale",
        help="Gives the guided prediction the spread of the conditional one. Lin et al. (2023), section 3.4.",
        code="safelight.engine.guidance:rescale",
        parameters=(
            Parameter("amount", "float", 0.7, minimum=0.0, maximum=1.0, help="0 leaves the guided prediction as it is"),
        ),
    ),
    GuidanceRecord(
        id="keep_outside",
        label="Keep outside the mask",
        help="Outside the mask the clean latent is the picture's own. Part of image.inpaint.",
        code="safelight.engine.guidance:keep_outside",
        public=False,
    ),
)


def guidance_table() -> Registry[GuidanceRecord]:
    """A fresh registry with the built-in guidances, open for extensions until it is closed."""
    table: Registry[GuidanceRecord] = Registry("guidance")
    for record in BUILT_IN:
        table.register(record)
    return table
