"""The plan of a deterministic picture: how its arithmetic is done, stored with its job at the first attempt.

Floating point sums depend on how they are done, so the same bytes come only from the same plan. A later attempt takes
the stored plan up, on a worker that can, or does not run at all: it never draws something else in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safelight.core.names import one_of

Plan = Mapping[str, Any]
"""A JSON object.

`device`: cpu, cuda or mps; `processor`: what it calls itself; `capability`: the instructions that torch chose its
kernels for. `dtype`, `channels_last`, `threads`. `attention`: its implementation. `loras`: how adapters are applied.
`passes`: "own" where no other job shares them, else "shared". `text`: to which width prompts are padded. `tiling`: by
what it is decided. `safelight`, `torch`, `diffusers`, `transformers`: versions.
"""

ADJUSTABLE = frozenset({"threads"})
"""What a worker sets for one job's passes; everything else it either computes with or does not."""


def differences(kept: Plan, own: Plan) -> tuple[str, ...]:
    """What keeps a worker that computes by `own` from taking `kept` up, by name; empty where it can."""
    names = [name for name in dict.fromkeys([*kept, *own]) if name not in ADJUSTABLE]
    return tuple(
        f"{name} was {_said(kept.get(name))}, here it is {_said(own.get(name))}"
        for name in names
        if kept.get(name) != own.get(name)
    )


def refusal(kept: Plan, workers: Mapping[str, Plan | None]) -> str:
    """Why no worker will ever take `kept` up, in words; empty where one can, or where one may: a worker whose plan is
    not known yet (None) is waited for, and so is the first of all workers."""
    found = {worker: None if own is None else differences(kept, own) for worker, own in workers.items()}
    if not found or any(not each for each in found.values()):
        return ""
    nearest = min(found, key=lambda worker: (len(found[worker] or ()), worker))
    said = one_of(found[nearest] or (), limit=6)
    return f"The picture was begun with another plan, and no worker computes like that; the worker {nearest}: {said}."


def _said(value: Any) -> str:
    return "not told" if value is None else str(value)
