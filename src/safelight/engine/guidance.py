"""Guidance: how a sampler's query is answered from evaluations of the network.

A guidance is a generator: it yields the evaluations it needs, is sent the clean latents they gave (in that order),
and returns the answer. One around another asks `run.inner(query)` with `yield from`. A new kind is one function here
or in an extension, and a line in `core.guidances`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from safelight.engine.conditioning import Span, Timeline, at
from safelight.engine.evaluation import Evaluation
from safelight.engine.residency.lent import LentNetwork
from safelight.engine.sampling.paths import NoisePath
from safelight.engine.sampling.step import Denoised, Options, Query

Answer = Generator[list[Evaluation], list[Tensor], Denoised]
"""A query being answered."""


@dataclass(frozen=True)
class Guided:
    """What a guidance sees of the run it guides.

    `inner`: the guidance inside it (a base has none). `options`: its parameters. `tensors`: the results it named.
    """

    network: LentNetwork
    path: NoisePath
    prompt: Timeline
    negative_prompt: Timeline
    guidance_scale: float
    exclusive: str = ""
    options: Options = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    inner: Callable[[Query], Answer] | None = None

    def positive(self, sigma: float) -> list[Span]:
        """What the prompt says at `sigma`."""
        return at(self.prompt, sigma)

    def negative(self, sigma: float) -> Span:
        """What the negative prompt says at `sigma`."""
        return at(self.negative_prompt, sigma)[0]

    def evaluate(self, query: Query, span: Span, perturbation: str = "") -> Evaluation:
        """The network at the query, told what `span` says."""
        return Evaluation(query.x, query.sigma, self.network, span.conditioning, self.exclusive, perturbation)

    def ask(self, query: Query) -> Answer:
        """The answer of the guidance inside this one."""
        if self.inner is None:
            raise ValueError("A base guidance has no inner one; put this kind around a base such as cfg.")
        return self.inner(query)


Guidance = Callable[[Query, Guided], Answer]
"""A kind of guidance."""


def cfg(query: Query, run: Guided) -> Answer:
    """Classifier-free guidance in denoised space. Ho & Salimans (2022).

    x0 = u + s * sum_i w_i (c_i - u); several conditionals c_i with weights w_i compose as in Liu et al. (2022),
    equation 11. A scale of 1 with one conditional needs no unconditional part and costs one evaluation.
    """
    positives = run.positive(query.sigma)
    plain = run.guidance_scale == 1.0 and len(positives) == 1 and positives[0].weight == 1.0
    asked = [run.evaluate(query, span) for span in positives]
    if plain and not query.needs_unconditional:
        (alone,) = yield asked
        return Denoised(alone)
    *conditional, unconditional = yield [*asked, run.evaluate(query, run.negative(query.sigma))]
    if plain:
        return Denoised(conditional[0], unconditional)
    guided = unconditional
    for span, clean in zip(positives, conditional, strict=True):
        guided = guided + run.guidance_scale * span.weight * (clean - unconditional)
    return Denoised(guided, unconditional)


def rescale(query: Query, run: Guided) -> Answer:
    """Give the guided prediction the spread of the conditional one. Lin et al. (2023), equations 14 to 16.

    In the space of the velocity, as the paper: v' = phi * v std(v_c)/std(v) + (1 - phi) v, with phi = `amount`.
    v_c is what the innermost guidance's first evaluation gave, so nothing is evaluated twice.
    """
    amount = float(run.options["amount"])
    positives = run.positive(query.sigma)
    if amount == 0.0 or run.guidance_scale == 1.0 or len(positives) != 1:
        return (yield from run.ask(query))
    recorded: list[Tensor] = []
    denoised = yield from recording(run.ask(query), recorded)
    guided = run.path.velocity(query.x, denoised.guided, query.sigma)
    conditional = run.path.velocity(query.x, recorded[0], query.sigma)
    rescaled = guided * (conditional.std() / guided.std().clamp_min(1e-8))
    velocity = amount * rescaled + (1 - amount) * guided
    return Denoised(run.path.clean(query.x, velocity, query.sigma), denoised.unconditional)


def recording(answer: Answer, recorded: list[Tensor]) -> Answer:
    """Carry `answer` out, and keep what its first evaluation (the conditional one) gave."""
    try:
        asked = next(answer)
        while True:
            got = yield asked
            if not recorded:
                recorded.append(got[0])
            asked = answer.send(got)
    except StopIteration as stop:
        denoised: Denoised = stop.value
        return denoised


def keep_outside(query: Query, run: Guided) -> Answer:
    """Inside the mask what the network says, outside it the picture's own latent.

    Lugmayr et al. (2022, RePaint) on the clean latent instead of the noisy one, as A1111 does: the two are the same
    mixture seen through the noise path. `mask` [1, H, W], 1 = repaint; `latent` [C, H, W].
    """
    mask, latent = run.tensors["mask"], run.tensors["latent"]
    denoised = yield from run.ask(query)
    unconditional = denoised.unconditional
    return Denoised(
        torch.lerp(latent, denoised.guided, mask),
        None if unconditional is None else torch.lerp(latent, unconditional, mask),
    )
