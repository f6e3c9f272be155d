"""What was asked becomes complete, and everything that is wrong is told at once."""

from __future__ import annotations

from typing import Any

import pytest

from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.tables import Tables
from safelight.errors import InvalidRequest
from safelight.workflows.context import Context

from .conftest import OneModel, upload


def resolved(tables: Tables, context: Context, operation: str = "image.generate", **body: Any) -> Any:
    contract = Contract(tables.operations)
    request = contract.parse({"operation": operation, "prompt": "a house", **body})
    outcome = attribute(contract.spec(operation).resolve)(request, context)
    assert contract.load(outcome.model_dump(mode="json")) == outcome
    return outcome


def test_every_default_is_filled_in(tables: Tables, context: Context) -> None:
    got = resolved(tables, context)
    assert (got.steps, got.guidance_scale, got.width, got.height) == (20, 7.5, 512, 512)
    assert (got.sampler, got.schedule, got.family, got.model.name) == ("euler", "normal", "sd1", "tiny")
    assert 0 <= got.seed < 2**53
    assert None not in got.model_dump().values()


def test_a_models_own_defaults_come_before_the_familys(tables: Tables) -> None:
    model = OneModel(steps=9, width=128, height=160, guidance_scale=4, guidance_rescale=0.5, sampler="heun")
    got = resolved(tables, Context(model, tables))
    assert (got.steps, got.width, got.height, got.guidance_scale, got.sampler) == (9, 128, 160, 4, "heun")
    assert [(use.kind, use.options) for use in got.guidance] == [("rescale", {"amount": 0.5})]
    asked = resolved(tables, Context(model, tables), steps=3, guidance=[{"kind": "rescale", "amount": 0.0}])
    assert asked.steps == 3
    assert asked.guidance[0].options == {"amount": 0.0}


def test_names_become_canonical(tables: Tables, context: Context) -> None:
    got = resolved(tables, context, sampler="Euler a", schedule="Karras", sampler_options={"eta": 0.5})
    assert (got.sampler, got.schedule) == ("euler_ancestral", "karras")
    assert got.sampler_options == {"eta": 0.5, "s_noise": 1.0}
    assert resolved(tables, context, schedule="automatic").schedule == "normal"


def test_a_pictures_own_size_is_taken_to_the_grid(tables: Tables, context: Context) -> None:
    got = resolved(tables, context, "image.transform", image="u")
    assert (got.width, got.height) == (296, 200)
    assert got.image.id == "u"
    assert got.strength == 0.8
    inpaint = resolved(tables, context, "image.inpaint", init_image="u", mask_image="u", width=256)
    assert (inpaint.width, inpaint.height, inpaint.mask_blur) == (256, 200, 4)
    small = Context(OneModel(), tables, {"image": upload(20, 20)})
    assert resolved(tables, small, "image.transform", image="u").width == 64


def test_loras_are_pinned_and_the_text_strength_follows(tables: Tables, context: Context) -> None:
    got = resolved(tables, context, loras=[{"name": "sepia", "strength": 0.5}, {"name": "sepia", "text_strength": 0}])
    assert [(lora.strength, lora.text_strength) for lora in got.loras] == [(0.5, 0.5), (1.0, 0.0)]
    assert got.loras[0].file.name == "sepia"


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        ({"model": "tinny"}, "model", "tinny"),
        ({"sampler": "eulr"}, "sampler", "euler"),
        ({"schedule": "karas"}, "schedule", "karras"),
        ({"width": 513}, "width", "512 or 520"),
        ({"width": 4096, "height": 4096}, "width", "16,777,216"),
        ({"loras": [{"name": "nope"}]}, "loras.0.name", "sepia"),
        ({"sampler_options": {"etta": 1}}, "sampler_options.etta", "no such parameter"),
        ({"sampler": "euler_ancestral", "sampler_options": {"eta": 7}}, "sampler_options.eta", "0 to 1"),
        ({"schedule": "karras", "schedule_options": {"sigma_max": 1e9}}, "schedule_options.sigma_max", "0.1 to 100000"),
        (
            {"schedule": "karras", "schedule_options": {"sigma_min": 3, "sigma_max": 2}},
            "schedule_options.sigma_min",
            "3.0 is not below sigma_max, 2.0",
        ),
        ({"guidance": [{"kind": "rescal"}]}, "guidance.0.kind", "rescale"),
        ({"guidance": [{"kind": "rescale", "amount": 2}]}, "guidance.0.amount", "0 to 1"),
        ({"guidance": [{"kind": "keep_outside"}]}, "guidance.0.kind", "rescale"),
    ],
)
def test_faults_name_value_and_way_out(
    tables: Tables, context: Context, body: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(tables, context, **body)
    (error,) = caught.value.errors
    assert error.path == path
    assert said in f"{error.message} {error.hint}"


def test_no_clip_skip_beyond_the_models_own_layers_is_queued(tables: Tables, context: Context) -> None:
    small = Context(OneModel(text_layers=4), tables)
    assert resolved(tables, small, clip_skip=4).clip_skip == 4
    with pytest.raises(InvalidRequest) as caught:
        resolved(tables, small, clip_skip=5)
    (error,) = caught.value.errors
    assert (error.path, error.message) == ("clip_skip", "there is no layer 5: the text encoder of tiny has 4")
    assert error.hint.startswith("Allowed: 1 to 4")
    assert resolved(tables, context, clip_skip=12).clip_skip == 12  # not known: the worker decides


def test_all_faults_are_told_at_once(tables: Tables, context: Context) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolved(tables, context, width=513, sampler="x", schedule="y", loras=[{"name": "z"}])
    assert {error.path for error in caught.value.errors} == {"width", "sampler", "schedule", "loras.0.name"}
