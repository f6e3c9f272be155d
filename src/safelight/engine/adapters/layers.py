"""Layers with low-rank paths beside them. The layer they stand in for is never changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from safelight.engine.adapters.rows import RowTable, Use
from safelight.engine.weights.lora import LowRank


class LoraPath(nn.Module):
    """The low-rank path of one adapter beside one layer, its scale (alpha / rank) folded into `up`."""

    down: Tensor
    up: Tensor
    middle: Tensor | None

    def __init__(self, down: Tensor, up: Tensor, middle: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("up", up, persistent=False)
        self.register_buffer("middle", middle, persistent=False)

    @property
    def bytes(self) -> int:
        """Bytes of its weights."""
        return sum(buffer.nbytes for buffer in self.buffers())


class LoraLayer(nn.Module, ABC):
    """Stands where `base` stood: base(x), and for the rows that the table names, strength * up(down(x)) on top.

    Rows are dim 0. Without a row to serve, the result is the base's own.
    """

    def __init__(self, base: nn.Module, table: RowTable) -> None:
        super().__init__()
        self.base = base
        self.paths = nn.ModuleDict()
        self._table = table
        self.train(base.training)

    def __getattr__(self, name: str) -> Any:
        """What others ask of a layer (`weight`, `bias`, `in_features`, `stride`) is the base's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, x: Tensor) -> Tensor:
        """x: [rows, ...] as the base takes it."""
        y: Tensor = self.base(x)
        uses = [use for use in self._table.uses if use.slot in self.paths]
        if uses and self._table.width not in (None, x.shape[0]):
            raise ValueError(f"A pass of {x.shape[0]} rows under a table of rows for {self._table.width}.")
        for use in uses:
            self._add(use, x, y)
        return y

    def _add(self, use: Use, x: Tensor, y: Tensor) -> None:
        path = self.paths[use.slot]
        assert isinstance(path, LoraPath)
        if isinstance(use.rows, slice):
            y[use.rows].add_(self._change(path, x[use.rows], use.strength).to(y.dtype))
        else:
            rows = use.rows.to(x.device)
            y.index_add_(0, rows, self._change(path, x.index_select(0, rows), use.strength).to(y.dtype))

    def _change(self, path: LoraPath, x: Tensor, strength: float | Tensor) -> Tensor:
        """Strength is applied between down and up, where a tensor is smallest, with fp32 factors in either form."""
        inner = self.inner(path, x.to(path.down.dtype))
        if isinstance(strength, Tensor):
            factors = strength.to(x.device).view(-1, *[1] * (inner.dim() - 1))
            return self.outer(path, (inner * factors).to(inner.dtype))
        return self.outer(path, inner if strength == 1 else inner * strength)

    @abstractmethod
    def inner(self, path: LoraPath, x: Tensor) -> Tensor:
        """x -> [rows, ..., rank] (linear) or [rows, rank, h, w] (convolution)."""

    @abstractmethod
    def outer(self, path: LoraPath, inner: Tensor) -> Tensor:
        """What `inner` gave -> the shape of the base's result."""


class LoraLinear(LoraLayer):
    """A linear layer: down [rank, in], up [out, rank]."""

    def inner(self, path: LoraPath, x: Tensor) -> Tensor:
        """[rows, ..., in] -> [rows, ..., rank]."""
        return functional.linear(x, path.down)

    def outer(self, path: LoraPath, inner: Tensor) -> Tensor:
        """[rows, ..., rank] -> [rows, ..., out]."""
        return functional.linear(inner, path.up)


class LoraConv2d(LoraLayer):
    """A convolution: the base's kernel, stride and padding are those of `down`, or of `middle` in the Tucker form."""

    def inner(self, path: LoraPath, x: Tensor) -> Tensor:
        """[rows, in, H, W] -> [rows, rank, h, w]."""
        if path.middle is None:
            return self._convolve(x, path.down)
        return self._convolve(functional.conv2d(x, path.down), path.middle)

    def outer(self, path: LoraPath, inner: Tensor) -> Tensor:
        """[rows, rank, h, w] -> [rows, out, h, w]."""
        return functional.conv2d(inner, path.up)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        base = self.base
        assert isinstance(base, nn.Conv2d)
        return functional.conv2d(x, weight, None, base.stride, base.padding, base.dilation)


def wrapped(base: nn.Linear | nn.Conv2d, table: RowTable) -> LoraLayer:
    """The layer that stands in for `base`."""
    return LoraConv2d(base, table) if isinstance(base, nn.Conv2d) else LoraLinear(base, table)


def fitted(pair: LowRank, base: nn.Linear | nn.Conv2d, dtype: torch.dtype, device: torch.device) -> LoraPath | str:
    """The path beside `base`, or in words why the pair does not fit it.

    A 1x1 convolution and a linear layer are the same thing, and files made for one are used on the other. Weights are
    copied: they neither stay mapped from the file, nor on its alignment, on which the last bits depend.
    """
    down, up, middle = pair.down, pair.up.flatten(1), pair.middle
    if isinstance(base, nn.Linear):
        wanted: tuple[int, ...] = (base.in_features,)
        down = down.flatten(1) if down.shape[2:].numel() == 1 else down
        fits = middle is None and up.shape[0] == base.out_features
    else:
        wanted = (base.in_channels, *(base.kernel_size if middle is None else (1, 1)))
        down = down[:, :, None, None] if down.dim() == 2 else down
        fits = up.shape[0] == base.out_channels and (middle is None or middle.shape[2:] == base.kernel_size)
        up = up[:, :, None, None]
    if not fits or down.shape[1:] != wanted or up.shape[1] != pair.rank or getattr(base, "groups", 1) != 1:
        core = "" if middle is None else f", middle {list(middle.shape)}"
        return f"down {list(pair.down.shape)}{core}, up {list(pair.up.shape)} do not fit {base}"

    def copy(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype, copy=True)

    return LoraPath(copy(down), copy(up.float() * pair.scale), None if middle is None else copy(middle))
