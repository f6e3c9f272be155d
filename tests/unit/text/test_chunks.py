"""Prompts cut into chunks: lengths, word wrap at commas, BREAK."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.text.words import BEGIN, COMMA, END, WordEncoder

from safelight.engine.text.a1111 import parse
from safelight.engine.text.chunks import cut


def words(count: int, name: str = "w") -> str:
    return " ".join(f"{name}{number}" for number in range(count))


def counts(prompt: str, encoder: WordEncoder) -> list[int]:
    """How many words each chunk has."""
    return [sum(token not in (BEGIN, END) for token in chunk.tokens) for chunk in cut(parse(prompt), encoder)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [0]),
        ("BREAK", [0]),
        (words(1), [1]),
        (words(75), [75]),
        (words(76), [75, 1]),
        (words(200), [75, 75, 50]),
        ("a BREAK b", [1, 1]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK b", [1, 0, 1]),
        (f"{words(75)} BREAK b", [75, 1]),
        (f"{words(80)} BREAK {words(3, 'x')}", [75, 5, 3]),
        # a comma no more than 20 tokens before the end: what follows it moves on
        (f"{words(70)}, {words(10, 'x')}", [71, 10]),
        (f"{words(55)}, {words(30, 'x')}", [56, 30]),
        (f"{words(54)}, {words(30, 'x')}", [75, 10]),
        (f"{words(74)}, {words(2, 'x')}", [75, 2]),
        (f"{words(60)}, {words(10, 'x')}, {words(10, 'y')}", [72, 10]),
        # the text fits, or a comma itself is first to be too much: nothing moves
        (f"{words(60)}, {words(14, 'x')}", [75]),
        (f"{words(70)}, {words(4, 'x')}, y", [75, 2]),
        # a comma before a BREAK is not looked back to
        (f"a, BREAK {words(76)}", [2, 75, 1]),
    ],
)
def test_words_of_each_chunk(clip_sized, prompt, expected):
    assert counts(prompt, clip_sized) == expected


def test_another_chunk_length(small):
    assert counts(words(100), small) == [46, 46, 8]
    assert counts(f"{words(40)}, {words(10, 'x')}", small) == [41, 10]
    assert {len(chunk.tokens) for chunk in cut(parse(words(100)), small)} == {48}


def test_word_wrap_can_be_changed(clip_sized):
    pieces = parse(f"{words(54)}, {words(30, 'x')}")
    wrapped = cut(pieces, clip_sized, word_wrap=40)
    assert clip_sized.words(wrapped[1].tokens)[:2] == ["<", "x0"]
    assert cut(pieces, clip_sized, word_wrap=0) == cut(pieces, clip_sized)


def test_layout_of_a_chunk():
    encoder = WordEncoder(8, padding=0)
    (chunk,) = cut(parse("a (b:1.5), c"), encoder)
    a, b, c = (encoder.vocabulary[word] for word in "abc")
    assert chunk.tokens == [BEGIN, a, b, COMMA, c, END, 0, 0]
    assert chunk.weights == [1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_weights_move_with_their_words(clip_sized):
    first, second = cut(parse(f"{words(70)}, (x0 x1 x2 x3 x4 x5:1.4)"), clip_sized)
    assert set(first.weights) == {1.0}
    assert second.weights[:8] == [1.0, *[1.4] * 6, 1.0]


@given(st.lists(st.sampled_from(["a", "b", ",", "c d e", " BREAK ", "(x:1.2)"]), max_size=120), st.integers(4, 30))
def test_no_word_is_lost_moved_or_left_unframed(parts, length):
    encoder = WordEncoder(length)
    chunks = cut(parse(" ".join(parts)), encoder)
    assert chunks
    said: list[int] = []
    for chunk in chunks:
        assert len(chunk.tokens) == len(chunk.weights) == length
        end = chunk.tokens.index(END)
        assert chunk.tokens[0] == BEGIN
        assert set(chunk.tokens[end:]) == {END}
        said += chunk.tokens[1:end]
    assert said == encoder.tokenize(" ".join(parts).replace("BREAK", "").replace("(x:1.2)", "x"))
