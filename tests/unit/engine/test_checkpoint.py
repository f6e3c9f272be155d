"""A checkpoint is whole or not at all, and gives back what was put in to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safelight.engine.checkpoint import STATE, Identity, Snapshot, read, remove, write
from safelight.engine.conditioning import Conditioning, Span
from safelight.engine.results import Latent, Mask, Picture, Said, Stored
from safelight.engine.work import RunState
from safelight.errors import UnreadableFile

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
    return Snapshot(IDENTITY, results, {5: run, 6: RunState(0, torch.randn(4, 8, 8))})


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
    assert same(read(tmp_path / "1-1"), snapshot())
    assert read(tmp_path / "1-1").steps == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-1"], "no temporary stays"


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    write(snapshot(), tmp_path / "1-1")
    state = tmp_path / "1-1" / STATE
    whole = state.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        state.write_bytes(whole[:length])
        with pytest.raises(UnreadableFile, match="1-1"):
            read(tmp_path / "1-1")
    remove(tmp_path / "1-1")
    remove(tmp_path / "1-1")
    with pytest.raises(UnreadableFile):
        read(tmp_path / "1-1")


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
