"""What every training has in common: its clock, its averaged weights and a state that survives being killed.

A run's whole state (weights, optimiser, average, random generators, step, seconds spent) is one file, written beside
the old one and put in its place: it is there whole or not at all, and a run that is started again goes on from it.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.muon import Muon

_MEET = 20  # steps between two averagings of processes that train together


@dataclass(frozen=True)
class Company:
    """Which of the processes of this training we are. One that was not started by `torchrun` is alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Company:
        """Meet the processes that `torchrun` started beside this one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > 1:
            torch.distributed.init_process_group("gloo")
        return cls(int(os.environ.get("RANK", "0")), size)

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Set every tensor to its mean over all processes."""
        if self.size == 1:
            return
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)
            tensor.div_(self.size)


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@dataclass
class Run:
    """The trained parameters and all that decides how their training goes on.

    Of the parameters, `matrices` are moved by Muon, the others by AdamW.
    """

    folder: Path
    parameters: list[nn.Parameter]
    minutes: float
    learning_rate: float
    seed: int
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    averaging: float = 0.999
    matrices: list[nn.Parameter] = field(default_factory=list)
    company: Company = Company()
    step: int = 0
    spent: float = 0.0
    rng: random.Random = field(init=False)
    optimisers: list[torch.optim.Optimizer] = field(init=False)
    average: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed + self.company.rank)
        torch.manual_seed(self.seed + self.company.rank)
        matrices = {id(matrix) for matrix in self.matrices}
        others = [parameter for parameter in self.parameters if id(parameter) not in matrices]
        decay = self.weight_decay
        self.optimisers = [
            torch.optim.AdamW(others, lr=self.learning_rate, betas=self.betas, weight_decay=decay, fused=True)
        ]
        if self.matrices:
            self.optimisers.append(Muon(self.matrices, lr=self.learning_rate, weight_decay=decay))
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @property
    def state_file(self) -> Path:
        """Where the state lies."""
        return self.folder / "state.pt"

    def resume(self) -> bool:
        """Go on from the folder's state, if it holds one."""
        if not self.state_file.exists():
            return False
        # A state is this program's own file; it holds the generators' states beside tensors.
        state: dict[str, Any] = torch.load(self.state_file, map_location="cpu", weights_only=False)
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average = [saved.to(mine) for saved, mine in zip(state["average"], self.average, strict=True)]
        self.step, self.spent = state["step"], state["spent"]
        if self.company.size == 1:
            self.rng.setstate(state["random"])
            torch.set_rng_state(state["torch_random"])
        return True

    def save(self) -> None:
        """Write the whole state, or leave the former one as it is. The first process writes for all."""
        if self.company.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_suffix(".partial")
        torch.save(
            {
                "parameters": [parameter.detach() for parameter in self.parameters],
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "average": self.average,
                "step": self.step,
                "spent": self.spent,
                "random": self.rng.getstate(),
                "torch_random": torch.get_rng_state(),
            },
            partial,
        )
        partial.replace(self.state_file)

    def rate(self) -> float:
        """The learning rate now: a short rise, a plateau for a third of the time, then half a cosine down to zero."""
        progress = min(1.0, self.spent / (self.minutes * 60))
        fall = max(0.0, progress - 1 / 3) * 1.5
        return self.learning_rate * min(1.0, (self.step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * fall))

    def ticks(self, save_every: float = 180) -> Iterator[float]:
        """Yield the learning rate for each step until the minutes are spent; saves on the way and at the end.

        Time counts in the run's own seconds, so a run that was interrupted for an hour still has all its minutes.
        Processes that train together go their own ways for twenty steps, then go on from their weights' mean (local
        SGD, Stich 2018), so that none waits for another's every layer on a busy machine.
        """
        saved = self.spent
        while self.spent < self.minutes * 60 or (self.company.size > 1 and self.step % _MEET):
            start = time.monotonic()
            yield self.rate()
            self.step += 1
            self.spent += time.monotonic() - start
            if self.step % _MEET == 0:
                self.meet()
            if self.spent - saved > save_every:
                self.save()
                saved = self.spent
        self.save()

    def meet(self) -> None:
        """Take the mean of weights, averages and clock over all processes."""
        clock = torch.tensor([self.spent], dtype=torch.float64)
        self.company.mean([*(parameter.detach() for parameter in self.parameters), *self.average, clock])
        self.spent = float(clock)

    def update(self, loss: Tensor, rate: float) -> None:
        """One step of the optimisers (gradients clipped to norm 1), and of the average that follows them."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        decay = min(self.averaging, (self.step + 1) / (self.step + 20))
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the parameters hold the average: what is measured and shipped."""
        held = [parameter.detach().clone() for parameter in self.parameters]
        self._set(self.average)
        try:
            yield
        finally:
            self._set(held)

    @torch.no_grad()
    def _set(self, values: Iterable[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
