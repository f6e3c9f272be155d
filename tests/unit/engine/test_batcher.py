"""The batcher chooses who shares a pass, and keeps one row's fault from the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from safelight.engine.batcher import Batcher, Wanted
from safelight.engine.conditioning import Conditioning
from safelight.engine.evaluation import Evaluation
from safelight.engine.residency.lent import LentNetwork
from safelight.placement.profiles import Profiles


class Network:
    """Doubles x; fails where a row holds `poison`, in passes wider than `limit`, or both."""

    def __init__(self, poison: float | None = None, error: Exception | None = None, limit: int = 99) -> None:
        self.poison, self.limit = poison, limit
        self.error = error or RuntimeError("out of luck")
        self.widths: list[int] = []

    def denoise(self, x: Tensor, sigmas: Sequence[float], conditionings: Sequence[Conditioning]) -> Tensor:
        self.widths.append(len(x))
        if len(x) > self.limit or (self.poison is not None and bool((x == self.poison).any())):
            raise self.error
        return x * 2


class Host:
    @contextmanager
    def rows(self, assignments: Sequence[Any]) -> Iterator[None]:
        yield


def lent(network: Network, key: str = "net") -> LentNetwork:
    return LentNetwork(key, cast(Any, network), cast(Any, Host()), ())


def wanted(
    network: LentNetwork, value: float, ticket: int, *, since: float = 0.0, tokens: int = 77, **more: Any
) -> Wanted:
    x = torch.full((1, 2, 2), value)
    return Wanted(Evaluation(x, 1.0, network, Conditioning(torch.zeros(tokens, 1)), **more), ticket, since)


def batcher(limit: int = 8) -> Batcher:
    return Batcher(limit, "fp32", Profiles())


def test_who_waits_longest_brings_its_group() -> None:
    one, other = lent(Network()), lent(Network(), "other")
    rows = [
        wanted(one, 1, 1, since=5),
        wanted(other, 2, 2, since=3),
        wanted(one, 3, 3, since=4),
        wanted(other, 4, 4, since=9),
    ]
    assert [row.ticket for row in batcher().choose(rows)] == [2, 4]
    assert [row.ticket for row in batcher(limit=1).choose(rows)] == [2]
    assert batcher().choose([]) == []


@pytest.mark.parametrize("more", [{"tokens": 154}, {"exclusive": "job"}, {"perturbation": "skip"}])
def test_what_must_agree_to_share_a_pass(more: dict[str, Any]) -> None:
    network = lent(Network())
    rows = [wanted(network, 1, 1), wanted(network, 2, 2, **more)]
    assert [row.ticket for row in batcher().choose(rows)] == [1]


def test_an_exclusive_group_is_never_cut() -> None:
    network = lent(Network())
    rows = [wanted(network, number, number, exclusive="job") for number in range(3)]
    assert len(batcher(limit=2).choose(rows)) == 3


@pytest.mark.parametrize("error", [RuntimeError("shape"), TypeError("kind"), KeyError("name"), MemoryError()])
def test_a_row_that_fails_alone_fails_alone(error: Exception) -> None:
    network = Network(poison=3.0, error=error)
    rows = [wanted(lent(network), float(number), number) for number in range(8)]
    outcomes = batcher().run(rows)
    assert outcomes[3] is error
    for number, outcome in enumerate(outcomes):
        if number != 3:
            assert isinstance(outcome, Tensor)
            assert torch.equal(outcome, torch.full((1, 2, 2), 2.0 * number))


def test_a_pass_that_is_too_wide_is_halved_until_it_fits() -> None:
    network = Network(limit=2)
    rows = [wanted(lent(network), float(number), number) for number in range(6)]
    outcomes = batcher().run(rows)
    assert all(isinstance(outcome, Tensor) for outcome in outcomes)
    assert network.widths == [6, 3, 1, 2, 3, 1, 2]


def test_a_pass_of_a_deterministic_picture_is_never_halved() -> None:
    network = Network(limit=1)
    rows = [wanted(lent(network), number, number, exclusive="job") for number in range(2)]
    assert [str(each) for each in batcher().run(rows)] == ["out of luck"] * 2
    assert network.widths == [2]


def test_what_was_measured_is_told() -> None:
    told: list[tuple[Any, int]] = []
    measuring = Batcher(8, "fp32", Profiles(), lambda key, width, seconds: told.append((key, width)))
    measuring.run([wanted(lent(Network()), 1.0, 1), wanted(lent(Network()), 2.0, 2)])
    assert told == [(("net", "1x2x2x77", "fp32"), 2)]
