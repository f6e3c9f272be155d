"""Checkpoints: a job between two steps, written whole or not at all, so that any worker can go on from there.

A checkpoint is a folder with one file, `state.safetensors`: the results of finished stages, the runs under way, and
what they belong to (the request, the engine's version, how this worker computes). It carries the SHA-256 of all of
this: safetensors checks lengths only, and a flipped bit would otherwise be drawn.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from safelight.artifacts import sync_folder
from safelight.engine.results import Result, dump, load
from safelight.engine.work import RunState
from safelight.errors import UnreadableFile

STATE = "state.safetensors"


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to. A checkpoint of another identity is dropped.

    `request`: hash of the resolved request. `engine`: versions that decide numbers. `plan`: how this worker computes;
    compared for deterministic jobs only, since other devices and precisions give other last bits.
    """

    request: str
    engine: str
    plan: Mapping[str, Any] = field(default_factory=dict)

    def differs(self, other: Identity, deterministic: bool) -> str:
        """Why `other` cannot go on from here, in words; empty where it can."""
        if self.request != other.request:
            return "it belongs to another request"
        if self.engine != other.engine:
            return f"it was written by {self.engine}, this is {other.engine}"
        if deterministic and dict(self.plan) != dict(other.plan):
            names = sorted(key for key in {*self.plan, *other.plan} if self.plan.get(key) != other.plan.get(key))
            return "this worker computes differently: " + ", ".join(
                f"{name} was {self.plan.get(name)!r} and is {other.plan.get(name)!r}" for name in names
            )
        return ""


@dataclass(frozen=True)
class Snapshot:
    """A job between two steps: finished stages' results and open runs, both by stage number.

    `width`: rows of the widest pass it had part in.
    """

    identity: Identity
    results: Mapping[int, Result]
    runs: Mapping[int, RunState]
    width: int = 0

    @property
    def steps(self) -> int:
        """Moves done in the open runs."""
        return sum(run.place for run in self.runs.values())


def write(snapshot: Snapshot, folder: Path) -> None:
    """Write `snapshot` as `folder`, whole or not at all: a folder of a temporary name, synced, then renamed."""
    tensors: dict[str, Tensor] = {}
    results: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    for number, result in snapshot.results.items():
        parts, results[str(number)] = dump(result)
        tensors.update({f"result.{number}.{name}": tensor.contiguous().cpu() for name, tensor in parts.items()})
    for number, run in snapshot.runs.items():
        kept = {f"run.{number}.x": run.x, **{f"run.{number}.noise.{k}": v for k, v in run.noise.items()}}
        numbers: dict[str, float | int] = {}
        for name, value in run.memory.items():
            if isinstance(value, Tensor):
                kept[f"run.{number}.memory.{name}"] = value
            else:
                numbers[name] = value
        tensors.update({name: tensor.contiguous().cpu() for name, tensor in kept.items()})
        runs[str(number)] = {"place": run.place, "numbers": numbers}
    identity = {**vars(snapshot.identity), "plan": dict(snapshot.identity.plan)}
    facts = json.dumps({"identity": identity, "results": results, "runs": runs, "width": snapshot.width})
    temporary = folder.with_name(folder.name + ".part")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        with (temporary / STATE).open("wb") as file:
            file.write(save(tensors, {"safelight": facts, "sha256": digest(facts, tensors)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder)
    except (OSError, MemoryError, RuntimeError):
        remove(temporary)  # on a full disk every byte counts
        raise
    sync_folder(folder.parent)


def read(folder: Path, device: torch.device) -> Snapshot:
    """The snapshot in `folder`, ready to go on from on `device`; UnreadableFile where it is not whole."""
    try:
        with safe_open(folder / STATE, framework="pt") as file:
            said = file.metadata()
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if digest(said["safelight"], tensors) != said["sha256"]:
            raise ValueError("its content is not what was written")
        facts = json.loads(said["safelight"])
        results = {int(n): load(_under(tensors, f"result.{n}."), each, device) for n, each in facts["results"].items()}
        runs = {int(n): _run(tensors, n, each, device) for n, each in facts["runs"].items()}
        return Snapshot(Identity(**facts["identity"]), results, runs, int(facts["width"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UnreadableFile(
            f"The checkpoint {folder.name} is not whole: {error}.", "The stage starts anew."
        ) from error


def digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over all that a checkpoint says: the facts, and each tensor's name, type, shape and bytes."""
    sha256 = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def remove(folder: Path) -> None:
    """Forget a checkpoint; one that is not there is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _run(tensors: Mapping[str, Tensor], number: str, facts: Mapping[str, Any], device: torch.device) -> RunState:
    """A run's latent and memory on `device`; the state of its noise stays on the CPU, where the noise is drawn."""
    remembered = {name: each.to(device) for name, each in _under(tensors, f"run.{number}.memory.").items()}
    memory: dict[str, Tensor | float | int] = {**remembered, **facts["numbers"]}
    noise = _under(tensors, f"run.{number}.noise.")
    return RunState(facts["place"], tensors[f"run.{number}.x"].to(device), memory, noise)
