"""What may be the id of a job."""

from __future__ import annotations

import pytest

from safelight.core.names import is_id, new_id


@pytest.mark.parametrize("text", ["a", "0", "a-b_c", "A" * 64])
def test_an_id(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "-a", "_a", "A" * 65, "a.b", "a/b", "a b", "abc\n", "\nabc", "a\x00", "é"])
def test_no_id(text: str) -> None:
    assert not is_id(text)


def test_a_new_id_is_one_and_sorts_by_time() -> None:
    made = [new_id() for _ in range(100)]
    assert all(is_id(each) and len(each) == 26 for each in made)
    assert len(set(made)) == 100
    assert sorted(each[:9] for each in made) == [each[:9] for each in made]
