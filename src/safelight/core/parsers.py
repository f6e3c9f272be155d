"""The table of prompt parsers: how weights, breaks and escapes are written in a prompt.

Adding one takes its record in `BUILT_IN` (or `table.register(...)` from an extension), and the function that `code`
names: `(prompt) -> list[Piece]` (see `engine.text.pieces`).
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.core.registry import Registry


@dataclass(frozen=True)
class ParserRecord:
    """One parser. `code`: "module:attribute" of its function. `help`: what it understands, in a sentence."""

    id: str
    label: str
    code: str
    help: str
    aliases: tuple[str, ...] = ()


BUILT_IN: tuple[ParserRecord, ...] = (
    ParserRecord(
        id="a1111",
        label="A1111",
        code="safelight.engine.text.a1111:parse",
        help="(word) is 1.1 times as strong, [word] 1.1 times weaker, (word:1.3) as given; nested brackets multiply; "
        "\\( is a plain bracket; BREAK begins a new chunk",
        aliases=("automatic1111", "webui", "forge"),
    ),
    ParserRecord(
        id="plain",
        label="Plain",
        code="safelight.engine.text.plain:parse",
        help="every character is text",
        aliases=("none",),
    ),
)


def parser_table() -> Registry[ParserRecord]:
    """A new, open table with the built-in parsers."""
    table: Registry[ParserRecord] = Registry("parser")
    for record in BUILT_IN:
        table.register(record)
    return table
