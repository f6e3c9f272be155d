"""From prompts to conditionings: shapes, weights, the mean restored."""

from __future__ import annotations

import pytest
import torch

from safelight.engine.text import a1111, plain
from safelight.engine.text.encode import emphasise, encode_prompt


def encoded(encoder, prompt, parser=a1111.parse, clip_skip=1):
    (span,) = encode_prompt(encoder, prompt, parser, clip_skip)
    assert (span.since, span.until, span.weight, span.region) == (float("inf"), -1.0, 1.0, None)
    return span.conditioning


def test_chunks_stand_one_after_another(small):
    long = encoded(small, "a b BREAK c")
    assert long.sequence.shape == (96, 6)
    assert torch.equal(long.sequence[:48], encoded(small, "a b").sequence)
    assert torch.equal(long.sequence[48:], encoded(small, "c").sequence)
    assert torch.equal(long.pooled, encoded(small, "a b").pooled)


def test_the_empty_prompt_is_one_chunk_of_padding(small):
    empty = encoded(small, "")
    assert small.calls[-1].tolist() == [[small.begin, *[small.end] * 47]]
    assert empty.sequence.shape == (48, 6)


@pytest.mark.parametrize("prompt", ["a house, red", "(a:1) house", "([a]) b", "(a:1.0) BREAK b"])
def test_weights_of_one_are_the_encoders_states_to_the_bit(small, prompt):
    ours = encoded(small, prompt)
    states, pooled = small.encode(small.calls[-1], 1)
    assert torch.equal(ours.sequence, states.flatten(0, 1))
    assert torch.equal(ours.pooled, pooled[0])


def test_emphasis_scales_the_words_and_restores_the_mean(small):
    ours = encoded(small, "red (house:1.4), [hill]").sequence
    states, _ = small.encode(small.calls[-1], 1)
    factors = torch.ones(48)
    factors[2], factors[4] = 1.4, 1 / 1.1  # begin, red, house, comma, hill
    weighted = states[0] * factors[:, None]
    reference = weighted * (states[0].mean() / weighted.mean())
    torch.testing.assert_close(ours, reference, rtol=1e-6, atol=1e-6)
    assert float(ours.mean()) == pytest.approx(float(states.mean()), rel=1e-5)


@pytest.mark.parametrize("prompt", ["(" * 8000 + "a", "(a:-1) b" + "[" * 8000 + "c", "(" * 50 + "a" + ":900)" * 50])
def test_states_stay_finite_however_deep_brackets_nest(small, prompt):
    assert torch.isfinite(encoded(small, prompt).sequence).all()


def test_each_chunk_keeps_its_own_mean_and_unweighted_ones_are_untouched(small):
    both = encoded(small, "(a:1.5) BREAK b").sequence
    assert torch.equal(both[:48], encoded(small, "(a:1.5)").sequence)
    assert torch.equal(both[48:], encoded(small, "b").sequence)


def test_a_mean_that_is_only_rounding_scales_nothing():
    states = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
    states = states - states.mean(dim=-1, keepdim=True)  # as a final norm without bias leaves them
    weights = [1.0, 1.3, *[1.0] * 6]
    assert torch.equal(emphasise(states, [weights]), states * torch.tensor(weights)[:, None])


def test_clip_skip_reaches_the_encoder_and_plain_weighs_nothing(small):
    assert not torch.equal(encoded(small, "a").sequence, encoded(small, "a", clip_skip=2).sequence)
    states, _ = small.encode(torch.tensor([[small.begin, *small.tokenize("(a:1.5)"), *[small.end] * 46]]), 1)
    assert torch.equal(encoded(small, "(a:1.5)", plain.parse).sequence, states[0])
