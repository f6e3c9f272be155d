"""Building a network from stored tensors: its shape on no device first, then each parameter once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accelerate import init_empty_weights
from torch import nn
from transformers.initialization import no_init_weights

from safelight.engine.weights.reading import Plan, Reading
from safelight.engine.weights.room import Placing, Plot
from safelight.engine.weights.stored import StoredTensors
from safelight.errors import UnreadableFile


def assemble(
    build: Callable[[], nn.Module],
    stored: StoredTensors,
    plan: Plan,
    placing: Placing,
    what: str,
    reading: Reading | None = None,
) -> nn.Module:
    """The network that `build` makes, with the weights of `plan`; ready to infer, no gradients.

    No random initialisation, no second copy. UnreadableFile naming every parameter the file lacks and every tensor
    the network has no place for; `what` names the network there.
    """
    with init_empty_weights(), no_init_weights():
        module = build()
    wanted = {name: tuple(parameter.shape) for name, parameter in module.state_dict(keep_vars=True).items()}
    _agree(what, wanted, plan)
    parameters = (reading or Reading()).parameters(stored, plan, Plot(wanted, placing))
    module.load_state_dict(parameters, strict=True, assign=True)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(placing.device)
    return module.eval().requires_grad_(False)


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
