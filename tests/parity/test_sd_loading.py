"""Stable Diffusion 1 and 2 in each layout: the same bits as the source, and the same pictures as diffusers."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file
from tests.builders.stable_diffusion import (
    components,
    tiny_stable_diffusion,
    write_folder,
    write_single_file,
)
from torch import Tensor

from safelight.engine.conditioning import Conditioning
from safelight.engine.families.sd import StableDiffusion
from safelight.engine.weights.tokenizers import shipped_clip
from safelight.errors import InvalidRequest, UnreadableFile

torch.set_num_threads(1)
CPU = torch.device("cpu")
FAMILIES = ("sd1", "sd2")
# diffusers reads its schedulers' tables in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def opened(path, dtype=torch.float32, channels_last=False) -> StableDiffusion:
    return StableDiffusion(str(path), dtype, CPU, channels_last)


def sources(model) -> dict[str, dict[str, Tensor]]:
    return {"network": model.unet.state_dict(), "text": model.text.state_dict(), "vae": model.vae.state_dict()}


def loaded(family: StableDiffusion) -> dict[str, dict[str, Tensor]]:
    return {
        "network": family.network().module.state_dict(),
        "text": family.text().module.state_dict(),
        "vae": family.autoencoder().module.state_dict(),
    }


def same_bits(ours, theirs, half=False) -> None:
    assert ours.keys() == theirs.keys()
    for component, state in theirs.items():
        assert ours[component].keys() == state.keys()
        for name, tensor in state.items():
            assert torch.equal(ours[component][name], tensor.half().float() if half else tensor), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "layout", ["file", "file of fp16", "file without a tokenizer", "folder", "folder of a variant"]
)
def test_every_layout_loads_to_the_bits_of_the_source(family, layout, tmp_path):
    model = tiny_stable_diffusion(family, real_words="without" in layout)
    if layout.startswith("folder"):
        path = write_folder(model, tmp_path / "tiny", "fp16" if "variant" in layout else None)
    else:
        dtype = torch.float16 if "fp16" in layout else torch.float32
        path = write_single_file(model, tmp_path / "tiny.safetensors", dtype, tokenizer="without" not in layout)
    tiny = opened(path)
    same_bits(loaded(tiny), sources(model), half="fp16" in layout)
    sizes = [tiny.size(part) for part in ("network", "text", "vae")]
    assert sizes == [tiny.network().bytes, tiny.text().bytes, tiny.autoencoder().bytes]
    text = tiny.text()
    if "without" in layout:
        assert text.tokenize("a photo of a cat") == shipped_clip().tokenize("a photo of a cat")
        assert (text.begin, text.end, text.padding) == (49406, 49407, 0 if family == "sd2" else 49407)
    else:
        words = model.tokenizer
        assert text.tokenize("a red house") == words("a red house", add_special_tokens=False).input_ids
        assert (text.begin, text.end, text.padding) == (words.bos_token_id, words.eos_token_id, words.pad_token_id)
    assert text.chunk_length == 77


@pytest.mark.parametrize("family", FAMILIES)
def test_our_single_files_are_the_layout_that_diffusers_reads(family, tmp_path):
    """The writer of the tests is held to diffusers' own reader, so that the two of us cannot agree on a mistake."""
    model = tiny_stable_diffusion(family)
    path = write_single_file(model, tmp_path / "tiny.safetensors")
    configs = tmp_path / "configs"
    model.pipeline().save_pretrained(configs)
    unet = UNet2DConditionModel.from_single_file(str(path), config=str(configs), subfolder="unet")
    vae = AutoencoderKL.from_single_file(str(path), config=str(configs), subfolder="vae")
    theirs = {"network": unet.state_dict(), "vae": vae.state_dict()}
    ours = loaded(opened(path))
    same_bits({name: ours[name] for name in theirs}, theirs)
    if family == "sd2":
        text = convert_open_clip_checkpoint(model.text, load_file(path))
        text = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
        state = ours["text"]
        assert all(torch.equal(text[name], tensor) for name, tensor in state.items())


