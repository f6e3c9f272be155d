"""Reading tensors and building networks from them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from safelight.engine.weights.assembly import assemble, module_bytes
from safelight.engine.weights.reading import GRAIN, STRIP, Reading, planned_bytes
from safelight.engine.weights.room import Placing, Plot
from safelight.engine.weights.stored import Piece, StoredTensors
from safelight.errors import UnreadableFile

CPU = torch.device("cpu")
FP32 = Placing(torch.float32, CPU)


def stored(tmp_path, **tensors):
    save_file(tensors, tmp_path / "some.safetensors")
    return StoredTensors.of(tmp_path / "some.safetensors")


def read(files, piece, shape, placing=FP32, **how):
    """One parameter, read."""
    return Reading(**how).parameters(files, {"it": piece}, Plot({"it": tuple(shape)}, placing))["it"]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_a_tensor_is_read_as_torch_would_convert_it_into_aligned_memory(tmp_path, kind, wanted):
    source = torch.randn(5, 7).to(kind)
    files = stored(tmp_path, odd=torch.ones(3, dtype=torch.int8), some=source)
    made = read(files, Piece("some"), source.shape, Placing(wanted, CPU))
    assert made.dtype is wanted
    assert torch.equal(made, source.to(wanted))


def test_what_is_read_is_a_copy_of_its_own(tmp_path):
    files = stored(tmp_path, some=torch.ones(4))
    read(files, Piece("some"), [4]).zero_()
    assert torch.equal(read(files, Piece("some"), [4]), torch.ones(4))
    assert torch.equal(read(StoredTensors.of(tmp_path / "some.safetensors"), Piece("some"), [4]), torch.ones(4))


def test_shares_of_a_tensor_and_axes_of_length_one(tmp_path):
    source = torch.randn(6, 4)
    files = stored(tmp_path, fused=source, conv=source[:, :, None, None].clone())
    parts = [read(files, Piece("fused", part, 3), [2, 4]) for part in range(3)]
    assert torch.equal(torch.cat(parts), source)
    assert torch.equal(read(files, Piece("conv"), [6, 4]), source)
    with pytest.raises(UnreadableFile, match=r"fused has the shape \[6, 4\] where the network has \[4, 6\]"):
        read(files, Piece("fused"), [4, 6])
    with pytest.raises(UnreadableFile, match="is not 4 tensors in one"):
        files.shape(Piece("fused", 0, 4))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(3,), (), (5, 7), (2, 3, 5, 4), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_parameter_lies_aligned_and_keeps_its_numbers(channels_last, shape, dtype, tmp_path):
    source = torch.randn(shape, dtype=dtype)
    files = stored(tmp_path, odd=torch.ones(1, dtype=torch.int8), some=source)
    made = read(files, Piece("some"), shape, Placing(dtype, CPU, channels_last))
    assert torch.equal(made, source)
    assert made.data_ptr() % 64 == 0
    if len(shape) == 4:
        assert made.is_contiguous(memory_format=torch.channels_last) is channels_last


def test_all_parameters_of_a_network_lie_aligned(tmp_path):
    """Odd sizes one after another: what begins at a multiple of 64 bytes must not depend on its neighbours."""
    sizes = {"a": (3,), "b": (7, 5), "c": (), "d": (1, 2, 3, 3), "e": (33,)}
    files = stored(tmp_path, **{name: torch.randn(shape) for name, shape in sizes.items()})
    made = Reading().parameters(files, {name: Piece(name) for name in sizes}, Plot(sizes, FP32))
    assert [name for name, tensor in made.items() if tensor.data_ptr() % 64] == []


def test_a_tensor_larger_than_a_strip_is_told_of_while_it_comes_in(tmp_path):
    source = torch.randn(5 * STRIP // 4 // 1024 + 1, 1024)
    files = stored(tmp_path, some=source)
    told: list[int] = []
    assert torch.equal(read(files, Piece("some"), source.shape, told=told.append), source)
    assert told == [*(STRIP * step for step in range(1, 6)), source.nbytes]
    halves: list[int] = []
    made = read(files, Piece("some"), source.shape, Placing(torch.bfloat16, CPU), told=halves.append)
    assert torch.equal(made, source.bfloat16())
    assert halves == [count // 2 for count in told], "bytes of the parameters, as their sum is known beforehand"


@pytest.mark.parametrize("shape", [(GRAIN // 40 + 3, 41), (100, 50, 3, 3), (2, GRAIN // 8, 3, 3)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_what_is_converted_in_pieces_is_what_torch_makes_in_one_go(tmp_path, shape, channels_last):
    source = torch.randn(shape).half()
    files = stored(tmp_path, some=source)
    made = read(files, Piece("some"), shape, Placing(torch.bfloat16, CPU, channels_last))
    assert torch.equal(made, source.bfloat16())


def test_a_file_that_changes_before_it_is_read_is_refused(tmp_path):
    files = stored(tmp_path, some=torch.ones(4))
    with (tmp_path / "some.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnreadableFile, match="changed while it was read"):
        read(files, Piece("some"), [4])


def test_kinds_that_need_a_scale_are_refused(tmp_path):
    files = stored(tmp_path, some=torch.ones(4, dtype=torch.int8))
    with pytest.raises(UnreadableFile, match=r"some is stored as I8. Readable here: F64"):
        read(files, Piece("some"), [4])


def test_two_files_must_not_hold_the_same_name(tmp_path):
    for name in ("one", "two"):
        save_file({"same": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UnreadableFile, match="both hold same"):
        StoredTensors.of(tmp_path / "one.safetensors", tmp_path / "two.safetensors")


class Net(nn.Module):
    """A convolution, a norm with statistics, and a fixed table."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("table", torch.arange(3), persistent=False)


NAMES = ("conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")


def test_a_network_is_built_without_drawing_a_random_number(tmp_path):
    source = Net().state_dict()
    del source["norm.num_batches_tracked"]
    files = stored(tmp_path, **source, count=torch.tensor(0.0))
    plan = {name: Piece(name) for name in NAMES} | {"norm.num_batches_tracked": Piece("count")}
    before = torch.get_rng_state()
    net = assemble(Net, files, plan, FP32, "net")
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(net.state_dict()[name], source[name]) for name in NAMES)
    assert torch.equal(net.table, torch.arange(3))
    assert not net.training
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in net.parameters())
    assert module_bytes(net) == 4 * (4 * 27 + 4 + 8)
    parameters = {name: Piece(name) for name in NAMES[:4]}
    assert planned_bytes(files, parameters, Placing(torch.bfloat16, CPU)) * 2 == module_bytes(net)


def test_every_missing_and_every_further_name_is_said(tmp_path):
    files = stored(tmp_path, **{"conv.weight": torch.ones(4, 3, 3, 3), "conv.scale": torch.ones(1)})
    plan = {"conv.weight": Piece("conv.weight"), "conv.scale": Piece("conv.scale")}
    with pytest.raises(
        UnreadableFile, match=r"6 missing \(conv.bias, .* and 1 more\). 1 without a place \(conv.scale\)"
    ):
        assemble(Net, files, plan, FP32, "net")
