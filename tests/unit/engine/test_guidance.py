"""Guidances on a network that is a formula: what they ask, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from safelight.engine.conditioning import Conditioning, Span
from safelight.engine.evaluation import Evaluation
from safelight.engine.guidance import Guided, cfg, keep_outside, rescale
from safelight.engine.residency.lent import LentNetwork
from safelight.engine.sampling.paths import VE, Flow
from safelight.engine.sampling.step import Denoised, Query

NETWORK = LentNetwork("net", cast(Any, None), cast(Any, None), ())
X = torch.linspace(-1, 1, 16).reshape(1, 4, 4)


def said(value: float) -> Span:
    return Span(Conditioning(torch.full((77, 1), value)))


def network(evaluation: Evaluation) -> Tensor:
    """A clean latent that depends on x, sigma and what was said."""
    said = float(evaluation.conditioning.sequence[0, 0])
    return evaluation.x * said + said / (1 + evaluation.sigma)


def run(**given: Any) -> Guided:
    values: dict[str, Any] = {
        "network": NETWORK,
        "path": VE(),
        "prompt": (said(2.0),),
        "negative_prompt": (said(0.5),),
        "guidance_scale": 5.0,
    }
    return Guided(**{**values, **given})


def answer(guidance: Callable[..., Any], guided: Guided, query: Query) -> tuple[Denoised, list[int]]:
    """The guidance's answer, and how many evaluations each of its rounds asked for."""
    rounds: list[int] = []
    asking = guidance(query, guided)
    try:
        asked = next(asking)
        while True:
            rounds.append(len(asked))
            asked = asking.send([network(evaluation) for evaluation in asked])
    except StopIteration as stop:
        return stop.value, rounds


def clean(value: float, sigma: float = 1.0) -> Tensor:
    return X * value + value / (1 + sigma)


def test_cfg_goes_from_the_negative_towards_the_prompt() -> None:
    got, rounds = answer(cfg, run(), Query(X, 1.0))
    assert rounds == [2]
    torch.testing.assert_close(got.guided, clean(0.5) + 5 * (clean(2.0) - clean(0.5)))
    assert got.unconditional is not None
    torch.testing.assert_close(got.unconditional, clean(0.5))


def test_scale_1_costs_one_evaluation_unless_the_unconditional_is_needed() -> None:
    got, rounds = answer(cfg, run(guidance_scale=1.0), Query(X, 1.0))
    assert rounds == [1] and got.unconditional is None
    assert torch.equal(got.guided, clean(2.0))
    got, rounds = answer(cfg, run(guidance_scale=1.0), Query(X, 1.0, needs_unconditional=True))
    assert rounds == [2] and got.unconditional is not None
    assert torch.equal(got.guided, clean(2.0))


def test_prompts_side_by_side_add_their_directions() -> None:
    both = (said(2.0), Span(said(3.0).conditioning, weight=0.5))
    got, rounds = answer(cfg, run(prompt=both), Query(X, 1.0))
    assert rounds == [3]
    base = clean(0.5)
    torch.testing.assert_close(got.guided, base + 5 * (clean(2.0) - base) + 5 * 0.5 * (clean(3.0) - base))


def test_a_prompt_may_change_along_sigma() -> None:
    first, then = said(2.0).conditioning, said(3.0).conditioning
    timeline = (Span(first, until=1.0), Span(then, since=1.0))
    early, _ = answer(cfg, run(prompt=timeline, guidance_scale=1.0), Query(X, 2.0))
    late, _ = answer(cfg, run(prompt=timeline, guidance_scale=1.0), Query(X, 1.0))
    assert torch.equal(early.guided, clean(2.0, 2.0))
    assert torch.equal(late.guided, clean(3.0))


@pytest.mark.parametrize("path", [VE(), Flow()])
@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
def test_rescale_is_the_papers_in_velocity(path: VE | Flow, amount: float) -> None:
    """Against equations 15 and 16 of Lin et al. (2023), as diffusers writes them for a v-prediction network."""
    query = Query(X, 0.8)
    base = run(path=path)
    around = run(path=path, options={"amount": amount}, inner=lambda asked: cfg(asked, base))
    got, rounds = answer(rescale, around, query)
    assert rounds == [2], "the conditional part is not evaluated twice"
    positive, negative = clean(2.0, 0.8), clean(0.5, 0.8)
    v_positive, v_negative = (path.velocity(X, each, 0.8) for each in (positive, negative))
    v = v_negative + 5 * (v_positive - v_negative)
    wanted = amount * v * (v_positive.std() / v.std()) + (1 - amount) * v
    torch.testing.assert_close(got.guided, path.clean(X, wanted, 0.8), atol=1e-5, rtol=1e-5)


def test_outside_the_mask_the_picture_stays() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    latent = torch.full_like(X, 9.0)
    base = run()
    around = run(tensors={"mask": mask, "latent": latent}, inner=lambda asked: cfg(asked, base))
    got, _ = answer(keep_outside, around, Query(X, 1.0))
    plain, _ = answer(cfg, base, Query(X, 1.0))
    assert torch.equal(got.guided[:, :2], plain.guided[:, :2])
    assert torch.equal(got.guided[:, 2:], latent[:, 2:])
    assert got.unconditional is not None
    assert torch.equal(got.unconditional[:, 2:], latent[:, 2:])


def test_what_wraps_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="base"):
        answer(keep_outside, run(tensors={"mask": X, "latent": X}), Query(X, 1.0))
