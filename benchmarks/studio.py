"""The engine in this process: a worker's loop without a server, and diffusers' pipeline over the loop's own modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from safelight.catalog.index import FolderCatalog
from safelight.core.names import attribute
from safelight.core.operations import Contract
from safelight.core.stages import NetworkUse
from safelight.core.tables import build_tables
from safelight.engine.device import choose_device
from safelight.engine.loop import Loop, LoopOptions
from safelight.engine.openjob import Order
from safelight.workflows.context import Context

Body = dict[str, Any]


class Quiet:
    """A reporter that only notes what went wrong."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return (lambda *told: self.ends.append(told)) if name in ("ended", "declined") else (lambda *told: None)


class Studio:
    """A loop as a worker has it, and ways to run bodies on it. `models`: more folders with checkpoints."""

    def __init__(self, folder: Path, models: Path | None = None, default: str = "postcards") -> None:
        self.tables = build_tables()
        self.contract = Contract(self.tables.operations)
        self.context = Context(FolderCatalog([models] if models else [], default), self.tables)
        self.quiet = Quiet()
        options = LoopOptions(artifacts=folder / "artifacts", max_batch=16, checkpoint_interval_s=3600)
        self.where = choose_device()
        self.loop = Loop(self.where, self.tables, options, self.quiet)
        self.folder = folder
        self._jobs = count()

    @property
    def facts(self) -> dict[str, Any]:
        """How it computes."""
        return {"dtype": self.where.dtype_name, "threads": torch.get_num_threads()}

    @property
    def use(self) -> NetworkUse:
        """The default model, without adapters."""
        entry = self.context.catalog.model(None)
        return NetworkUse(entry.ref, entry.family)

    def submit(self, body: Body) -> None:
        """Open a job."""
        request = self.contract.parse({"operation": "image.generate", **body})
        spec = self.contract.spec("image.generate")
        resolved = attribute(spec.resolve)(request, self.context)
        recipe = attribute(spec.recipe)(resolved)
        self.loop.open(Order(f"job{next(self._jobs)}", 1, recipe, "", self.folder / "checkpoints"))

    def run(self, *groups: list[Body]) -> None:
        """Each group side by side, the groups one after another. RuntimeError where a job fails."""
        for group in groups:
            for body in group:
                self.submit(body)
            while self.loop.pulse().open:
                self.loop.turn()
        if self.quiet.ends:
            raise RuntimeError(f"A job failed: {self.quiet.ends[0]}")

    def pipeline(self) -> Callable[[Body, Path], None]:
        """diffusers' pipeline over the very modules and tokenizer of the default model, from prompt to PNG."""
        diffusers_logging.set_verbosity_error()
        with self.loop.bench.network(self.use) as network, self.loop.bench.autoencoder(self.use) as vae:
            unet, autoencoder, prediction = network.network.module, vae.autoencoder.module, network.network.prediction
        with self.loop.bench.text(self.use) as text:
            encoder, ids = text.module, _Tokens(text)
        made: Any = StableDiffusionPipeline(
            vae=autoencoder, text_encoder=encoder, tokenizer=None, unet=unet, safety_checker=None,
            scheduler=_scheduler(prediction), feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        made.tokenizer = ids
        made.set_progress_bar_config(disable=True)

        def draw(body: Body, path: Path) -> None:
            generator = torch.Generator("cpu").manual_seed(int(body["seed"]))
            with torch.inference_mode():
                done = made(
                    body["prompt"], negative_prompt=body.get("negative_prompt", ""), generator=generator,
                    num_inference_steps=body["steps"], guidance_scale=body["guidance_scale"],
                    width=body["width"], height=body["height"],
                )  # fmt: skip
            done.images[0].save(path)

        return draw


class _Tokens:
    """The tokenizer of a text encoder as a pipeline calls it."""

    def __init__(self, text: Any) -> None:
        self._text = text
        self.model_max_length = text.chunk_length
        self.added_tokens_encoder: dict[str, int] = {}  # no textual inversions

    def __call__(self, texts: str | list[str], **_: Any) -> Any:
        rows = [self._row(each) for each in ([texts] if isinstance(texts, str) else texts)]
        return _Ids(torch.tensor(rows))

    def tokenize(self, text: str) -> list[int]:
        """Ids of the words."""
        ids: list[int] = self._text.tokenize(text)
        return ids

    def _row(self, text: str) -> list[int]:
        words = self.tokenize(text)[: self.model_max_length - 2]
        row = [self._text.begin, *words, self._text.end]
        return row + [self._text.padding] * (self.model_max_length - len(row))


class _Ids:
    def __init__(self, ids: torch.Tensor) -> None:
        self.input_ids = ids
        self.attention_mask = torch.ones_like(ids)


def _scheduler(prediction: str) -> Any:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", steps_offset=1,
        prediction_type={"v": "v_prediction", "eps": "epsilon"}[prediction], rescale_betas_zero_snr=prediction == "v",
    )  # fmt: skip


@contextmanager
def studio(folder: Path, models: Path | None = None, default: str = "postcards") -> Iterator[Studio]:
    """A studio, stopped at the end."""
    made = Studio(folder, models, default)
    try:
        yield made
    finally:
        made.loop.stop()