def test_older_names_are_understood(tmp_path):
    """`cond_stage_model.transformer.` without `text_model.`; the autoencoder's attention in a folder of 2022."""
    model = tiny_stable_diffusion()
    file = write_single_file(model, tmp_path / "tiny.safetensors")
    old = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in load_file(file).items()}
    with_metadata = {"safelight.components": json.dumps(components(model))}
    save_file(old, file, with_metadata)
    same_bits({"text": loaded(opened(file))["text"]}, {"text": model.text.state_dict()})
    index = write_folder(model, tmp_path / "folder")
    weights = index.parent / "vae" / "diffusion_pytorch_model.safetensors"
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(weights)
    for new, before in names.items():
        tensors = {name.replace(new, before): tensor for name, tensor in tensors.items()}
    save_file(tensors, weights)
    same_bits({"vae": loaded(opened(index))["vae"]}, {"vae": model.vae.state_dict()})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_text_is_encoded_as_by_the_pipeline(family, clip_skip, tmp_path):
    model = tiny_stable_diffusion(family)
    text = opened(write_single_file(model, tmp_path / "tiny.safetensors")).text()
    prompt = "a red house at night, a yellow balloon"
    ours, pooled = text.encode(chunk(text, prompt), clip_skip)
    if clip_skip == 1:
        theirs, _ = model.pipeline().encode_prompt(prompt, CPU, 1, False)
    else:
        # diffusers 0.42 looks for `text_model`, which transformers 5 no longer has: the same by hand.
        answer = model.text(chunk(text, prompt), output_hidden_states=True)
        assert torch.equal(model.text.final_layer_norm(answer.hidden_states[-1]), answer.last_hidden_state)
        theirs = model.text.final_layer_norm(answer.hidden_states[-2])
    assert pooled is None
    assert torch.equal(ours, theirs)
    with pytest.raises(InvalidRequest, match="there is no layer 3 Allowed: 1 to 2"):
        text.encode(chunk(text, prompt), 3)


def chunk(text, prompt) -> Tensor:
    """One padded chunk."""
    words = text.tokenize(prompt)
    rest = text.chunk_length - 2 - len(words)
    return torch.tensor([[text.begin, *words, text.end, *[text.padding] * rest]])


def noise(seed, *shape) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_a_clean_latent_is_the_one_of_diffusers_scheduler(family, prediction, zero_terminal_snr, tmp_path):
    model = tiny_stable_diffusion(family, prediction, zero_terminal_snr)
    network = opened(write_folder(model, tmp_path / "tiny")).network()
    scheduler = model.pipeline().scheduler
    scheduler.set_timesteps(1000)
    for t in (0, 1, 500, 981, 998):
        alpha = scheduler.alphas_cumprod[t].double()
        sigma = float(((1 - alpha) / alpha).sqrt())
        x, context = noise(t, 1, 4, 8, 8) * (1 + sigma**2) ** 0.5, noise(t + 1, 77, 32)
        scaled = x * float(alpha.sqrt())
        answer = model.unet(scaled, t, encoder_hidden_states=context[None]).sample
        theirs = scheduler.step(answer, t, scaled).pred_original_sample
        ours = network.denoise(x, [sigma], [Conditioning(context)])
        # The scheduler's table is fp32: relative to the noise that is taken away, the two agree to rounding.
        assert float((ours - theirs).abs().max()) < 1e-4 * max(1.0, sigma)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_encode_denoise_decode_makes_the_pipelines_picture(family, layout, tmp_path):
    """DDIM without noise is Euler's method in sigma, so our parts alone must give the pipeline's latents and pixels."""
    model = tiny_stable_diffusion(family)
    tiny = opened(
        write_folder(model, tmp_path / "tiny")
        if layout == "folder"
        else write_single_file(model, tmp_path / "tiny.safetensors")
    )
    network, text, vae = tiny.network(), tiny.text(), tiny.autoencoder()
    pipeline: StableDiffusionPipeline = model.pipeline()
    start = noise(3, 1, 4, 16, 16)
    said = {"height": 32, "width": 32, "num_inference_steps": 4, "guidance_scale": 5.0}
    said |= {"prompt": "a red house", "negative_prompt": "blurry", "latents": start}
    theirs = pipeline(**said, output_type="latent").images
    pixels = pipeline(**said, output_type="pt").images

    sigmas = [network.levels.sigma(t) for t in (751, 501, 251, 1)] + [network.levels.sigma(0)]
    positive, negative = (Conditioning(text.encode(chunk(text, words), 1)[0][0]) for words in ("a red house", "blurry"))
    x = start * (1 + sigmas[0] ** 2) ** 0.5
    for sigma, sigma_next in pairwise(sigmas):
        with_prompt, without = network.denoise(torch.cat([x, x]), [sigma] * 2, [positive, negative]).chunk(2)
        clean = without + 5.0 * (with_prompt - without)
        x = clean + (x - clean) * (sigma_next / sigma)
    ours = x * (1 + sigmas[-1] ** 2) ** -0.5
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())
    drawn = (vae.decode(theirs) / 2 + 0.5).clamp(0, 1)
    assert float((drawn - pixels).abs().max()) < 1e-4
    assert (vae.factor, vae.channels, network.channels) == (2, 4, 4)


