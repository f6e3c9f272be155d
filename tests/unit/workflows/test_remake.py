"""What a file tells is enough to ask for it again; where it is not, the reason is said by name."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from safelight.artifacts import MADE, REQUEST
from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.tables import Tables
from safelight.errors import InvalidRequest
from safelight.workflows import remake
from safelight.workflows.context import Context
from safelight.workflows.infotext import metadata

PLAN = {"device": "cpu", "passes": "own"}
MADE_SO = {MADE: json.dumps({"picture": 1, "plan": PLAN, "width": 2})}


def resolve(tables: Tables, context: Context, body: dict) -> BaseModel:
    contract = Contract(tables.operations)
    request = contract.parse(body)
    return attribute(contract.spec(body["operation"]).resolve)(request, context)


RICH = {
    "prompt": "a house", "negative_prompt": "rain", "seed": 2**64 - 1, "steps": 7, "guidance_scale": 5.5, "width": 128,
    "height": 192, "sampler": "dpmpp_2m_sde", "sampler_options": {"eta": 0.5}, "schedule": "karras", "batch_size": 3,
    "schedule_options": {"rho": 5.0}, "clip_skip": 2, "parser": "plain", "noise": {"source": "comfy"},
    "loras": [{"name": "sepia", "strength": 0.5, "text_strength": 0.0}, {"name": "sepia"}],
    "guidance": [{"kind": "rescale", "amount": 0.3}], "output": {"format": "jpeg", "quality": 80},
    "deterministic": True,
}  # fmt: skip


@pytest.mark.parametrize("fields", [{"prompt": "a house", "seed": 3}, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("image.generate", {}),
        ("image.transform", {"image": "u", "strength": 0.4, "resize": "pad"}),
        ("image.inpaint", {"image": "u", "mask": "u", "mask_blur": 9}),
    ],
)
def test_what_a_file_tells_resolves_to_the_same_request(tables, context, operation, more, fields) -> None:
    resolved = resolve(tables, context, {"operation": operation, **fields, **more})
    found = remake.origin({**metadata(resolved, 1), **MADE_SO}, "house.png")
    assert (found.picture, found.plan, found.width, found.operation) == (1, PLAN, 2, operation)
    assert set(found.pictures) == {name for name in more if name in ("image", "mask")}
    assert found.deterministic is ("deterministic" in fields)
    again = resolve(tables, context, remake.asked(found, Contract(tables.operations).spec(operation)))
    assert again == resolved
    assert remake.differences(found, again.model_dump(mode="json")) == []


def test_what_resolves_otherwise_is_told_by_name(tables, context) -> None:
    resolved = resolve(tables, context, {"operation": "image.transform", "image": "u", **RICH})
    found = remake.origin({**metadata(resolved, 0), **MADE_SO}, "house.png")
    other = resolved.model_dump(mode="json")
    other["model"] |= {"header_hash": "other", "sha256": "known by now", "path": "/elsewhere", "inode": 5}
    other["loras"][0]["file"]["size"] = 9
    other["image"] |= {"id": "another", "sha256": "no more"}
    other["sampler_options"]["eta"] = 1.0
    other["newer"] = {"than": "the file"}
    assert remake.differences(found, other) == [
        f"model.header_hash was {'ab' * 32!r}, now it is 'other'",
        "loras.0.file.size was 1, now it is 9",
        "sampler_options.eta was 0.5, now it is 1.0",
        f"image.sha256 was {'ef' * 32!r}, now it is 'no more'",
    ]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({}, "tells nothing of how it was made"),
        ({"Software": "another"}, "tells nothing of how it was made"),
        ({"parameters": "a house\nSteps: 4"}, "A1111's infotext alone"),
        ({"prompt": "{}", "workflow": "{}"}, "a ComfyUI graph"),
        ({REQUEST: "{}", **MADE_SO}, "KeyError('operation')"),
        ({REQUEST: '{"operation": 3}', **MADE_SO}, "is no name"),
        ({REQUEST: "[" * 100_000, **MADE_SO}, "cannot be read"),
        ({REQUEST: '{"operation": "image.generate"}', MADE: '{"picture": "first"}'}, "cannot be read"),
        ({REQUEST: '{"operation": "image.generate"}'}, "tells nothing"),
    ],
)
def test_a_file_that_does_not_tell_enough(texts, said) -> None:
    with pytest.raises(InvalidRequest) as caught:
        remake.origin(texts, "house.png")
    assert said in str(caught.value.errors[0].message) and caught.value.errors[0].hint
