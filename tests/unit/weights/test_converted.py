"""Converted copies of weights: made once, mapped afterwards, whole or not at all, bounded."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safelight.catalog.headers import read_header
from safelight.engine.weights import reading
from safelight.engine.weights.converted import ConvertedWeights
from safelight.engine.weights.reading import Reading
from safelight.engine.weights.room import Placing, Plot
from safelight.engine.weights.stored import Piece, StoredTensors

CPU = torch.device("cpu")
BF16 = Placing(torch.bfloat16, CPU, channels_last=True)
SHAPES = {"conv": (6, 5, 3, 3), "bias": (3,), "linear": (7, 9), "scale": ()}


@pytest.fixture
def source(tmp_path) -> Path:
    torch.manual_seed(3)
    save_file({name: torch.randn(shape).half() for name, shape in SHAPES.items()}, tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "weights"


def load(source: Path, folder: Path, placing: Placing = BF16, limit: int = 1 << 20, spare: int = 0):
    """The parameters of the file through copies in the folder, once these are written."""
    kept = ConvertedWeights(folder, limit, spare)
    files = StoredTensors.of(source)
    made = Reading(kept=kept).parameters(files, {name: Piece(name) for name in SHAPES}, Plot(SHAPES, placing))
    kept.settle()
    return made


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*")) if folder.is_dir() else []


def same(made, source: Path) -> bool:
    return all(torch.equal(made[name], tensor.bfloat16()) for name, tensor in load_file(source).items())


def test_the_second_reading_maps_what_the_first_converted(source, folder):
    first = load(source, folder)
    [copy] = copies(folder)
    assert copy.name.endswith(".bf16.safetensors")
    before = copy.stat()
    second = load(source, folder)
    assert same(first, source) and same(second, source)
    assert copies(folder) == [copy] and copy.stat().st_ino == before.st_ino
    assert copy.stat().st_mtime_ns == before.st_mtime_ns
    for name, tensor in second.items():
        assert tensor.data_ptr() % 64 == 0 and tensor.stride() == first[name].stride()
    assert second["conv"].is_contiguous(memory_format=torch.channels_last)


def test_a_copy_is_a_safetensors_file_that_others_can_read(source, folder):
    load(source, folder, Placing(torch.bfloat16, CPU))
    [copy] = copies(folder)
    assert read_header(copy).data % 64 == 0
    theirs = load_file(copy)
    assert all(torch.equal(theirs[name], tensor.bfloat16()) for name, tensor in load_file(source).items())


def test_writing_to_mapped_parameters_leaves_the_copy_as_it_is(source, folder):
    load(source, folder)
    load(source, folder)["linear"].zero_()
    assert same(load(source, folder), source)


def test_what_is_computed_as_it_is_stored_needs_no_copy(source, folder):
    load(source, folder, Placing(torch.float16, CPU))
    assert copies(folder) == []


def damage(copy: Path, how: str) -> None:
    data = bytearray(copy.read_bytes())
    if how == "cut short":
        del data[-64:]
    elif how == "a byte of a weight":
        data[-70] ^= 1
    elif how == "a byte of the header":
        data[20] ^= 1
    else:
        data = bytearray()
    copy.write_bytes(data)


@pytest.mark.parametrize("how", ["cut short", "a byte of a weight", "a byte of the header", "empty"])
def test_a_damaged_copy_is_made_again(source, folder, how, caplog):
    load(source, folder)
    [copy] = copies(folder)
    damage(copy, how)
    assert same(load(source, folder), source)
    assert "made again" in caplog.text
    caplog.clear()
    assert same(load(source, folder), source) and not caplog.text
    assert copies(folder) == [copy]


def test_a_copy_of_a_file_that_has_changed_is_not_used(source, folder):
    load(source, folder)
    tensors = {name: tensor + 1 for name, tensor in load_file(source).items()}
    save_file(tensors, source)
    assert same(load(source, folder), source)
    assert len(copies(folder)) == 2


def test_what_was_used_longest_ago_goes_where_the_bound_is_reached(source, folder):
    load(source, folder)
    [oldest] = copies(folder)
    room = 2 * oldest.stat().st_size + 100
    load(source, folder, Placing(torch.bfloat16, CPU), room)
    [newer] = set(copies(folder)) - {oldest}
    os.utime(newer, ns=(10**18, newer.stat().st_mtime_ns))
    mapped = load(source, folder, limit=room)  # the oldest is used again, and is the newest now
    load(source, folder, Placing(torch.float64, CPU, True), room)
    assert newer not in copies(folder)
    assert same(mapped, source), "a removal takes nothing from whoever has it mapped"
    load(source, folder, Placing(torch.float32, CPU), limit=100)
    assert not [path for path in copies(folder) if ".f32." in path.name], (
        "one that is larger than the bound is not kept"
    )


def test_what_is_let_go_before_it_is_written_goes_at_once_and_is_not_kept(source, folder):
    kept = ConvertedWeights(folder, 1 << 20, 0)
    plot = Plot(SHAPES, BF16)
    block = plot.block()
    made = plot.parameters(block)
    kept.keep("a" * 64, plot, block)
    alive = weakref.ref(block)
    del block
    assert alive() is not None, "the parameters have it"
    del made
    assert alive() is None, "the copy to be does not"
    kept.settle()
    assert copies(folder) == []


def test_swapped_models_leave_only_the_last_ones_copy(source, folder):
    """One after another is let go before the disk had its turn."""
    kept = ConvertedWeights(folder, 1 << 20, 0)
    for placing in (BF16, Placing(torch.float32, CPU)):
        plan = {name: Piece(name) for name in SHAPES}
        made = Reading(kept=kept).parameters(StoredTensors.of(source), plan, Plot(SHAPES, placing))
    kept.settle()
    assert [path.name.split(".")[1] for path in copies(folder)] == ["f32"] and made


def test_copies_leave_the_last_of_the_disk_to_others(source, folder, caplog):
    load(source, folder)
    assert len(copies(folder)) == 1
    assert set(load(source, folder, Placing(torch.float32, CPU), spare=1 << 62)) == set(SHAPES)
    assert copies(folder) == [], "none is written, and those that were there go"
    assert "would be free" in caplog.text


def test_a_copy_of_an_older_conversion_is_not_used(source, folder, monkeypatch):
    load(source, folder)
    monkeypatch.setattr(reading, "FORMAT", reading.FORMAT + 1)
    load(source, folder)
    assert len(copies(folder)) == 2


def test_a_folder_that_cannot_be_written_costs_only_the_copy(source, folder, caplog):
    folder.write_text("a file where the folder should be")
    assert same(load(source, folder), source)
    assert "could not be kept" in caplog.text


def test_what_a_dead_process_left_half_written_is_removed(source, folder):
    folder.mkdir()
    (folder / ".old.bf16.safetensors.1.partial").write_bytes(b"half")
    os.utime(folder / ".old.bf16.safetensors.1.partial", (0, 0))
    (folder / ".new.bf16.safetensors.2.partial").write_bytes(b"under way")
    load(source, folder)
    assert [path.name for path in copies(folder) if path.name.startswith(".")] == [".new.bf16.safetensors.2.partial"]
