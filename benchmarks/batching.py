"""Requests side by side: against one by one, and against what the passes of the bare networks predict for that mix.

A mix has other prompts, seeds, samplers, steps and guidance scales. The prediction takes the seconds of bare passes of
each width, lays the mix's steps side by side in the cheapest widths, and adds bare passes of text encoder and decoder,
one by one: no engine is in it.
"""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import Report, Row, median_seconds, pairs
from benchmarks.studio import Body, Studio, studio

SIDE = 128
KINDS: list[Body] = [
    {"sampler": "euler", "guidance_scale": 5, "prompt": "a red house on green hills under a clear blue sky"},
    {"sampler": "dpmpp_2m", "guidance_scale": 4, "prompt": "a blue tree, desert dunes"},
    {"sampler": "euler_ancestral", "guidance_scale": 6, "prompt": "a yellow sailboat, calm sea"},
    {"sampler": "ddim", "guidance_scale": 3, "prompt": "a white tent, starry night sky"},
]
"""One evaluation a step each, of a conditional and an unconditional row."""

ROWS = 2
NEVER_SLOWER = 0.98
EIGHT = 1.35
OF_PREDICTED = 0.9


def mix(size: int) -> list[Body]:
    """So many requests of 8 to 10 steps."""
    return [{**KINDS[index % 4], "steps": 8 + index % 3, "width": SIDE, "height": SIDE} for index in range(size)]


def run() -> Report:
    """Mixes of 1, 2, 4 and 8."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder)) as made:
        made.run(mix(8))
        bare = Bare(made)
        seeds = count(1)
        for size in (1, 2, 4, 8):

            def requests(size: int = size) -> list[Body]:
                return [{**body, "seed": next(seeds)} for body in mix(size)]

            measured = pairs(
                lambda: made.run(requests()),
                lambda: made.run(*([body] for body in requests())),
            )
            times = [one / together for together, one in zip(measured.ours, measured.other, strict=True)]
            faster = sorted(times)[len(times) // 2]
            predicted = bare.one_by_one(mix(size)) / bare.side_by_side(mix(size))
            name = f"{size} mixed: "
            target = EIGHT if size == 8 else NEVER_SLOWER
            rows.append(Row(name + "times as fast side by side", faster, "", target, "least", measured.note))
            note = f"predicted {predicted:.2f}, measured {faster:.2f}"
            rows.append(Row(name + "share of what is predicted", faster / predicted, "", OF_PREDICTED, "least", note))
        rows.append(Row("bare pass of 2 rows, eight times / of 16 rows", bare.seconds(2) * 8 / bare.seconds(16), ""))
        facts = made.facts
    return Report("batching", rows, facts)


class Bare:
    """Seconds of the networks alone."""

    def __init__(self, made: Studio) -> None:
        self._made = made
        self.seconds = cache(self._pass)
        self._best = cache(self._cheapest)
        with made.loop.bench.text(made.use) as text, torch.inference_mode():
            ids = torch.full((1, text.chunk_length), text.end)
            self._text_s = median_seconds(lambda: text.encode(ids, 1))
        with made.loop.bench.autoencoder(made.use) as vae, torch.inference_mode():
            latent = torch.randn(1, vae.autoencoder.channels, SIDE // 8, SIDE // 8)
            self._decode_s = median_seconds(lambda: vae.autoencoder.decode(latent))

    def one_by_one(self, bodies: list[Body]) -> float:
        """Seconds of the bare passes of requests, one after another."""
        return sum(body["steps"] * self.seconds(ROWS) for body in bodies) + self._around(bodies)

    def side_by_side(self, bodies: list[Body]) -> float:
        """The same where at each step all that still walk share passes of the cheapest widths."""
        longest = max(body["steps"] for body in bodies)
        walking = [sum(body["steps"] > step for body in bodies) for step in range(longest)]
        return sum(self._best(ROWS * many) for many in walking) + self._around(bodies)

    def _around(self, bodies: list[Body]) -> float:
        return len(bodies) * (2 * self._text_s + self._decode_s)

    def _cheapest(self, rows: int) -> float:
        splits = range(ROWS, rows, ROWS)
        return min([self.seconds(rows), *(self._best(part) + self._best(rows - part) for part in splits)])

    def _pass(self, rows: int) -> float:
        with self._made.loop.bench.network(self._made.use) as lent, torch.inference_mode():
            module: Any = lent.network.module
            kind = {"dtype": self._made.where.dtype}
            x = torch.randn(rows, lent.network.channels, SIDE // 8, SIDE // 8, **kind)
            x = x.contiguous(memory_format=torch.channels_last)
            times, states = torch.full((rows,), 500.0), torch.randn(rows, 77, module.config.cross_attention_dim, **kind)
            return median_seconds(lambda: module(x, times, encoder_hidden_states=states, return_dict=False), 15)
