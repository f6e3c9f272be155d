"""LoRA hung into real networks: equal to a merge by hand, row by row, and gone without a trace."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from safelight.engine.adapters import AdapterHost
from safelight.engine.adapters.layers import LoraLayer
from safelight.engine.weights.ldm_keys import all_renamed, unet_pairs
from safelight.engine.weights.lora import LowRank, read_lora

ALPHA, RANK = 2.0, 4
SCALE = ALPHA / RANK
CPU = torch.device("cpu")


def kohya(prefix: str, weights: dict, naming=lambda path: path) -> dict:
    tensors = {}
    for path, (down, up) in weights.items():
        name = prefix + naming(path).replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def peft(prefix: str, weights: dict) -> dict:
    """PEFT's names have no alpha: it is folded into up here."""
    tensors = {}
    for path, (down, up) in weights.items():
        tensors |= {f"{prefix}{path}.lora_A.weight": down, f"{prefix}{path}.lora_B.weight": up * SCALE}
    return tensors


def attach(module: nn.Module, pairs: dict, key: str = "lora", dtype: torch.dtype = torch.float32) -> AdapterHost:
    host = AdapterHost(module)
    assert host.attach(key, pairs, dtype, CPU) == ()
    return host


def close(ours: torch.Tensor, reference: torch.Tensor) -> bool:
    return float((ours - reference).abs().max()) < 1e-5


def low_rank(weights: dict, alpha: float = ALPHA) -> dict[str, LowRank]:
    return {path: LowRank(down, up, alpha) for path, (down, up) in weights.items()}


@pytest.mark.parametrize("dialect", ["kohya", "original", "diffusers", "peft"])
def test_every_layer_of_a_unet_equals_a_merge_by_hand(unet, weights, merged, inputs, saved, dialect):
    pairs = weights(unet)
    assert {pair[0].dim() for pair in pairs.values()} == {2, 4}  # linear, 1x1 and 3x3 convolutions
    originals = all_renamed([f"{path}." for path in pairs], unet_pairs(unet.config), "The UNet")
    tensors = {
        "kohya": lambda: kohya("lora_unet_", pairs),
        "original": lambda: kohya("lora_unet_", pairs, lambda path: originals[f"{path}."].removesuffix(".")),
        "diffusers": lambda: peft("unet.", pairs),
        "peft": lambda: peft("base_model.model.", pairs),
    }[dialect]()
    base = inputs.run(unet)
    reference = inputs.run(merged(unet, pairs, 0.7 * SCALE))
    file = read_lora(saved(tensors))
    host = attach(unet, file.pairs["network"])
    with host.rows([[("lora", 0.7)]]):
        ours = inputs.run(unet)
    assert close(ours, reference)
    assert not close(base, reference)
    assert file.unmatched == ()
    assert host.bytes == sum((down.numel() + up.numel()) * 4 for down, up in pairs.values())


@pytest.mark.parametrize("root", ["", "text_model."])
@pytest.mark.parametrize("file_root", ["", "text_model."])
def test_text_encoder_equals_a_merge_by_hand_in_either_tree(clip, weights, merged, saved, root, file_root):
    pairs = weights(clip)
    ids = torch.tensor([[98, 5, 6, 7, 99], [98, 1, 99, 99, 99]])
    reference = merged(clip, pairs, SCALE)(ids).last_hidden_state
    base = clip(ids).last_hidden_state
    tensors = kohya(f"lora_te_{file_root.replace('.', '_')}", pairs)
    tree = nn.ModuleDict({"text_model": clip}) if root else clip
    host = attach(tree, read_lora(saved(tensors)).pairs["text"])
    with host.rows([[("lora", 1.0)]]):
        assert close(clip(ids).last_hidden_state, reference)
    assert not close(base, reference)


