"""Encoders of the two lengths that models here have."""

from __future__ import annotations

import pytest
from tests.unit.text.words import WordEncoder


@pytest.fixture
def clip_sized() -> WordEncoder:
    return WordEncoder(77)


@pytest.fixture
def small() -> WordEncoder:
    """As the bundled model's."""
    return WordEncoder(48)
