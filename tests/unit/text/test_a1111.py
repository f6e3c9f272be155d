"""A1111's prompt syntax: the weights that its documentation gives, and any string at all."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders.timing import processor_seconds

from safelight.core.parsers import parser_table
from safelight.engine.text import a1111, plain
from safelight.engine.text.encode import parser_of

UP, DOWN = 1.1, 1 / 1.1
BREAK = None
"""Stands for a piece that ends a chunk."""


def shown(pieces) -> list:
    return [BREAK if piece.ends_chunk else (piece.text, pytest.approx(piece.weight, rel=1e-12)) for piece in pieces]


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        # the examples of its own documentation
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", UP), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", UP)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", UP)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
        # the wiki's table
        ("a (word)", [("a ", 1.0), ("word", 1.1)]),
        ("a ((word))", [("a ", 1.0), ("word", 1.21)]),
        ("a [word]", [("a ", 1.0), ("word", DOWN)]),
        ("a (word:1.5)", [("a ", 1.0), ("word", 1.5)]),
        ("a (word:0.25)", [("a ", 1.0), ("word", 0.25)]),
        (r"a \(word\)", [("a (word)", 1.0)]),
        # nesting and overlap
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        ("[[a]]", [("a", DOWN**2)]),
        ("([a)]", [("a", 1.0)]),
        ("((a)", [("a", 1.21)]),
        ("a [b", [("a ", 1.0), ("b", DOWN)]),
        # numbers
        ("(a: 1.3 )", [("a", 1.3)]),
        ("(a:-1)", [("a", -1.0)]),
        ("(a:+.5)", [("a", 0.5)]),
        ("(a:0)", [("a", 0.0)]),
        ("(a:1)b", [("ab", 1.0)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        (f"(a:{'9' * 400})", [(f"a:{'9' * 400}", 1.1)]),
        ("(a:b:1.3)", [("a:b", 1.3)]),
        ("time 12:30", [("time 12:30", 1.0)]),
        ("[a:1.3]", [("a:1.3", DOWN)]),
        # what was never opened is text
        ("a) b] c:1.3)", [("a) b] c:1.3)", 1.0)]),
        # escapes
        (r"\[a\] (b\:1.3)", [("[a] ", 1.0), ("b", 1.3)]),
        (r"(a \(b\):1.3)", [("a (b)", 1.3)]),
        (r"a\\b", [("a\\b", 1.0)]),
        (r"C:\art", [("C:art", 1.0)]),
        # BREAK
        ("a BREAK b", [("a", 1.0), BREAK, ("b", 1.0)]),
        ("a BREAK\n BREAK b", [("a", 1.0), BREAK, BREAK, ("b", 1.0)]),
        ("BREAK", [BREAK]),
        ("(a BREAK b:1.3)", [("a", 1.3), BREAK, ("b", 1.3)]),
        ("BREAKFAST break a_BREAK", [("BREAKFAST break a_BREAK", 1.0)]),
        # nothing
        ("", []),
        ("()", []),
        ("(((", []),
    ],
)
def test_pieces_and_weights(prompt, pieces):
    assert shown(a1111.parse(prompt)) == pieces


PROMPTS = st.text(alphabet=st.sampled_from("ab ,.:()[]\\13BREAK\n")) | st.text()


@given(PROMPTS)
def test_any_string_is_a_prompt_and_no_word_is_lost(prompt):
    pieces = a1111.parse(prompt)
    said = "".join(piece.text for piece in pieces)
    assert all(piece.ends_chunk != bool(piece.text) for piece in pieces)
    assert all(one.ends_chunk or two.ends_chunk or one.weight != two.weight for one, two in pairwise(pieces))

    def letters(text: str) -> str:
        """Without syntax: brackets, backslashes, what weights are written with, BREAK and the space around it."""
        return re.sub(r"BREAK|[()\[\]\\:\s+\-.]|\d", "", text)

    assert letters(said) == letters(prompt)


@given(PROMPTS)
def test_escaped_text_is_said_as_it_stands(text):
    escaped = re.sub(r"([()\[\]\\])", r"\\\1", text.replace("BREAK", ""))
    unescaped = text.replace("BREAK", "")
    assert shown(a1111.parse(escaped)) == ([(unescaped, 1.0)] if unescaped else [])


@given(st.floats(0.01, 10).map(lambda number: round(number, 3)), st.text(alphabet="ab ,", min_size=1))
def test_a_written_weight_is_the_weight(weight, text):
    assert shown(a1111.parse(f"({text}:{weight})")) == [(text, weight)]


@pytest.mark.parametrize(
    ("prompt", "weight"),
    [
        ("(" * 8000 + "a", 1000.0),
        ("[" * 8000 + "a", 0.0),
        ("(" * 400 + "a" + ":900)" * 400, 1000.0),
        ("(" * 401 + "a" + ":-900)" * 401, -1000.0),
        ("((a:1000):1000)", 1000.0),
        (f"(((a:0):{'9' * 300}):{'9' * 300})", 0.0),
        ("(a:-1001)", -1000.0),
    ],
    ids=["round", "square", "numbers", "odd", "product", "nothing", "number"],
)
def test_weights_stay_within_a_thousand(prompt, weight):
    [piece] = a1111.parse(prompt)
    assert piece.text == "a"
    assert piece.weight == pytest.approx(weight, abs=1e-12)


@pytest.mark.parametrize(
    "prompt",
    ["'(' * 20_000", "'(a' * 10_000 + ')' * 10_000", "'([a' * 5_000 + ':1.3)]' * 5_000", r"r'\(' * 20_000",
     "' ' * 20_000 + 'BREAK ' * 2_000", "'(a)' * 7_000"],
    ids=["opened", "nested", "overlapping", "escaped", "spaces", "beside"],
)  # fmt: skip
def test_a_prompt_of_20000_signs_is_read_in_less_than_50_ms(prompt):
    assert (
        processor_seconds("parse(prompt)", f"from safelight.engine.text.a1111 import parse; prompt = {prompt}") < 0.05
    )


def by_the_book(prompt):
    """The same rules, written for brevity: every closing bracket multiplies all that was said since it was opened."""
    said, opened = [], {"(": [], "[": []}

    def close(bracket, factor):
        for part in said[opened[bracket].pop() :]:
            part[1] *= factor

    for sign in re.findall(r":[.\d]+\)|[()\[\]]|[^()\[\]]", prompt):
        if sign in opened:
            opened[sign].append(len(said))
        elif sign[-1] == ")" and opened["("]:
            close("(", float(sign[1:-1]) if sign != ")" else UP)
        elif sign == "]" and opened["["]:
            close("[", DOWN)
        else:
            said.append([sign, 1.0])
    for bracket, places in opened.items():
        while places:
            close(bracket, UP if bracket == "(" else DOWN)
    return [(letter, pytest.approx(weight, rel=1e-9)) for sign, weight in said for letter in sign]


@given(st.lists(st.sampled_from([*"ab()[]", ":1.5)", ":0.25)", ":0)"]), max_size=40).map("".join))
def test_brackets_nest_and_overlap_by_the_book(prompt):
    said = [(letter, piece.weight) for piece in a1111.parse(prompt) for letter in piece.text]
    assert said == by_the_book(prompt)


@given(PROMPTS)
def test_plain_takes_every_character(prompt):
    assert [(piece.text, piece.weight, piece.ends_chunk) for piece in plain.parse(prompt)] == (
        [(prompt, 1.0, False)] if prompt else []
    )


def test_parsers_are_found_by_name():
    table = parser_table()
    assert [record.id for record in table] == ["a1111", "plain"]
    assert parser_of(table.get("Automatic1111")) is a1111.parse
    assert parser_of(table.get("plain")) is plain.parse
