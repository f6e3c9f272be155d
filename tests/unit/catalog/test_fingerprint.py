"""Which family a checkpoint is of, what it predicts, and who said so."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors import safe_open
from tests.builders.headers import header_of, write_sparse
from tests.builders.stable_diffusion import tiny_stable_diffusion, write_folder, write_single_file

from safelight.catalog.fingerprint import UNET_CROSS, UNET_IN, UNET_OUT, examine, identify, is_adapter
from safelight.catalog.headers import read_header
from safelight.catalog.index import FolderCatalog
from safelight.errors import UnreadableFile

TEXT_1 = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
TEXT_1_OLD = "cond_stage_model.transformer.embeddings.token_embedding.weight"
TEXT_2 = "cond_stage_model.model.token_embedding.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
VALUES = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


def shapes(text=TEXT_1, width=768, given=4, made=4, **more):
    return {
        UNET_IN: (320, given, 3, 3),
        UNET_CROSS: (320, width),
        UNET_OUT: (made, 320, 3, 3),
        text: (49408, width),
        VAE: (512, made, 3, 3),
        **more,
    }


def file(tmp_path, metadata=None, name="model.safetensors", **kinds):
    return write_sparse(tmp_path / name, header_of(shapes(**kinds), metadata=metadata))


def test_the_layout_of_the_text_encoder_tells_the_family(tmp_path):
    one = examine(file(tmp_path))
    assert (one.family, one.channels, one.context_width) == ("sd1", 4, 768)
    assert (one.declared.prediction, one.declared.zero_terminal_snr) == ("eps", False)
    assert examine(file(tmp_path, text=TEXT_1_OLD)).family == "sd1"
    two = examine(file(tmp_path, text=TEXT_2, width=1024))
    assert (two.family, two.context_width, two.declared.prediction) == ("sd2", 1024, "v")
    assert two.stored == {"F16": sum(2 * int(np.prod(shape)) for shape in shapes(TEXT_2, 1024).values())}


def layers(template, count):
    return {template.format(index): (4,) for index in range(count)}


@pytest.mark.parametrize(
    ("kinds", "text_layers"),
    [
        (layers("cond_stage_model.transformer.text_model.encoder.layers.{}.layer_norm1.bias", 12), 12),
        (layers("cond_stage_model.transformer.encoder.layers.{}.layer_norm1.bias", 12) | {"text": TEXT_1_OLD}, 12),
        (layers("cond_stage_model.model.transformer.resblocks.{}.ln_1.bias", 24) | {"text": TEXT_2, "width": 1024}, 23),
        ({}, 0),
    ],
    ids=["transformers", "older", "OpenCLIP", "none"],
)
def test_the_layers_of_the_text_encoder_are_counted(tmp_path, kinds, text_layers):
    assert examine(file(tmp_path, **kinds)).text_layers == text_layers


def test_metadata_and_folders_say_their_layers_themselves(tmp_path):
    one = layers("cond_stage_model.transformer.text_model.encoder.layers.{}.layer_norm1.bias", 12)
    said = {"safelight.components": json.dumps({"text_encoder": {"num_hidden_layers": 3}})}
    assert examine(file(tmp_path, said, **one)).text_layers == 3
    bundled = FolderCatalog().model(None)
    with safe_open(bundled.ref.path, "pt") as opened:
        encoder = json.loads(opened.metadata()["safelight.components"])["text_encoder"]
    assert bundled.text_layers == encoder["num_hidden_layers"] > 1
    for family in ("sd1", "sd2"):
        model = tiny_stable_diffusion(family)
        index = write_folder(model, tmp_path / family)
        single = write_single_file(model, tmp_path / f"{family}.safetensors")
        config = json.loads((index.parent / "text_encoder" / "config.json").read_text())
        assert examine(index).text_layers == examine(single).text_layers == config["num_hidden_layers"]


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"given": 9}, "an inpainting model of Stable Diffusion 1.x: its network reads 9 channels and gives 4"),
        ({"given": 8}, "an instruction-editing model of Stable Diffusion 1.x"),
        ({"given": 5, "text": TEXT_2}, "a depth model of Stable Diffusion 2.x"),
        ({"given": 7}, "a variant of Stable Diffusion 1.x"),
    ],
)
def test_a_network_that_reads_more_than_the_latent_is_named(tmp_path, kinds, said):
    with pytest.raises(UnreadableFile, match=said):
        examine(file(tmp_path, **kinds))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["conditioner.embedders.0.transformer.x", "model.diffusion_model.y"], "Stable Diffusion XL; 2 tensors"),
        (["double_blocks.0.img_attn.qkv.weight"], "Flux or its kin"),
        (["decoder.conv_in.weight", "encoder.conv_in.weight"], "an autoencoder alone"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["emb_params"], "a textual inversion"),
        (["something.else.weight", "something.else.bias"], r"like 2 tensors: something.else.* \(2\)"),
        ([], "0 tensors: none"),
    ],
)
def test_an_unknown_layout_is_answered_with_what_was_seen(tmp_path, names, said):
    path = write_sparse(tmp_path / "model.safetensors", header_of(dict.fromkeys(names, (2, 2))))
    with pytest.raises(UnreadableFile, match=said) as refused:
        examine(path)
    assert "Known: Stable Diffusion 1.x, Stable Diffusion 2.x" in refused.value.hint


def test_a_file_without_its_autoencoder_is_told_so(tmp_path):
    whole = shapes()
    del whole[VAE]
    path = write_sparse(tmp_path / "model.safetensors", header_of(whole))
    with pytest.raises(UnreadableFile, match="holds no autoencoder"):
        examine(path)


def said(path):
    declared = examine(path).declared
    return declared.prediction, declared.zero_terminal_snr


def test_who_is_believed_about_the_prediction(tmp_path):
    """The order, from the last to the first: each source added beats those before it."""
    path = file(tmp_path)
    assert said(path) == ("eps", False)
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert said(path) == ("v", False)
    path = file(tmp_path, v_pred=(1,), ztsnr=(1,))
    path.with_suffix(".yaml").write_text("model:\n  params:\n    timesteps: 1000\n")
    assert said(path) == ("v", True)
    path = file(tmp_path, {"modelspec.prediction_type": "epsilon"}, v_pred=(1,), ztsnr=(1,))
    assert said(path) == ("eps", True)
    words = {
        "modelspec.prediction_type": "epsilon",
        "safelight.prediction": "v",
        "safelight.zero_terminal_snr": "false",
    }
    path = file(tmp_path, words, ztsnr=(1,))
    assert said(path) == ("v", False)
    own = tmp_path / "model.safelight.json"
    own.write_text(json.dumps({"prediction": "eps", "zero_terminal_snr": True, "title": "Mine"}))
    declared = examine(path).declared
    assert (declared.prediction, declared.zero_terminal_snr, declared.title) == ("eps", True, "Mine")
    assert declared.notes == ("prediction eps: override", "zero terminal SNR yes: override")


@pytest.mark.parametrize(("spread", "prediction"), [(0.02, "eps"), (0.2, "v"), (0.0, "v")])
def test_stable_diffusion_2_is_told_apart_by_the_spread_of_a_bias(tmp_path, spread, prediction):
    path = file(tmp_path, text=TEXT_2, width=1024, **{VALUES: (320,)})
    header = read_header(path)
    values = np.random.default_rng(0).normal(0, spread, 320).astype("<f2")
    with path.open("r+b") as written:
        written.seek(header.data + header.tensors[VALUES].start)
        written.write(values.tobytes())
    assert said(path) == (prediction, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prediction": "maybe"}', "its prediction is 'maybe'"),
        ('{"predicton": "v"}', "'predicton' cannot be 'v'"),
        ('{"zero_terminal_snr": "yes"}', "'zero_terminal_snr' cannot be 'yes'"),
        ("[1]", "is not a JSON object"),
        ("{", "is not valid JSON"),
    ],
)
def test_a_wrong_override_is_refused_with_what_is_allowed(tmp_path, content, message):
    path = file(tmp_path)
    (tmp_path / "model.safelight.json").write_text(content)
    with pytest.raises(UnreadableFile, match=message) as refused:
        examine(path)
    assert refused.value.hint.startswith(("Allowed: prediction (str)", "Known: eps"))


def test_metadata_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"safelight.defaults is not JSON"):
        examine(file(tmp_path, {"safelight.defaults": "{"}))


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_x.lora_down.weight",
        "unet.x.lora_A.weight",
        "lora_unet_x.hada_w1_a",
        "lora_te_x.lokr_w1",
        "x.lora.up.weight",
    ],
)
def test_a_lora_is_known_by_the_endings_of_its_names(tmp_path, name):
    header = read_header(write_sparse(tmp_path / "some.safetensors", header_of({name: (4, 8)})))
    assert is_adapter(header)
    with pytest.raises(UnreadableFile):
        identify(header)
    assert not is_adapter(read_header(file(tmp_path)))


def test_reading_values_never_leaves_the_file(tmp_path):
    """The tested tensor is cut off: the file is refused before anything is decided from it."""
    path = file(tmp_path, text=TEXT_2, width=1024, **{VALUES: (320,)})
    with path.open("r+b") as written:
        length = struct.unpack("<Q", written.read(8))[0]
        written.truncate(8 + length + 10)
    with pytest.raises(UnreadableFile, match="cut short"):
        examine(path)
