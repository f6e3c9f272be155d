"""LoRA files of every dialect: what is read, and what is said of the rest."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers

from safelight.engine.adapters.targets import Targets
from safelight.engine.weights.ldm_keys import all_renamed, unet_pairs
from safelight.engine.weights.lora import read_lora
from safelight.errors import UnreadableFile

DOWN, UP = torch.ones(2, 8), torch.ones(8, 2)
ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.1.self_attn"


@pytest.mark.parametrize(
    ("down", "up", "component", "layer"),
    [
        ("lora_unet_a_to_q.lora_down.weight", "lora_unet_a_to_q.lora_up.weight", "network", "a_to_q"),
        ("lora_te_text_model_x.lora_down.weight", "lora_te_text_model_x.lora_up.weight", "text", "text_model_x"),
        ("lora_te1_x.lora_down.weight", "lora_te1_x.lora_up.weight", "text", "x"),
        ("lora_te2_x.lora_down.weight", "lora_te2_x.lora_up.weight", "text_2", "x"),
        (f"unet.{ATTENTION}.to_q.lora_A.weight", f"unet.{ATTENTION}.to_q.lora_B.weight", "network", "{}.to_q"),
        (
            f"base_model.model.{ATTENTION}.to_q.lora_A.weight",
            f"base_model.model.{ATTENTION}.to_q.lora_B.weight",
            "network",
            "{}.to_q",
        ),
        (
            f"base_model.model.{ATTENTION}.to_q.lora_A.default.weight",
            f"base_model.model.{ATTENTION}.to_q.lora_B.default.weight",
            "network",
            "{}.to_q",
        ),
        (f"unet.{ATTENTION}.to_q.lora.down.weight", f"unet.{ATTENTION}.to_q.lora.up.weight", "network", "{}.to_q"),
        (
            f"unet.{ATTENTION}.processor.to_q_lora.down.weight",
            f"unet.{ATTENTION}.processor.to_q_lora.up.weight",
            "network",
            "{}.to_q",
        ),
        (
            f"{ATTENTION}.processor.to_out_lora.down.weight",
            f"{ATTENTION}.processor.to_out_lora.up.weight",
            "network",
            "{}.to_out.0",
        ),
        (
            f"text_encoder.{TEXT}.q_proj.lora_linear_layer.down.weight",
            f"text_encoder.{TEXT}.q_proj.lora_linear_layer.up.weight",
            "text",
            f"{TEXT}.q_proj",
        ),
        (
            f"text_encoder.{TEXT}.to_out_lora.down.weight",
            f"text_encoder.{TEXT}.to_out_lora.up.weight",
            "text",
            f"{TEXT}.out_proj",
        ),
        (
            f"base_model.model.{TEXT}.q_proj.lora_A.weight",
            f"base_model.model.{TEXT}.q_proj.lora_B.weight",
            "text",
            None,
        ),
    ],
)
def test_each_dialect_names_component_and_layer(saved, down, up, component, layer):
    file = read_lora(saved({down: DOWN, up: UP}))
    layer = f"{TEXT}.q_proj" if layer is None else layer.format(ATTENTION)
    assert {name: list(pairs) for name, pairs in file.pairs.items()} == {component: [layer]}
    assert file.pairs[component][layer].scale == 1.0
    assert file.unmatched == file.unsupported == ()


def test_kohya_names_mean_the_layers_that_diffusers_makes_of_them(unet, clip, weights, saved):
    kohya = {}
    for prefix, module in (("lora_unet_", unet), ("lora_te_text_model_", clip)):
        for path, (down, up) in weights(module, lambda path: "attn" in path or ".ff." in path or "mlp" in path).items():
            name = prefix + path.replace(".", "_")
            kohya |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    theirs, _ = _convert_non_diffusers_lora_to_diffusers(dict(kohya))
    files = read_lora(saved(kohya)), read_lora(saved(theirs, "theirs"))
    for component, module in (("network", unet), ("text", clip)):
        find = Targets(module).find
        found, wanted = [{find(name): pair for name, pair in file.pairs[component].items()} for file in files]
        assert found.keys() == wanted.keys()
        assert None not in found
        assert len(found) >= 12
        for path, pair in found.items():
            assert torch.equal(pair.down, wanted[path].down)
            assert torch.equal(pair.up, wanted[path].up)


@pytest.mark.parametrize("attention_first", [True, False])
def test_original_names_mean_the_layers_of_the_checkpoint(attention_first):
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    layout = {} if attention_first else {"transformer_layers_per_block": (1, 2), "use_linear_projection": True}
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=2,
            norm_num_groups=8,
            cross_attention_dim=32,
            down_block_types=down if attention_first else down[::-1],
            up_block_types=up if attention_first else up[::-1],
            **layout,
        )
    targets = Targets(unet)
    originals = all_renamed([f"{path}." for path in targets.layers], unet_pairs(unet.config), "The UNet")
    assert len(originals) > 60
    for path, original in originals.items():
        name = original.removesuffix(".")
        assert targets.find(name) == targets.find(name.replace(".", "_")) == path.removesuffix(".")


def test_alpha_over_rank_is_the_scale(saved):
    named = {"lora_unet_x.lora_down.weight": DOWN, "lora_unet_x.lora_up.weight": UP}
    assert read_lora(saved(named | {"lora_unet_x.alpha": torch.tensor(1.0)})).pairs["network"]["x"].scale == 0.5


def test_diffusers_metadata_gives_alpha(saved):
    tensors = {
        f"unet.{at}.lora_{part}.weight": t for at in ("a.to_q", "a.to_k") for part, t in (("A", DOWN), ("B", UP))
    }
    config = {"unet.lora_alpha": 8, "unet.r": 2, "unet.alpha_pattern": {"to_k": 1}}
    pairs = read_lora(saved(tensors, metadata={"lora_adapter_metadata": json.dumps(config)})).pairs["network"]
    assert {name: pair.scale for name, pair in pairs.items()} == {"a.to_q": 4.0, "a.to_k": 0.5}


def test_peft_config_beside_the_file_gives_alpha_and_rslora(saved, tmp_path):
    path = saved({"base_model.model.x.lora_A.weight": DOWN, "base_model.model.x.lora_B.weight": UP}, "adapter_model")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "r": 2, "use_rslora": True}))
    assert read_lora(path).pairs["network"]["x"].scale == pytest.approx(4 / 2**0.5)


def test_a_broken_config_is_refused(saved):
    tensors = {"unet.x.lora_A.weight": DOWN, "unet.x.lora_B.weight": UP}
    with pytest.raises(UnreadableFile, match="adapter's config"):
        read_lora(saved(tensors, metadata={"lora_adapter_metadata": "[1]"}))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"strange.weight": DOWN}, "strange.weight: not a name that LoRA files use"),
        ({"lora_unet_y.lora_down.weight": DOWN}, "lora_unet_y.lora_down.weight: its layer lacks up"),
        ({"lora_unet_y.alpha": torch.tensor(1.0)}, "lora_unet_y.alpha: its layer lacks down and up"),
        ({"unet.x.lora_A.weight": DOWN}, "a second down of the same layer"),
        (
            {"unet.y.lora_A.weight": DOWN, "unet.y.lora_B.weight": UP, "unet.y.alpha": torch.tensor(float("nan"))},
            "unet.y.alpha: its alpha is not a finite number",
        ),
        (
            {"lora_unet_y.lora_down.weight": DOWN, "lora_unet_y.lora_up.weight": torch.ones(8, 3)},
            "lora_unet_y.lora_up.weight: down [2, 8] and up [8, 3] are no pair",
        ),
    ],
)
def test_what_is_not_used_is_named(saved, extra, said):
    named = {"lora_unet_x.lora_down.weight": DOWN, "lora_unet_x.lora_up.weight": UP}
    file = read_lora(saved(dict(sorted((named | extra).items()))))
    assert any(line.endswith(said) for line in file.unmatched)


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"), "LoHa"),
        (("lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"), "LoKr"),
        (("lora_down.weight", "lora_up.weight", "alpha", "dora_scale"), "DoRA"),
        (("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"), "DoRA"),
        (("oft_blocks", "alpha"), "OFT"),
        (("diff", "diff_b"), "a full difference of weights"),
    ],
)
def test_other_kinds_are_reported_in_words_and_left_out(saved, tensors, kind):
    shapes = {"alpha": torch.tensor(1.0), "lora_up.weight": UP, "lora_B.weight": UP}
    file = read_lora(saved({f"lora_unet_x.{name}": shapes.get(name, DOWN) for name in tensors}))
    assert file.pairs == {}
    assert file.unmatched == ()
    (sentence,) = file.unsupported
    assert sentence.startswith(f"1 layers have {kind}")
    assert "left out" in sentence


def test_a_component_the_model_lacks_is_reported(saved):
    file = read_lora(saved({"lora_te2_x.lora_down.weight": DOWN, "lora_te2_x.lora_up.weight": UP}))
    (sentence,) = file.foreign(("network", "text"))
    assert "'text_2'" in sentence
    assert file.foreign(("network", "text", "text_2")) == ()


def test_other_files_are_refused(saved, tmp_path):
    with pytest.raises(UnreadableFile, match="holds no LoRA"):
        read_lora(saved({"model.weight": DOWN}))
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UnreadableFile, match="not a readable safetensors"):
        read_lora(tmp_path / "pickle.safetensors")
    with pytest.raises(UnreadableFile, match="not a readable safetensors"):
        read_lora(tmp_path / "absent.safetensors")
