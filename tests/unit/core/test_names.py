"""What may be the id of a job."""

from __future__ import annotations

import pytest

from safelight.core.names import is_id, new_id


@pytest.mark.parametrize("text", ["a", "0", "a-b_c", "A" * 64, new_id()])
def test_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "-a", "_a", "A" * 65, "a.b", "a/b", "a b", "abc\n", "\nabc", "a\x00", "é"])
def test_no_id(text: str) -> None:
    assert not is_id(text)
