"""The recipes of model.load and model.unload: a stage each, whose facts are the job's result."""

from __future__ import annotations

from safelight.core.operations.model import ResolvedModelLoad, ResolvedModelUnload
from safelight.core.stages import Handle, LoadModel, NetworkUse, Recipe, UnloadModel


def load(request: ResolvedModelLoad) -> Recipe:
    """Bring the components into memory."""
    use = NetworkUse(request.model, request.family)
    facts: Handle = yield LoadModel(use, request.components, request.dtype, request.pinned)
    return facts


def unload(request: ResolvedModelUnload) -> Recipe:
    """Let go of what is idle."""
    facts: Handle = yield UnloadModel(request.file)
    return facts