def test_tucker_form_equals_its_product(unet, inputs, saved, merged):
    generator = torch.Generator().manual_seed(3)
    path = "down_blocks.0.downsamplers.0.conv"  # with a stride
    channels = unet.get_submodule(path).in_channels
    down, middle = torch.randn(4, channels, 1, 1, generator=generator), torch.randn(4, 4, 3, 3, generator=generator)
    up = torch.randn(channels, 4, 1, 1, generator=generator) * 0.1
    product = torch.einsum("or,rskl,si->oikl", up[:, :, 0, 0], middle, down[:, :, 0, 0]) * SCALE
    name = "lora_unet_down_blocks_0_downsamplers_0_conv"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_mid.weight": middle, f"{name}.lora_up.weight": up}
    reference = deepcopy(unet)
    reference.get_submodule(path).weight += product
    host = attach(unet, read_lora(saved(tensors | {f"{name}.alpha": torch.tensor(ALPHA)})).pairs["network"])
    base = inputs.run(unet)
    with host.rows([[("lora", 1.0)]]):
        ours = inputs.run(unet)
    wanted = inputs.run(reference)
    assert float((ours - wanted).abs().max() / wanted.abs().max()) < 1e-5
    assert not close(base, wanted)


def test_linear_weights_serve_a_1x1_convolution_and_the_other_way_round(unet, inputs, weights):
    conv, linear = "mid_block.attentions.0.proj_in", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    stored = low_rank(weights(unet, lambda path: path in (conv, linear)))
    as_other = {
        conv: LowRank(stored[conv].down.flatten(1), stored[conv].up.flatten(1), ALPHA),
        linear: LowRank(stored[linear].down[:, :, None, None], stored[linear].up[:, :, None, None], ALPHA),
    }
    results = []
    for pairs in (stored, as_other):
        host = attach(unet, pairs)
        with host.rows([[("lora", 1.0)]]):
            results.append(inputs.run(unet))
        host.detach("lora")
    assert torch.equal(*results)
    assert not close(results[0], inputs.run(unet))


def test_rows_with_other_sets_share_a_pass(unet, weights, merged, inputs):
    first = weights(unet, lambda path: "attn" in path, seed=1)
    second = weights(unet, lambda path: "attn1" in path or "resnets" in path, seed=2)
    rows = [[("first", 0.8)], [("first", -0.3), ("second", 0.5)], [], [("second", 1.0), ("first", 0.0)]]
    alone = [
        inputs.run(
            merged(merged(unet, first, SCALE * dict(row).get("first", 0)), second, dict(row).get("second", 0)), n
        )
        for n, row in enumerate(rows)
    ]
    base = inputs.run(unet)
    host = attach(unet, low_rank(first), "first")
    assert host.attach("second", low_rank(second, RANK), torch.float32, CPU) == ()
    with host.rows(rows):
        together = inputs.run(unet)
    assert host.attached == ("first", "second")
    for number, reference in enumerate(alone):
        assert close(together[number], reference[0])
    for number in (0, 1, 3):
        assert not close(together[number], base[number])
    assert torch.equal(together[2], base[2])  # the same width, no adapter: to the bit
    for number, row in enumerate(rows):
        with host.rows([row]):
            assert close(inputs.run(unet, number)[0], together[number])


def test_scattered_rows_and_an_adapter_named_twice(unet, weights, merged, inputs):
    pairs = weights(unet)
    reference = inputs.run(merged(unet, pairs, 0.6 * SCALE))
    base = inputs.run(unet)
    host = attach(unet, low_rank(pairs))
    with host.rows([[("lora", 0.6)], [], [("lora", 0.4), ("lora", 0.2)], []]):
        ours = inputs.run(unet)
    assert close(ours[[0, 2]], reference[[0, 2]])
    assert torch.equal(ours[[1, 3]], base[[1, 3]])


@pytest.mark.parametrize("rows", [None, [[]], [[("lora", 0.0)]], [[("lora", 0.5), ("lora", -0.5)]], [[]] * 4])
def test_no_strength_is_the_base_to_the_bit(unet, weights, inputs, rows):
    base = inputs.run(unet)
    host = attach(unet, low_rank(weights(unet)))
    if rows is None:
        assert torch.equal(inputs.run(unet), base)
    else:
        with host.rows(rows):
            assert torch.equal(inputs.run(unet), base)


