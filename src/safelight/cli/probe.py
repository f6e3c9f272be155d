"""What this machine computes with, as a process of its own (`python -m safelight.cli.probe`): JSON on standard output.

`safelight doctor` asks it, so that neither loading torch nor a driver that crashes touches the command itself. Code of
the engine is named and not imported, as in every table.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from typing import Any

from safelight.core.names import attribute

PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate")


def facts(device: str, dtype: str) -> dict[str, Any]:
    """{versions, missing, threads, device, devices}. `device`, `dtype`: as the settings have them.

    `device`: what the worker would choose, or {error}; `devices`: every one there is, with its free bytes.
    """
    versions, missing = {}, []
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if "torch" in missing:
        return {"versions": versions, "missing": missing, "devices": []}
    torch = importlib.import_module("torch")
    free = attribute("safelight.engine.residency.memory:free")
    there = [torch.device("cpu")]
    there += [torch.device("cuda", at) for at in range(torch.cuda.device_count())]
    there += [torch.device("mps")] if torch.backends.mps.is_available() else []
    devices = []
    for each in there:
        name = torch.cuda.get_device_name(each) if each.type == "cuda" else each.type
        devices.append({"device": str(each), "name": name, "bytes_free": free(each)})
    built = {"cuda": torch.version.cuda, "rocm": torch.version.hip}
    versions |= {name: version for name, version in built.items() if version}
    return {"versions": versions, "missing": missing, "threads": torch.get_num_threads(),
            "device": _chosen(device, dtype), "devices": devices}  # fmt: skip


def _chosen(device: str, dtype: str) -> dict[str, str]:
    try:
        chosen = attribute("safelight.engine.device:choose_device")(device, dtype)
        importlib.import_module("torch").zeros(1, device=chosen.device, dtype=chosen.dtype)
    except (RuntimeError, AssertionError, ValueError) as error:
        return {"error": str(error).strip().splitlines()[0]}
    return {"device": str(chosen.device), "dtype": chosen.dtype_name}


if __name__ == "__main__":
    json.dump(facts(*sys.argv[1:3]), sys.stdout)
