"""Compact forms: tables of what is written and what it means."""

from __future__ import annotations

import click
import pytest

from safelight.cli.compact import guidance, lora, pair, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("-0.5", -0.5), ("1e3", 1000.0), ("true", True), ("False", False), ("karras", "karras"), ("", "")],
)
def test_a_scalar_is_what_it_looks_like(text, value):
    assert scalar(text) == value and type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("ink", {"name": "ink"}),
        ("ink:0.8", {"name": "ink", "strength": 0.8}),
        ("ink:-1:.5", {"name": "ink", "strength": -1.0, "text_strength": 0.5}),
        ("styles/ink:1", {"name": "styles/ink", "strength": 1.0}),
        ("a:b", {"name": "a:b"}),
        ("a:b:2", {"name": "a:b", "strength": 2.0}),
        ("1980:0.5", {"name": "1980", "strength": 0.5}),
        ("v:1:2:3", {"name": "v:1", "strength": 2.0, "text_strength": 3.0}),
    ],
)
def test_a_lora_is_a_name_with_numbers_at_its_end(text, asked):
    assert lora(text) == asked


@pytest.mark.parametrize("text", ["", ":0.5", "ink:", " : "])
def test_a_lora_without_a_name_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match=r"ink:0\.8"):
        lora(text)


def test_a_guidance_is_a_kind_with_parameters():
    assert guidance("rescale") == {"kind": "rescale"}
    assert guidance("rescale:amount=0.5, other=on") == {"kind": "rescale", "amount": 0.5, "other": "on"}
    with pytest.raises(click.BadParameter, match="NAME=VALUE"):
        guidance("rescale:0.5")


def test_a_value_may_hold_an_equals_sign():
    assert pair("note = a=b") == ("note", "a=b")
