"""A command's options are its operation's fields: all of them, and nothing else."""

from __future__ import annotations

import types
from typing import Any, Literal, get_args, get_origin

import click
import pytest
from pydantic import BaseModel, Field, create_model

from safelight.cli import drawing
from safelight.cli.fields import fields_of, options_of
from safelight.core.operations.contract import Contract, operation_table

COMMANDS = [drawing.generate, drawing.transform, drawing.inpaint]
OWN = {"-o", "--output", "--json", "--no-wait", "-h", "--help"}

SAID: dict[tuple[str, ...], tuple[list[str], Any]] = {
    ("prompt",): (["a boat"], "a boat"),
    ("negative_prompt",): (["--negative-prompt", "fog"], "fog"),
    ("model",): (["--model", "postcards"], "postcards"),
    ("steps",): (["--steps", "12"], 12),
    ("guidance_scale",): (["--guidance-scale", "4.5"], 4.5),
    ("width",): (["--width", "256"], 256),
    ("height",): (["--height", "192"], 192),
    ("seed",): (["--seed", str(2**64 - 1)], 2**64 - 1),
    ("sampler",): (["--sampler", "heun"], "heun"),
    ("schedule",): (["--schedule", "karras"], "karras"),
    ("batch_size",): (["--batch-size", "3"], 3),
    ("clip_skip",): (["--clip-skip", "2"], 2),
    ("loras",): (
        ["--lora", "ink", "--lora", "night:0.5:-1"],
        [{"name": "ink"}, {"name": "night", "strength": 0.5, "text_strength": -1.0}],
    ),
    ("sampler_options",): (["--sampler-option", "eta=0.5", "--sampler-option", "s=1"], {"eta": 0.5, "s": 1}),
    ("schedule_options",): (["--schedule-option", "rho=7"], {"rho": 7}),
    ("guidance",): (["--guidance", "rescale:amount=0.4"], [{"kind": "rescale", "amount": 0.4}]),
    ("parser",): (["--parser", "plain"], "plain"),
    ("noise", "source"): (["--noise-source", "comfy"], "comfy"),
    ("output", "format"): (["--format", "webp"], "webp"),
    ("output", "quality"): (["--quality", "80"], 80),
    ("output", "metadata"): (["--no-metadata"], False),
    ("deterministic",): (["--deterministic"], True),
    ("image",): (["--image", "in.png"], "in.png"),
    ("strength",): (["--strength", "0.3"], 0.3),
    ("resize",): (["--resize", "pad"], "pad"),
    ("mask",): (["--mask", "mask.png"], "mask.png"),
    ("mask_blur",): (["--mask-blur", "0"], 0),
}
"""Each field as it is written on the command line, and what it is in the request."""

each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)


def leaves(model: type[BaseModel], group: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every field of an operation, found in its model and not in its schema; groups are taken apart, lists are not."""
    found: set[tuple[str, ...]] = set()
    for name, field in model.model_fields.items():
        kinds = [field.annotation]
        if get_origin(field.annotation) in (types.UnionType,):
            kinds = [each for each in get_args(field.annotation) if each is not type(None)]
        if isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel):
            found |= leaves(kinds[0], (*group, name))
        elif name != "operation":
            found.add((*group, name))
    return found


def read(command: drawing.OperationCommand, arguments: list[str]) -> dict[str, Any]:
    """The fields that a command line asks for."""
    with command.make_context(command.name, list(arguments)) as context:
        return fields_of(command.options, context.params)


def required(command: drawing.OperationCommand) -> list[str]:
    """The least that the command takes."""
    return [word for path in (("prompt",), ("image",), ("mask",)) if path in paths(command) for word in SAID[path][0]]


def paths(command: drawing.OperationCommand) -> set[tuple[str, ...]]:
    """The fields that the command's options reach."""
    return {option.path for option in command.options}


@each_command
def test_every_field_has_an_option_and_every_option_a_field(command):
    request = operation_table().get(command.operation).request
    assert paths(command) == leaves(request)
    assert len(command.options) == len(paths(command))


@each_command
def test_beside_the_fields_there_is_only_where_to_write_and_how_to_answer(command):
    with click.Context(command) as context:
        context.help_option_names = ["-h", "--help"]
        names = {name for each in command.get_params(context) for name in (*each.opts, *each.secondary_opts)}
    fields = {name for option in command.options for name in option.parameter.opts}
    assert names - fields == OWN
    assert not fields & OWN


@each_command
def test_every_field_is_said_and_arrives_as_the_contract_has_it(command):
    words = [word for path in sorted(paths(command)) for word in SAID[path][0]]
    fields = read(command, words)
    for path in paths(command):
        inside: Any = fields
        for name in path:
            inside = inside[name]
        assert inside == SAID[path][1], path
    parsed = Contract(operation_table()).parse({"operation": command.operation, **fields})
    assert parsed.operation == command.operation
    assert parsed.loras[1].text_strength == -1.0


@each_command
def test_what_is_not_said_is_left_to_the_server(command):
    assert set(read(command, required(command))) == {"prompt", "image", "mask"} & {path[0] for path in paths(command)}


@each_command
def test_every_option_says_what_it_does(command):
    assert [option.path for option in command.options if not option.parameter.help] == []


@pytest.mark.parametrize(
    "words",
    [["--steps", "0"], ["--steps", "x"], ["--strength", "1.1"], ["--seed", "-1"], ["--format", "gif"], ["--lora", ":1"],
     ["--sampler-option", "eta"], ["--guidance", ":a=1"], ["--no-such-option"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_option_named(words):
    with pytest.raises(click.UsageError) as refused:
        read(drawing.transform, [*required(drawing.transform), *words])
    assert words[0] in refused.value.format_message()


def test_a_new_field_of_a_known_shape_needs_no_code_here():
    class Hires(BaseModel):
        scale: float = Field(2.0, ge=1, le=4, description="how much larger")

    made = create_model(
        "Later", operation=(Literal["later"], "later"), hires=(Hires | None, None), frames=(int, Field(9, le=99))
    )
    options = {option.path: option.parameter for option in options_of(made)}
    assert set(options) == {("hires", "scale"), ("frames",)}
    assert options["hires", "scale"].opts == ["--hires-scale"]
    assert (options["hires", "scale"].type.min, options["hires", "scale"].type.max) == (1, 4)


def test_a_field_of_an_unknown_shape_is_named():
    made = create_model("Odd", odd=(list[list[int]], ...))
    with pytest.raises(TypeError, match="odd"):
        options_of(made)
