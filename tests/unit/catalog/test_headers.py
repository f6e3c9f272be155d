"""Reading headers within bounds, and saying what a file is that is none."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from tests.builders.headers import header_of, write_sparse
from tests.builders.timing import processor_seconds

from safelight.catalog.headers import read_header
from safelight.errors import UnreadableFile


def test_a_header_says_names_shapes_places_and_metadata(tmp_path):
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, path, {"title": "Some"})
    header = read_header(path)
    assert header.tensors["a"].shape == (2, 3)
    assert (header.tensors["a"].dtype, header.tensors["b"].dtype) == ("F32", "BF16")
    assert header.metadata == {"title": "Some"}
    assert header.bytes_by_dtype() == {"F32": 24, "BF16": 8}
    raw = path.read_bytes()
    assert header.hash == hashlib.sha256(raw[8 : header.data]).hexdigest()
    start = header.data + header.tensors["a"].start
    assert struct.unpack("<6f", raw[start : start + 24]) == (1.0,) * 6


def test_a_header_of_real_size_takes_less_than_20_ms(tmp_path):
    shapes = {
        f"model.diffusion_model.double_blocks.{i}.img_attn.part.{j}.weight": (64, 64)
        for i in range(30)
        for j in range(80)
    }
    path = write_sparse(tmp_path / "large.safetensors", header_of(shapes, metadata={"tags": "x" * 300_000}))
    assert len(read_header(path).tensors) == 2400
    before = f"from pathlib import Path; from safelight.catalog.headers import read_header; path = Path({str(path)!r})"
    assert processor_seconds("read_header(path)", before) < 0.020


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def written(path, header, data=16):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * data)
    return path


BROKEN = {
    "cut in its tensors": (lambda p: written(p, {"a": entry()}, data=7), "cut short", "Download it again"),
    "longer than its tensors": (lambda p: written(p, {"a": entry()}, data=20), "4 bytes after", "Download it again"),
    "cut in its header": (lambda p: p.write_bytes(struct.pack("<Q", 500) + b'{"a":'), "cut short", "Download it again"),
    "a header of 100 GB": (
        lambda p: p.write_bytes(struct.pack("<Q", 100 << 30) + b'{"a": 1}'),
        "claims a header of 107,374,182,400 bytes",
        "Download it again",
    ),
    "overlapping tensors": (
        lambda p: written(p, {"a": entry(), "b": entry(offsets=(8, 24))}, data=24),
        "overlaps",
        "Download it again",
    ),
    "a gap between tensors": (
        lambda p: written(p, {"a": entry(), "b": entry(offsets=(20, 36))}, data=36),
        "leaves a gap",
        "Download it again",
    ),
    "bytes that are not its shape's": (
        lambda p: written(p, {"a": entry(shape=(1 << 40, 1 << 40))}),
        "takes 4,835,703,278,458,516,698,824,704 bytes",
        "Download it again",
    ),
    "a negative side": (lambda p: written(p, {"a": entry(shape=(-4,))}), "the tensor 'a'", "Download it again"),
    "sides that are no numbers": (lambda p: written(p, {"a": entry(shape=(True,))}), "the tensor 'a'", ""),
    "an unknown kind": (lambda p: written(p, {"a": entry(dtype="F12")}), "of kind 'F12'", "Known: F64"),
    "a name twice": (
        lambda p: written(p, b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)),
        "a name occurs twice",
        "Download it again",
    ),
    "metadata of numbers": (
        lambda p: written(p, {"__metadata__": {"steps": 3}, "a": entry()}),
        "not a table of texts",
        "Download it again",
    ),
    "no JSON": (lambda p: written(p, b'{"a": nonsense}'), "not valid JSON", "Download it again"),
    "endless nesting": (lambda p: written(p, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not valid JSON", ""),
    "empty": (lambda p: p.write_bytes(b""), "is empty", "Download it again"),
    "a few bytes": (lambda p: p.write_bytes(b"abc"), "too short", "Download it again"),
    "zeros": (lambda p: p.write_bytes(b"\0" * 4096), "begins with zeros", "Download it again"),
    "a pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1}, 4)), "a Python pickle", "never read"),
    "GGUF": (lambda p: p.write_bytes(b"GGUF" + b"\3" * 60), "a GGUF file", "Only safetensors"),
    "a login page": (lambda p: p.write_bytes(b"<!DOCTYPE html><html>"), "a web page", "Only safetensors"),
    "a Git LFS pointer": (
        lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1"),
        "Git LFS pointer",
        "Only safetensors",
    ),
    "something else": (lambda p: p.write_bytes(b"abcdefghijklmnop"), "begins with 61 62", "Only safetensors"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_words(name, tmp_path):
    write, what, way_out = BROKEN[name]
    path = tmp_path / "broken.safetensors"
    write(path)
    with pytest.raises(UnreadableFile) as refused:
        read_header(path)
    assert what in refused.value.message
    assert way_out in refused.value.hint
    assert str(path) in refused.value.message


def test_a_torch_checkpoint_is_refused_and_its_pickle_not_opened(tmp_path):
    path = tmp_path / "model.ckpt"

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    with pytest.raises(UnreadableFile, match=r"PyTorch pickle.*can run any program"):
        read_header(path)
    assert not (tmp_path / "opened").exists()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="cannot be read"):
        read_header(tmp_path / "nowhere.safetensors")
    with pytest.raises(UnreadableFile, match="is not a file"):
        read_header(tmp_path)