def test_detach_puts_the_very_same_layers_back(unet, weights, inputs):
    base, modules = inputs.run(unet), dict(unet.named_modules())
    state = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    second = low_rank(weights(unet, lambda path: "attn" in path, seed=5))
    host = attach(unet, low_rank(weights(unet)), "one")
    assert host.attach("two", second, torch.float32, CPU) == ()
    with host.rows([[("one", 1.0), ("two", 1.0)]]):
        assert not close(inputs.run(unet), base)
    host.detach("one")
    assert host.attached == ("two",)
    wrapped = [name for name, module in unet.named_modules() if isinstance(module, LoraLayer)]
    assert wrapped
    assert all("attn" in name for name in wrapped)
    host.detach("two")
    host.detach("never attached")
    assert dict(unet.named_modules()) == modules
    assert list(unet.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())
    assert host.bytes == 0
    assert torch.equal(inputs.run(unet), base)


def test_attaching_again_changes_nothing_and_says_the_same(unet, weights, inputs):
    pairs = low_rank(weights(unet, lambda path: "attn2" in path)) | {"nowhere": LowRank(*[torch.ones(2, 2)] * 2, 2)}
    host = AdapterHost(unet)
    said = host.attach("lora", pairs, torch.float32, CPU)
    assert said == ("nowhere: there is no such layer here",)
    held = host.bytes
    with host.rows([[("lora", 1.0)]]):
        before = inputs.run(unet)
        assert host.attach("lora", pairs, torch.float32, CPU) == said
        assert torch.equal(inputs.run(unet), before)
    assert host.bytes == held


def test_pairs_that_do_not_fit_are_named(unet):
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    wide = LowRank(torch.ones(2, 2048), torch.ones(64, 2), 2)
    fits = LowRank(torch.ones(2, 32), torch.ones(64, 2), 2)
    said = AdapterHost(unet).attach(
        "lora",
        {
            layer: fits,
            layer.replace(".", "_"): fits,
            layer.replace("to_k", "to_v"): wide,
            "conv_in": LowRank(torch.ones(2, 4, 1, 1), torch.ones(32, 2, 1, 1), 2),
        },
        torch.float32,
        CPU,
    )
    assert [line.partition(":")[0] for line in said] == [
        layer.replace(".", "_"),
        layer.replace("to_k", "to_v"),
        "conv_in",
    ]
    assert "another pair of this file" in said[0]
    assert "[2, 2048]" in said[1]


def test_wrong_tables_are_refused(unet, weights, inputs):
    host = attach(unet, low_rank(weights(unet, lambda path: "attn2" in path)))
    with pytest.raises(ValueError, match="'other'"), host.rows([[("other", 1.0)]]):
        pass
    with host.rows([[("lora", 1.0)], []]), pytest.raises(ValueError, match="4 rows under a table of rows for 2"):
        inputs.run(unet)


@pytest.mark.parametrize("mixed", [False, True])
def test_bf16_and_channels_last(unet, weights, merged, inputs, mixed):
    pairs = {path: (down * 0.5, up * 0.5) for path, (down, up) in weights(unet).items()}
    reference = inputs.run(merged(unet, pairs, SCALE))
    base = inputs.run(unet)
    low = deepcopy(unet).to(torch.bfloat16, memory_format=torch.channels_last)
    host = attach(low, low_rank(pairs), dtype=torch.bfloat16)
    rows = [[("lora", 1.0)], [], [("lora", 1.0)], []] if mixed else [[("lora", 1.0)]]
    x = inputs.x.to(torch.bfloat16, memory_format=torch.channels_last)
    with host.rows(rows):
        ours = low(x, inputs.times, inputs.text.bfloat16()).sample.float()
    plain = low(x, inputs.times, inputs.text.bfloat16()).sample.float()
    effect = (reference - base)[::2].norm()
    assert float((ours - reference)[::2].norm() / effect) < 0.1
    assert not mixed or torch.equal(ours[1::2], plain[1::2])


def test_adapters_move_with_their_network_and_layers_still_answer_for_their_base(unet, weights):
    layer = "mid_block.attentions.0.proj_in"
    base = unet.get_submodule(layer)
    host = attach(unet, low_rank(weights(unet)))
    standing = unet.get_submodule(layer)
    assert standing is not base
    assert standing.weight is base.weight
    assert standing.in_channels == base.in_channels
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = standing.nothing_like_it
    unet.to(torch.float64)
    assert {buffer.dtype for path in standing.paths.values() for buffer in path.buffers()} == {torch.float64}
    host.detach("lora")
    assert unet.get_submodule(layer) is base