def test_pixels_are_encoded_to_the_scaled_mean(tmp_path):
    model = tiny_stable_diffusion()
    vae = opened(write_single_file(model, tmp_path / "tiny.safetensors")).autoencoder()
    pixels = noise(1, 2, 3, 32, 48).clamp(-1, 1)
    theirs = model.vae.encode(pixels).latent_dist.mean * 0.18215
    assert torch.equal(vae.encode(pixels), theirs)
    assert vae.preview[0].shape == (4, 3)


def test_rows_of_a_pass_may_have_different_sigmas(tmp_path):
    network = opened(write_single_file(tiny_stable_diffusion("sd2"), tmp_path / "tiny.safetensors")).network()
    x, sigmas = noise(1, 4, 4, 8, 8) * 5, [14.6, 3.21, 0.5, 0.03]
    contexts = [Conditioning(noise(seed, 154, 32)) for seed in range(4)]
    together = network.denoise(x, sigmas, contexts)
    apart = [network.denoise(x[i : i + 1], sigmas[i : i + 1], contexts[i : i + 1]) for i in range(4)]
    assert together.dtype is torch.float32
    assert float((together - torch.cat(apart)).abs().max()) < 1e-5
    assert torch.equal(together, network.denoise(x, sigmas, contexts))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_half_precision_computes_near_fp32_and_answers_in_fp32(dtype, channels_last, tmp_path):
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors")
    full, half = opened(path), opened(path, dtype, channels_last)
    x, context = noise(1, 2, 4, 8, 8), [Conditioning(noise(2, 77, 32))] * 2
    pairs = [
        [family.network().denoise(x, [1.0, 0.3], context) for family in (full, half)],
        [family.autoencoder().decode(x) for family in (full, half)],
        [family.autoencoder().encode(noise(4, 1, 3, 16, 16)) for family in (full, half)],
        [family.text().encode(chunk(family.text(), "a red house"), 1)[0] for family in (full, half)],
    ]
    for precise, rough in pairs:
        assert rough.dtype is torch.float32
        assert rough.is_contiguous()
        error = float((precise - rough).norm() / precise.norm())
        assert 0 < error < 0.03


def test_the_order_of_channels_does_not_change_a_picture(tmp_path):
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors")
    x, context = noise(1, 1, 4, 8, 8), [Conditioning(noise(2, 77, 32))]
    plain, last = (opened(path, channels_last=order).network().denoise(x, [2.0], context) for order in (False, True))
    assert float((plain - last).abs().max()) < 1e-5


