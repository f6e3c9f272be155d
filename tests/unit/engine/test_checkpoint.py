"""A checkpoint is whole or not at all, and gives back what was put in to the bit."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from safelight.engine.checkpoint import STATE, Identity, Snapshot, digest, read, remove, write
from safelight.engine.conditioning import Conditioning, Span
from safelight.engine.results import Latent, Mask, Picture, Said, Stored
from safelight.engine.work import RunState
from safelight.errors import UnreadableFile

CPU = torch.device("cpu")
IDENTITY = Identity("request", "engine 1", {"dtype": "fp32", "threads": 2})


def snapshot() -> Snapshot:
    torch.manual_seed(0)
    said = Said(
        (
            Span(Conditioning(torch.randn(77, 8), torch.randn(8)), since=float("inf"), until=2.5, weight=0.7),
            Span(Conditioning(torch.randn(154, 8)), since=2.5, region=torch.ones(1, 4, 4)),
        )
    )
    results = {
        0: said,
        1: Latent(torch.randn(4, 8, 8)),
        2: Mask(torch.ones(1, 8, 8), torch.rand(64, 64)),
        3: Picture(torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)),
        4: Stored({"sha256": "ab", "index": 0}),
    }
    run = RunState(
        7,
        torch.randn(4, 8, 8),
        {"denoised": torch.randn(4, 8, 8), "sigma": 1 / 3, "count": 2},
        {"generator": torch.get_rng_state()},
    )
    return Snapshot(IDENTITY, results, {5: run, 6: RunState(0, torch.randn(4, 8, 8))}, width=2)


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict | list | tuple):
        pairs = (
            zip(left.items(), right.items(), strict=True) if isinstance(left, dict) else zip(left, right, strict=True)
        )  # type: ignore[attr-defined]
        return type(left) is type(right) and all(same(*pair) for pair in pairs)
    return same(vars(left), vars(right)) if hasattr(left, "__dict__") else left == right


def test_what_is_written_comes_back_to_the_bit(tmp_path: Path) -> None:
    write(snapshot(), tmp_path / "1-1")
    assert same(read(tmp_path / "1-1", CPU), snapshot())
    assert read(tmp_path / "1-1", CPU).steps == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-1"], "no temporary stays"


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write(snapshot(), tmp_path / "1-1")
    state = tmp_path / "1-1" / STATE
    whole = state.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        state.write_bytes(whole[:length])
        with pytest.raises(UnreadableFile, match="1-1"):
            read(tmp_path / "1-1", CPU)
    remove(tmp_path / "1-1")
    remove(tmp_path / "1-1")
    with pytest.raises(UnreadableFile):
        read(tmp_path / "1-1", CPU)


def test_a_bit_that_flipped_anywhere_is_seen(tmp_path: Path) -> None:
    write(snapshot(), tmp_path / "1-1")
    state = tmp_path / "1-1" / STATE
    whole = state.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 200)):
        state.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(UnreadableFile):
            read(tmp_path / "1-1", CPU)


@pytest.mark.parametrize(
    ("other", "deterministic", "said"),
    [
        (Identity("request", "engine 1", {"dtype": "fp32", "threads": 2}), True, ""),
        (Identity("other", "engine 1", {}), False, "another request"),
        (Identity("request", "engine 2", {}), False, "engine 2"),
        (Identity("request", "engine 1", {"dtype": "bf16", "threads": 2}), False, ""),
        (Identity("request", "engine 1", {"dtype": "bf16", "threads": 2}), True, "dtype was 'fp32' and is 'bf16'"),
    ],
)
def test_who_may_go_on_from_it(other: Identity, deterministic: bool, said: str) -> None:
    why = IDENTITY.differs(other, deterministic)
    assert (said in why) if said else why == ""


def test_what_networks_see_comes_back_on_the_device(tmp_path: Path) -> None:
    """`meta` stands for a GPU: what is drawn and encoded on the CPU stays there, the rest moves."""
    write(snapshot(), tmp_path / "1-1")
    got = read(tmp_path / "1-1", torch.device("meta"))
    said, latent, mask, picture, _ = got.results.values()
    moved = [said.timeline[0].conditioning.sequence, said.timeline[1].region, latent.x, mask.latent, got.runs[5].x]
    assert {each.device.type for each in (*moved, got.runs[5].memory["denoised"])} == {"meta"}
    assert {each.device.type for each in (mask.pixels, picture.pixels, got.runs[5].noise["generator"])} == {"cpu"}


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    write(snapshot(), tmp_path / "1-1")
    for facts in ("[]", '{"identity": 3, "results": {}, "runs": {}}', '{"identity": {}, "results": [], "runs": {}}'):
        tensors = {"x": torch.zeros(1)}
        save_file(tensors, tmp_path / "1-1" / STATE, {"safelight": facts, "sha256": digest(facts, tensors)})
        with pytest.raises(UnreadableFile):
            read(tmp_path / "1-1", CPU)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(snapshot(), tmp_path / "1-1")
    assert list(tmp_path.iterdir()) == []
