"""The bench: components in memory within a byte budget, lent to whoever needs them, evicted when they are idle.

`placement.plan` decides, the bench carries out. A component is never evicted while it is lent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch

from safelight.catalog.pins import check
from safelight.core.families import FamilySpec
from safelight.core.files import FileRef
from safelight.core.names import attribute
from safelight.core.registry import Registry
from safelight.core.stages import AdapterUse, NetworkUse
from safelight.engine.adapters.host import AdapterHost
from safelight.engine.device import Device
from safelight.engine.families.family import Autoencoder, Family, Network, TextEncoder
from safelight.engine.residency import memory
from safelight.engine.residency.lent import LentAutoencoder, LentNetwork, LentText, Row
from safelight.engine.residency.loading import Loading, Progress
from safelight.engine.residency.prompts import Prompts
from safelight.engine.residency.working import Working
from safelight.engine.weights.converted import ConvertedWeights
from safelight.engine.weights.lora import LoraFile, read_lora
from safelight.engine.weights.reading import Reading
from safelight.errors import NoRoomNow, OutOfMemory
from safelight.placement.plan import Fit, Form, Held, Need, plan, recent

LORAS_KEPT = 32
ADAPTERS_KEPT = 8
"""Adapters that stay hung in a component while nobody uses them."""

COMPONENTS = ("network", "text", "vae")


@dataclass(frozen=True)
class Holding:
    """A component that is in memory by hand. `loaded`: just now, in `seconds`."""

    component: str
    bytes: int
    pinned: bool
    loaded: bool
    seconds: float


@dataclass(frozen=True)
class Gone:
    """What left memory by hand, by names; what was wanted and stays, each with the reason; bytes that are free now."""

    unloaded: tuple[str, ...]
    kept: tuple[tuple[str, Literal["in use", "pinned"]], ...]
    bytes: int


@dataclass
class _Resident:
    """A component in memory, and what the plan needs to know of it. `pinned`: it stays although nobody uses it.

    `name`: the model's and its own, as people see it. `path`: of the file it was read from, as it then was.
    """

    key: str
    name: str
    path: str
    value: Any
    bytes: int
    load_s: float
    host: AdapterHost | None
    adapter_bytes: int = 0
    hanging: Counter[str] = field(default_factory=Counter)
    users: int = 0
    pinned: bool = False
    uses: float = 0.0
    used_at: float = field(default_factory=time.monotonic)

    def touch(self) -> None:
        now = time.monotonic()
        self.uses = recent(self.uses, now - self.used_at) + 1.0
        self.used_at = now

    def came_from(self, model: FileRef) -> bool:
        key, name = self.key.rpartition("/")[0], self.name.rpartition("/")[0]
        return key == model.key or self.path == model.path or name == model.name

    def held(self) -> Held:
        uses = recent(self.uses, time.monotonic() - self.used_at)
        held = self.bytes + self.adapter_bytes
        return Held(self.key, held, uses, self.load_s, in_use=self.users > 0, pinned=self.pinned)


class Bench:
    """Lends components of checkpoints, each at most once in memory.

    One owner (the loop's thread); `keys` and `bytes` may be read from any other.
    """

    def __init__(
        self,
        where: Device,
        budget: int,
        families: Registry[FamilySpec],
        loading: Loading = lambda name, done, total: None,
        kept: ConvertedWeights | None = None,
    ) -> None:
        self.where = where
        self.budget = budget
        self._families = families
        self._loading = loading
        self._kept = kept
        self._residents: dict[str, _Resident] = {}
        self._loras: dict[str, LoraFile] = {}
        self._wide: set[str] = set()
        self.working = Working(self)
        self.prompts = Prompts()

    @property
    def device(self) -> torch.device:
        """Where everything lent lives."""
        return self.where.device

    @property
    def keys(self) -> list[str]:
        """Weights keys of the checkpoints that have something in memory."""
        return sorted({key.rsplit("/", 1)[0] for key in list(self._residents)})

    @property
    def bytes(self) -> int:
        """Bytes of all that is in memory, adapters included."""
        return sum(each.bytes for each in self.held())

    def held(self) -> list[Held]:
        """All that is in memory, as the plan sees it."""
        return [resident.held() for resident in list(self._residents.values())]

    @contextmanager
    def network(self, use: NetworkUse) -> Iterator[LentNetwork]:
        """A denoising network with its adapters hung in. OutOfMemory where it cannot be had."""
        with (
            self._lend(use.model, use.family, "network") as resident,
            self._hung(resident, use.adapters, "network") as (row, warnings),
        ):
            kind = self._families.get(use.family)
            yield LentNetwork(
                resident.key, cast(Network, resident.value), _host(resident), row, warnings, use.model.name, kind
            )

    @contextmanager
    def text(self, use: NetworkUse) -> Iterator[LentText]:
        """A text encoder with its adapters hung in. OutOfMemory where it cannot be had."""
        with (
            self._lend(use.model, use.family, "text") as resident,
            self._hung(resident, use.adapters, "text") as (row, warnings),
        ):
            yield LentText(resident.key, cast(TextEncoder, resident.value), _host(resident), row, warnings)

    @contextmanager
    def autoencoder(self, use: NetworkUse) -> Iterator[LentAutoencoder]:
        """An autoencoder. OutOfMemory where it cannot be had."""
        with self._lend(use.model, use.family, "vae") as resident:
            if resident.key in self._wide:
                self.widen(resident.key)
            yield LentAutoencoder(resident.key, cast(Autoencoder, resident.value))

    def widen(self, key: str) -> bool:
        """Let a lent autoencoder compute in fp32, now and whenever it is loaded again. False where it does already."""
        resident = self._residents[key]
        coder = cast(Autoencoder, resident.value)
        if coder.dtype is torch.float32:
            return False
        more = Need.weights(f"{key} in fp32", resident.bytes * 4 // coder.dtype.itemsize - resident.bytes)
        self.make_room(replace(more, uses=(key,)))
        coder.widen()
        resident.bytes = coder.bytes
        self._wide.add(key)
        return True

    def evict(self, key: str) -> None:
        """Let go of a component. ValueError while it is lent."""
        if self._residents[key].users:
            raise ValueError(f"{key} is in use.")
        del self._residents[key]

    def hold(self, use: NetworkUse, component: str, pinned: bool) -> Holding:
        """Bring a component into memory and pin it there, or not. OutOfMemory where it cannot be had."""
        loaded = f"{use.model.key}/{component}" not in self._residents
        with self._lend(use.model, use.family, component) as resident:
            resident.pinned = pinned
        seconds = resident.load_s if loaded else 0.0
        return Holding(component, resident.held().bytes, pinned, loaded, seconds)

    def release(self, model: FileRef | None) -> Gone:
        """Let go of a checkpoint's components, pinned or not; None: of all that is not pinned. What is lent stays.

        A checkpoint is told by its content, its path or its name: its file may have changed since it was read.
        """
        before = self.bytes
        unloaded: list[str] = []
        kept: list[tuple[str, Literal["in use", "pinned"]]] = []
        for key, resident in list(self._residents.items()):
            if model is not None and not resident.came_from(model):
                continue
            if resident.users:
                kept.append((resident.name, "in use"))
            elif resident.pinned and model is None:
                kept.append((resident.name, "pinned"))
            else:
                self.evict(key)
                unloaded.append(resident.name)
        self.prompts.clear()
        if unloaded:
            memory.relieve(self.device)
        return Gone(tuple(unloaded), tuple(kept), before - self.bytes)

    @contextmanager
    def _lend(self, model: FileRef, family: str, component: str) -> Iterator[_Resident]:
        key = f"{model.key}/{component}"
        resident = self._residents.get(key) or self._loaded(key, model, family, component)
        resident.users += 1
        resident.touch()
        try:
            yield resident
        finally:
            resident.users -= 1

    def _loaded(self, key: str, model: FileRef, family: str, component: str) -> _Resident:
        """Load, and where memory runs out, once more with everything gone that nobody uses."""
        for last in (False, True):
            try:
                return self._load(key, model, family, component)
            except Exception as error:
                if not memory.ran_out(error):
                    raise
            if not self.working.relieve() or last:
                break
        opened = Need.weights(f"Loading the {component} of {model.name}", model.size)
        raise self.working.refused(opened)

    def _load(self, key: str, model: FileRef, family: str, component: str) -> _Resident:
        check(model)
        code = attribute(self._families.get(family).code)
        name = f"{model.name}/{component}"
        progress = Progress(name, self._loading)
        reading = Reading(progress, self._kept)
        opened: Family = code(model.path, self.where.dtype, self.where.device, self.where.channels_last, reading)
        wanted = opened.size(component)
        self.make_room(Need.weights(f"The {component} of {model.name}", wanted))
        progress.begin(wanted)
        began = time.perf_counter()
        value: Any = {"network": opened.network, "text": opened.text, "vae": opened.autoencoder}[component]()
        host = AdapterHost(value.module) if component != "vae" else None
        progress.end()
        resident = _Resident(key, name, model.path, value, value.bytes, time.perf_counter() - began, host)
        self._residents[key] = resident
        return resident

    def make_room(self, need: Need) -> Form:
        """The best form of `need` that fits, with what has to leave for it evicted. NoRoomNow or OutOfMemory in words
        where none does."""
        decided = plan(need, self.held(), self.budget)
        if not isinstance(decided, Fit):
            raise (NoRoomNow if decided.ever else OutOfMemory)(decided.message, decided.hint)
        for key in decided.evict:
            self.evict(key)
        return decided.form

    @contextmanager
    def _hung(
        self, resident: _Resident, adapters: Sequence[AdapterUse], component: str
    ) -> Iterator[tuple[Row, tuple[str, ...]]]:
        """Adapters hung in and in use; given back, the oldest idle ones are taken out where too many hang."""
        row, warnings = self._attach(resident, adapters, component)
        keys = [key for key, _ in row]
        resident.hanging.update(keys)
        try:
            yield row, warnings
        finally:
            resident.hanging.subtract(keys)
            host = _host(resident)
            idle = [key for key in host.attached if resident.hanging[key] <= 0]
            for key in idle[: max(0, len(host.attached) - ADAPTERS_KEPT)]:
                host.detach(key)
            resident.adapter_bytes = host.bytes

    def _attach(
        self, resident: _Resident, adapters: Sequence[AdapterUse], component: str
    ) -> tuple[Row, tuple[str, ...]]:
        """Hang the adapters in; those of strength 0 stay out, so that the row is the base's own."""
        host = _host(resident)
        row: list[tuple[str, float]] = []
        warnings: list[str] = []
        for use in adapters:
            if use.strength == 0.0:
                continue
            lora = self._lora(use.file)
            left = lora.unmatched + lora.unsupported + lora.foreign(COMPONENTS) if component == "network" else ()
            if pairs := lora.pairs.get(component, {}):
                left += host.attach(use.file.key, pairs, self.where.dtype, self.where.device)
                row.append((use.file.key, use.strength))
            if left:
                warnings.append(_left_out(use.file.name, left))
        resident.adapter_bytes = host.bytes
        return tuple(row), tuple(warnings)

    def _lora(self, file: FileRef) -> LoraFile:
        known = self._loras.pop(file.key, None)
        if known is None:
            check(file)
            known = read_lora(file.path)
        self._loras[file.key] = known
        while len(self._loras) > LORAS_KEPT:
            oldest = next(iter(self._loras))
            del self._loras[oldest]
        return known


def _host(resident: _Resident) -> AdapterHost:
    if resident.host is None:
        raise TypeError(f"{resident.key} takes no adapters.")
    return resident.host


def _left_out(name: str, lines: Sequence[str]) -> str:
    shown = "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
    return f"LoRA {name}: left out: {shown}."