@pytest.mark.parametrize("component", ["network", "text", "vae"])
def test_parameters_lie_in_aligned_memory(component, tmp_path):
    tiny = opened(write_single_file(tiny_stable_diffusion("sd2"), tmp_path / "tiny.safetensors"))
    module = {"network": tiny.network, "text": tiny.text, "vae": tiny.autoencoder}[component]().module
    assert all(parameter.data_ptr() % 64 == 0 for parameter in module.parameters())


def changed(path, change) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


UNET = "model.diffusion_model.middle_block.1.norm.weight"


@pytest.mark.parametrize(
    ("change", "component", "message"),
    [
        (lambda t: t.pop(UNET), "network", r"1 missing \(mid_block.attentions.0.norm.weight\)"),
        (lambda t: t.update({UNET: torch.ones(5)}), "network", r"has the shape \[5\] where the network has \[64\]"),
        (lambda t: t.update({UNET + "_scale": torch.ones(1)}), "network", "1 without a place"),
        (lambda t: t.update({"model.diffusion_model.label_emb.w": torch.ones(1)}), "network", "no place for 1 of the"),
        (lambda t: t.update({"first_stage_model.new.w": torch.ones(1)}), "vae", "no place for 1 of the"),
        (lambda t: t.update({"cond_stage_model.transformer.text_model.x": torch.ones(1)}), "text", "1 without a place"),
        (lambda t: t.update({UNET: torch.ones(64).to(torch.int8)}), "network", "is stored as I8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, component, message, tmp_path):
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors")
    changed(path, change)
    tiny = opened(path)
    with pytest.raises(UnreadableFile, match=message):
        {"network": tiny.network, "text": tiny.text, "vae": tiny.autoencoder}[component]()


def test_what_is_not_used_is_noted(tmp_path):
    more = {"model_ema.decay": torch.ones(1), "model_ema.x": torch.ones(1), "betas": torch.ones(3)}
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors", more=more)
    tiny = opened(path)
    same_bits(loaded(tiny), sources(tiny_stable_diffusion()))
    assert "not used: EMA weights (2 tensors)" in tiny.notes
    assert "not used: betas" in tiny.notes
    assert "prediction eps: safelight.prediction in its metadata" in tiny.notes


def test_a_configuration_of_another_network_is_refused(tmp_path):
    words = {"safelight.components": json.dumps(components(tiny_stable_diffusion()) | {"unet": {"norm_num_groups": 7}})}
    path = write_single_file(tiny_stable_diffusion(), tmp_path / "tiny.safetensors", metadata=words)
    with pytest.raises(UnreadableFile, match="says no block_out_channels, layers_per_block, down_block_types"):
        opened(path).network()


def test_other_betas_are_refused_in_words(tmp_path):
    index = write_folder(tiny_stable_diffusion(), tmp_path / "tiny")
    config = index.parent / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_schedule": "linear"}))
    with pytest.raises(UnreadableFile, match="trained on the betas 'linear'"):
        opened(index).network()


def test_the_bundled_model_loads(tmp_path):
    from safelight.catalog.index import FolderCatalog

    model = FolderCatalog().model(None)
    postcards = opened(model.ref.path)
    network, text, vae = postcards.network(), postcards.text(), postcards.autoencoder()
    assert (network.prediction, network.channels, vae.channels, vae.factor) == ("v", 8, 8, 8)
    assert network.levels.largest > 4000
    assert text.encode(chunk(text, "a red house"), 1)[0].shape == (1, text.chunk_length, 160)
    ramp = torch.linspace(-0.8, 0.8, 64).expand(1, 3, 64, 64).contiguous()
    latents = vae.encode(ramp)
    assert float((vae.decode(latents) - ramp).pow(2).mean()) < 0.03
    factors, bias = vae.preview
    small = torch.nn.functional.avg_pool2d(ramp, 8)
    look = torch.einsum("nchw,cr->nrhw", latents, factors) + bias[None, :, None, None]
    assert float((look - small).abs().mean()) < 0.2
