"""The single file: the original layout's names, everything else in its metadata, nothing lost either way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from training.adapters import Adapter, kohya_layers, read
from training.ldm_keys import from_ldm, to_ldm
from training.networks import PlainAttention, new_network, new_text_encoder, new_tokenizer
from training.single_file import Postcards, pack, unpack

from safelight.engine.weights.ldm_keys import all_renamed, unet_pairs
from safelight.errors import UnreadableFile

DATA = Path("src/safelight/data")
SHIPPED = DATA / "models/postcards/postcards.safetensors"


def tiny_unet(linear: bool, layers: int = 2) -> UNet2DConditionModel:
    """Stable Diffusion 1's blocks, the lowest without attention, in miniature."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=layers,
        block_out_channels=(8, 8, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=linear,
    )


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=4,
        latent_channels=4,
    )


@pytest.fixture(scope="module")
def postcards():
    tokenizer = new_tokenizer(captions=300)
    return Postcards(tokenizer, new_text_encoder(tokenizer).eval(), new_network(8).eval(), tiny_eight_channel_vae())


def tiny_eight_channel_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=8,
    ).eval()  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("linear", [False, True])
def test_diffusers_reads_the_converted_keys_as_the_same_weights(tmp_path, linear):
    unet, vae = tiny_unet(linear), tiny_vae()
    file = to_ldm(unet.state_dict(), vae.state_dict(), {}, unet.config, vae.config)
    save_file({name: tensor.contiguous() for name, tensor in file.items()}, tmp_path / "model.safetensors")
    for name, network in (("unet", unet), ("vae", vae)):
        network.save_config(tmp_path / name)
        loaded = type(network).from_single_file(
            str(tmp_path / "model.safetensors"),
            config=str(tmp_path),
            subfolder=name,
            local_files_only=True,
            torch_dtype=torch.float32,
        )
        expected = network.state_dict()
        assert loaded.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_the_names_are_stable_diffusion_1s():
    config = tiny_unet(False).config
    names = all_renamed(tiny_unet(False).state_dict(), unet_pairs(config), "The UNet")
    assert names["up_blocks.0.upsamplers.0.conv.weight"] == "output_blocks.2.1.conv.weight"
    assert names["up_blocks.1.upsamplers.0.conv.weight"] == "output_blocks.5.2.conv.weight"
    assert names["down_blocks.0.downsamplers.0.conv.bias"] == "input_blocks.3.0.op.bias"
    inner = "transformer_blocks.0.attn1.to_q.weight"
    assert names[f"down_blocks.1.attentions.0.{inner}"] == f"input_blocks.4.1.{inner}"
    vae = tiny_vae()
    file = to_ldm({}, vae.state_dict(), {}, config, vae.config)
    assert file["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (16, 16, 1, 1)
    assert "first_stage_model.decoder.up.2.upsample.conv.weight" in file


def test_the_conversion_has_an_exact_inverse():
    unet, vae = tiny_unet(True, layers=1), tiny_vae()
    text = {"embeddings.position_embedding.weight": torch.randn(3, 2)}
    parts = from_ldm(
        to_ldm(unet.state_dict(), vae.state_dict(), text, unet.config, vae.config), unet.config, vae.config
    )
    for back, before in zip(parts, (unet.state_dict(), vae.state_dict(), text), strict=True):
        assert back.keys() == before.keys()
        assert all(torch.equal(back[key], before[key]) for key in before)


def test_a_tensor_that_the_config_does_not_describe_is_refused():
    unet, vae = tiny_unet(True), tiny_vae()
    foreign = unet.state_dict() | {"down_blocks.7.resnets.0.conv1.weight": torch.zeros(1)}
    with pytest.raises(UnreadableFile, match=r"down_blocks\.7"):
        to_ldm(foreign, vae.state_dict(), {}, unet.config, vae.config)


def test_a_packed_model_comes_back_the_same(postcards, tmp_path):
    pack(postcards, tmp_path / "model.safetensors", ([[0.1, 0.2, 0.3]] * 8, [0.0, 0.0, 0.0]))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    back = unpack(tmp_path / "model.safetensors")
    for name in ("text", "unet", "vae"):
        before, after = getattr(postcards, name).state_dict(), getattr(back, name).state_dict()
        assert all(torch.equal(after[key], before[key].half().float()) for key in before)
    words = "a red house, and an unheard-of snowman!"
    assert back.tokenizer(words).input_ids == postcards.tokenizer(words).input_ids


@pytest.mark.skipif(not SHIPPED.exists(), reason="not in a checkout")
def test_the_shipped_file_says_all_that_its_keys_cannot():
    assert SHIPPED.stat().st_size < 40_000_000
    with safe_open(SHIPPED, "pt") as file:
        said = file.metadata()
        assert all(file.get_slice(name).get_dtype() == "F16" for name in file.keys())  # noqa: SIM118
    assert said["safelight.prediction"] == "v"
    assert said["safelight.zero_terminal_snr"] == "true"
    components = json.loads(said["safelight.components"])
    assert len(json.loads(said["safelight.preview_factors"])) == components["vae"]["latent_channels"]
    assert float(said["safelight.scaling_factor"]) == components["vae"]["scaling_factor"]
    limits = json.loads(said["safelight.tokenizer_config"])
    tokenizer = Tokenizer.from_str(said["safelight.tokenizer"])
    ids = tokenizer.encode("a snowman").ids
    assert tokenizer.id_to_token(ids[0]) == limits["bos_token"]
    assert tokenizer.id_to_token(ids[-1]) == limits["eos_token"]
    assert len(ids) < limits["model_max_length"] <= components["text_encoder"]["max_position_embeddings"]


def test_an_adapter_changes_the_model_while_attached_and_comes_back_from_its_file(postcards, tmp_path):
    torch.manual_seed(0)
    adapter = Adapter(kohya_layers(postcards), rank=2, alpha=2.0)
    for pair in adapter.pairs.values():
        torch.nn.init.normal_(pair.up.weight, std=0.2)
        pair.half().float()
    x, t, states = torch.randn(1, 8, 8, 8), torch.tensor([500]), torch.randn(1, 77, 160)

    def says() -> torch.Tensor:
        with torch.no_grad():
            return postcards.unet(x, t, states).sample

    before = says()
    with adapter.attached():
        during = says()
    assert not torch.allclose(before, during, atol=1e-3)
    assert torch.equal(says(), before), "detaching leaves something behind"
    adapter.write(tmp_path / "a.safetensors", {"ss_network_dim": "2"})
    with read(tmp_path / "a.safetensors", postcards).attached():
        assert torch.allclose(says(), during, atol=1e-4)


def test_an_adapters_layers_have_kohyas_names(postcards):
    names = kohya_layers(postcards)
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" in names
    assert "lora_unet_up_blocks_2_attentions_1_transformer_blocks_0_ff_net_0_proj" in names
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj" in names
    assert "lora_te_text_model_encoder_layers_3_mlp_fc2" in names


def test_plain_attention_equals_the_fused_kernel(postcards):
    x, t, states = torch.randn(2, 8, 8, 8), torch.tensor([10, 900]), torch.randn(2, 77, 160)
    fused = postcards.unet.attn_processors
    with torch.no_grad():
        expected = postcards.unet(x, t, states).sample
        postcards.unet.set_attn_processor(PlainAttention())
        found = postcards.unet(x, t, states).sample
        postcards.unet.set_attn_processor(fused)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "text"), [("sepia", False), ("snowman", True)])
def test_the_shipped_adapters_fit_the_shipped_model_and_change_what_it_says(name, text):
    path = DATA / f"loras/{name}.safetensors"
    assert path.stat().st_size < 2_000_000
    with safe_open(path, "pt") as file:
        said, names = file.metadata(), list(file.keys())
    assert said["ss_base_model_version"] == "sd_v1"
    assert said["modelspec.trigger_phrase"]
    assert any(key.startswith("lora_te_") for key in names) == text
    assert {key.split(".", 1)[1] for key in names} == {"lora_down.weight", "lora_up.weight", "alpha"}
    model = unpack(SHIPPED)
    x, t, states = torch.randn(1, 8, 16, 16), torch.tensor([900]), torch.randn(1, 77, 160)
    with torch.no_grad():
        before = model.unet(x, t, states).sample
        with read(path, model).attached():
            during = model.unet(x, t, states).sample
    assert (during - before).abs().mean() > 0.02
