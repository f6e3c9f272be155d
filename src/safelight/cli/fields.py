"""The options of a command, read off the fields of its operation: what can be asked by HTTP can be asked here.

prompt                     the argument PROMPT
image, mask                --image, --mask: a file, or an id
a number, text, choice     --guidance-scale 7, within the field's limits
true or false              --deterministic; --no-metadata where true is the default
a group (noise, output)    its fields with the group before them: --noise-source; those of `output` stand alone
a table, a list            repeated in the singular: --sampler-option eta=0.5, --lora ink:0.8 (see `compact`)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from safelight.cli.compact import FORMS, PAIR, Form
from safelight.cli.options import Argument

if TYPE_CHECKING:
    from pydantic import BaseModel

ARGUMENT = "prompt"
PICTURES = ("image", "mask")
ALONE = ("output",)
"""Groups whose fields need no group's name before them."""

Shape = Mapping[str, Any]


@dataclass(frozen=True)
class FieldOption:
    """A parameter of the command, and where its value goes: `path` in the request.

    `several`: repeatable. `flag`: what a flag means when it is given. `table`: given pairs become an object.
    """

    path: tuple[str, ...]
    parameter: click.Parameter
    several: bool = False
    flag: bool | None = None
    table: bool = False

    def value(self, given: Any) -> Any:
        """The field's value, or None where the option was not given."""
        if self.flag is not None:
            return self.flag if given else None
        if self.table:
            return dict(given) or None
        return (list(given) or None) if self.several else given


def options_of(request: type[BaseModel]) -> list[FieldOption]:
    """An option for every field of an operation, groups taken apart. TypeError for a shape that has no form here."""
    schema = request.model_json_schema(by_alias=False)
    return list(_options(schema, schema.get("$defs", {}), ()))


def fields_of(options: Sequence[FieldOption], given: Mapping[str, Any]) -> dict[str, Any]:
    """The request's fields as the options give them; what was not given is not there."""
    fields: dict[str, Any] = {}
    for option in options:
        value = option.value(given[str(option.parameter.name)])
        if value is not None:
            *groups, last = option.path
            inside = fields
            for group in groups:
                inside = inside.setdefault(group, {})
            inside[last] = value
    return fields


def _options(schema: Shape, named: Shape, group: tuple[str, ...]) -> Iterator[FieldOption]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        shape = _plain(field, named)
        if "const" in shape:  # the operation's name: the command itself
            continue
        if shape.get("properties"):
            yield from _options(shape, named, (*group, name))
        else:
            yield _option((*group, name), shape, named, name in required and not group)


def _option(path: tuple[str, ...], shape: Shape, named: Shape, required: bool) -> FieldOption:
    if path == (ARGUMENT,):
        said = _sentence(str(shape.get("description", "")))
        return FieldOption(path, Argument([ARGUMENT], help=said, required=required, metavar=ARGUMENT.upper()))
    words = [each for each in path if each not in ALONE] or list(path)
    option = "-".join(words).replace("_", "-")
    name = "__".join(path)
    said = str(shape.get("description", ""))
    default = shape.get("default")
    kind = shape.get("type")
    if kind == "boolean":
        option = f"--no-{option}" if default else f"--{option}"
        said = f"Do not {said}." if default else said
        return FieldOption(path, click.Option([option, name], is_flag=True, help=_sentence(said)), flag=not default)
    several = kind in ("array", "object")
    option = option.removesuffix("s") if several else option
    taken = _type(path, shape, named)
    parameter = click.Option(
        [f"--{option}", name],
        type=taken.read if isinstance(taken, Form) else taken,
        multiple=several,
        required=required,
        metavar=taken.metavar if isinstance(taken, Form) else "FILE|ID" if path[-1] in PICTURES else None,
        help=_sentence(said)
        + (" Repeatable." if several else "" if default in (None, "") else f" [default: {default}]"),
    )
    return FieldOption(path, parameter, several, table=kind == "object")


def _type(path: tuple[str, ...], shape: Shape, named: Shape) -> Any:
    """Click's type of a field's values, or their compact form."""
    if "enum" in shape:
        return click.Choice(shape["enum"])
    kind = str(shape.get("type"))
    if kind == "integer":
        return click.IntRange(shape.get("minimum"), shape.get("maximum"))
    if kind == "number":
        return click.FloatRange(shape.get("minimum"), shape.get("maximum"))
    if kind == "string":
        return click.STRING
    if kind == "object" and shape.get("additionalProperties"):
        return PAIR
    if kind == "array":
        inner = _plain(shape["items"], named)
        if inner.get("title") in FORMS:
            return FORMS[inner["title"]]
        if inner.get("type") not in ("array", "object"):
            return _type(path, inner, named)
    raise TypeError(f"{'.'.join(path)} ({kind}) has no form on the command line; give it one in cli/compact.py")


def _plain(shape: Shape, named: Shape) -> dict[str, Any]:
    """A field's shape with references followed, and without the null that means "not given"."""
    if "$ref" in shape:
        rest = {name: value for name, value in shape.items() if name != "$ref"}
        return {**named[shape["$ref"].rpartition("/")[2]], **rest}
    kinds = [each for each in shape.get("anyOf", ()) if each.get("type") != "null"]
    if len(kinds) == 1:
        rest = {name: value for name, value in shape.items() if name != "anyOf"}
        return {**_plain(kinds[0], named), **rest}
    return dict(shape)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
