"""The optimiser of the network's matrices, for trainings that can afford few pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def orthogonalised(matrix: Tensor, steps: int = 4) -> Tensor:
    """The matrix with its singular values brought near 1, by Newton and Schulz's iteration in bf16.

    Coefficients of Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, orthogonalised. A convolution's kernel counts as a matrix of its output channels.

    Each step has the root mean square that AdamW's usually has, so learning rates carry over: Liu et al., "Muon is
    Scalable for LLM Training" (2025), equation 4.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("this optimiser evaluates no closure; call step() after backward()")
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].lerp_(parameter.grad, 1 - momentum)
                ahead = parameter.grad.lerp(average, momentum).flatten(1)
                size = 0.2 * max(ahead.shape) ** 0.5
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(orthogonalised(ahead).view_as(parameter), alpha=-rate * size)
