"""One evaluation of a network: the unit that the batcher gathers into passes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import Tensor

from safelight.engine.conditioning import Conditioning
from safelight.engine.residency.lent import LentNetwork


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The clean latent is wanted at (x, sigma) under a conditioning.

    x: fp32 [C, H, W]. `network`: with the LoRA rows this evaluation runs with. `exclusive`: not empty, it shares a
    pass only with evaluations of the same word (a deterministic picture keeps its passes to itself).
    `perturbation`: what is changed inside the network (skip-layer, perturbed attention); empty for nothing.
    """

    x: Tensor
    sigma: float
    network: LentNetwork
    conditioning: Conditioning
    exclusive: str = ""
    perturbation: str = ""

    @property
    def group(self) -> Hashable:
        """Evaluations with equal groups may share a forward pass: what must agree is here, and nothing else."""
        return (
            self.network.key,
            tuple(self.x.shape),
            self.conditioning.sequence.shape[0],
            self.perturbation,
            self.exclusive,
        )
