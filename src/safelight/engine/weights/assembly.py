"""Building a network from stored tensors: its shape on no device first, then each parameter once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from accelerate import init_empty_weights
from torch import nn

from safelight.engine.weights.stored import Piece, Placing, StoredTensors
from safelight.errors import UnreadableFile

Plan = Mapping[str, Piece]
"""A network's parameter names -> where each lies."""


def assemble(
    build: Callable[[], nn.Module], stored: StoredTensors, plan: Plan, placing: Placing, what: str
) -> nn.Module:
    """The network that `build` makes, with the weights of `plan`; ready to infer, no gradients.

    No random initialisation, no second copy. UnreadableFile naming every parameter the file lacks and every tensor
    the network has no place for; `what` names the network there.
    """
    with init_empty_weights():
        module = build()
    wanted = dict(module.state_dict(keep_vars=True))
    _agree(what, wanted, plan)
    state = {name: stored.read(plan[name], placing.room(parameter.shape)) for name, parameter in wanted.items()}
    module.load_state_dict(state, strict=True, assign=True)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(placing.device)
    return module.eval().requires_grad_(False)


def planned_bytes(stored: StoredTensors, plan: Plan, placing: Placing) -> int:
    """Bytes that the parameters of a plan will take, from the header alone."""
    return sum(math.prod(stored.shape(piece)) for piece in plan.values()) * placing.dtype.itemsize


def module_bytes(module: nn.Module) -> int:
    """Bytes of a network's parameters."""
    return sum(parameter.nbytes for parameter in module.parameters())


def _agree(what: str, wanted: Iterable[str], plan: Plan) -> None:
    missing, more = sorted(set(wanted) - set(plan)), sorted(plan[name].key for name in set(plan) - set(wanted))
    if missing or more:
        wrong = _some("missing", missing) + _some("without a place", more)
        raise UnreadableFile(
            f"The {what} and its weights do not fit: {wrong.strip()}",
            "The configuration is of another network, or the file is not whole.",
        )


def _some(label: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} {label} ({', '.join(names[:5])}{rest}). "
