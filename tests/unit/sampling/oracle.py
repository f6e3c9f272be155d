"""k-diffusion's `sampling.py`, loaded alone: importing the whole package would need torchvision."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from torch import Tensor


def append_dims(x: Tensor, dims: int) -> Tensor:
    """Of k-diffusion's `utils`, all that its samplers use."""
    return x[(...,) + (None,) * (dims - x.ndim)]


def load() -> ModuleType:
    """The module. RuntimeError, not a skipped test, where the package is missing."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("Install the oracle of these tests: pip install --no-deps k-diffusion==0.1.1.post1")
    package, folder = "k_diffusion_oracle", Path(found.submodule_search_locations[0])
    if f"{package}.sampling" in sys.modules:
        return sys.modules[f"{package}.sampling"]
    sys.modules[package] = ModuleType(package)
    sys.modules[package].__path__ = []
    utils = ModuleType(f"{package}.utils")
    utils.append_dims = append_dims
    sys.modules[utils.__name__] = sys.modules[package].utils = utils
    spec = importlib.util.spec_from_file_location(f"{package}.sampling", folder / "sampling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
