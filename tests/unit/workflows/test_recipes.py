"""Recipes without an engine: anyone can count and explain their stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from safelight.core import stages
from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.stages import Handle
from safelight.core.tables import Tables
from safelight.workflows.context import Context

from .conftest import OneModel

Asked = list[Any]


def walk(recipe: Any) -> tuple[Asked, Any]:
    """All stages a recipe asks for, answered with handles; and its result."""
    asked: Asked = []
    answer: Any = None
    try:
        while True:
            yielded = recipe.send(answer)
            group = yielded if isinstance(yielded, tuple) else (yielded,)
            handles = tuple(Handle(len(asked) + index) for index in range(len(group)))
            asked.extend(group)
            answer = handles if isinstance(yielded, tuple) else handles[0]
    except StopIteration as stop:
        return asked, stop.value


def stages_of(tables: Tables, context: Context, operation: str, **body: Any) -> tuple[Asked, Any]:
    contract = Contract(tables.operations)
    spec = contract.spec(operation)
    request = contract.parse({"operation": operation, "prompt": "a house", "seed": 7, **body})
    recipe: Callable[..., Any] = attribute(spec.recipe)
    return walk(recipe(attribute(spec.resolve)(request, context)))


def names(asked: Asked) -> list[str]:
    return [type(stage).__name__ for stage in asked]


def test_generate(tables: Tables, context: Context) -> None:
    asked, result = stages_of(tables, context, "image.generate", batch_size=2, negative_prompt="rain")
    assert names(asked) == ["EncodeText"] * 2 + ["Sample"] * 2 + ["Decode"] * 2 + ["Save"] * 2
    assert [stage.prompt for stage in asked[:2]] == ["a house", "rain"]
    assert [stage.noise.picture for stage in asked[2:4]] == [0, 1]
    assert [stage.seed for stage in asked[6:]] == [7, 8]
    assert result == {"seed": 7, "pictures": 2}
    assert "Seed: 8" in asked[7].metadata["parameters"]


def test_transform_starts_from_the_pictures_latent(tables: Tables, context: Context) -> None:
    asked, _ = stages_of(tables, context, "image.transform", image="u", strength=0.5)
    assert names(asked) == ["EncodePixels", "EncodeText", "EncodeText", "Sample", "Decode", "Save"]
    sample = asked[3]
    assert isinstance(sample, stages.Sample)
    assert sample.latent == Handle(0)
    assert sample.strength == 0.5


def test_inpaint_keeps_outside_and_composites(tables: Tables, context: Context) -> None:
    asked, _ = stages_of(tables, context, "image.inpaint", image="u", mask="u")
    assert names(asked) == [
        "EncodePixels",
        "ReadMask",
        "EncodeText",
        "EncodeText",
        "Sample",
        "Decode",
        "Composite",
        "Save",
    ]
    chain = asked[4].segments[0].guidance
    assert [use.kind for use in chain] == ["cfg", "keep_outside"]
    assert chain[1].inputs == {"latent": Handle(0), "mask": Handle(1)}
    assert asked[7].pixels == Handle(6)


def test_metadata_says_what_was_used_and_not_where_it_lies(tables: Tables, context: Context) -> None:
    asked, _ = stages_of(tables, context, "image.inpaint", image="u", mask="u", loras=[{"name": "sepia"}])
    said = asked[-1].metadata["safelight"]
    assert '"name":"tiny"' in said and '"header_hash"' in said and '"sha256"' in said
    assert not any(word in said for word in ("/models", "/loras", "/u.png", "inode", "mtime"))


def test_metadata_can_be_left_out(tables: Tables, context: Context) -> None:
    asked, _ = stages_of(tables, context, "image.generate", output={"metadata": False})
    assert asked[-1].metadata == {}


def test_infotext_reads_as_a1111_writes(tables: Tables, context: Context) -> None:
    asked, _ = stages_of(
        tables, context, "image.transform", image="u", negative_prompt="rain", sampler="DPM++ 2M", schedule="karras",
        clip_skip=2, loras=[{"name": "sepia", "strength": 0.5}], guidance_scale=5, width=128, height=128, steps=4,
    )  # fmt: skip
    lines = asked[-1].metadata["parameters"].splitlines()
    assert lines[0] == "a house <lora:sepia:0.5>"
    assert lines[1] == "Negative prompt: rain"
    assert lines[2].startswith(
        "Steps: 4, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 128x128, "
        "Model: tiny, Denoising strength: 0.8, Clip skip: 2, Version: safelight "
    ), "no hash is better than another kind of hash"


def test_hashes_are_of_whole_files_and_seeds_wrap_around(tables: Tables) -> None:
    model = OneModel()
    model.entry = dataclasses.replace(
        model.entry, ref=model.entry.ref.model_copy(update={"sha256": "0123456789abcdef"})
    )
    asked, _ = stages_of(tables, Context(model, tables), "image.generate", seed=2**64 - 1, batch_size=2)
    first, second = asked[-2:]
    assert "Model hash: 0123456789, Model: tiny" in first.metadata["parameters"]
    assert (first.seed, second.seed) == (2**64 - 1, 0)
    assert "Seed: 0," in second.metadata["parameters"]
