"""The layers of a network that LoRA can be hung into, found by the names that files give them."""

from __future__ import annotations

from torch import nn

from safelight.engine.adapters.original_names import original_names

Target = nn.Linear | nn.Conv2d

_TEXT_ROOT = "text_model."
"""Transformers 5.6 took this level out of CLIP's tree; files have it."""


class Targets:
    """The linear and convolution layers of a tree of modules, as it stands without adapters."""

    def __init__(self, module: nn.Module) -> None:
        self.layers: dict[str, Target] = {
            path: layer for path, layer in module.named_modules() if path and isinstance(layer, nn.Linear | nn.Conv2d)
        }
        names = {path: path for path in self.layers}
        others = original_names(self.layers)
        for path in self.layers:
            others[path.removeprefix(_TEXT_ROOT) if path.startswith(_TEXT_ROOT) else _TEXT_ROOT + path] = path
        names = others | names  # the tree's own names win
        flat: dict[str, set[str]] = {}
        for name, path in names.items():
            flat.setdefault(_flat(name), set()).add(path)
        self._paths = {name: next(iter(paths)) for name, paths in flat.items() if len(paths) == 1} | names

    def find(self, name: str) -> str | None:
        """The path of the layer of that name: dotted or flattened (`.` as `_`), diffusers' or the original's.

        None where there is no such layer, or where flattening makes two of them alike.
        """
        return self._paths.get(name) or self._paths.get(_flat(name))


def _flat(name: str) -> str:
    return name.replace(".", "_")
