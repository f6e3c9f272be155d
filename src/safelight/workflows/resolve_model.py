"""Resolving the operations on models: a name or path becomes a pinned file."""

from __future__ import annotations

from safelight.core.operations.model import (
    COMPONENTS,
    ModelLoad,
    ModelUnload,
    ResolvedModelLoad,
    ResolvedModelUnload,
)
from safelight.workflows.context import Context


def load(request: ModelLoad, context: Context) -> ResolvedModelLoad:
    """A complete model.load; InvalidRequest with the nearest names where there is no such model."""
    found = context.catalog.model(request.model)
    components = tuple(COMPONENTS.values()) if request.role is None else (COMPONENTS[request.role],)
    return ResolvedModelLoad(
        model=found.ref, family=found.family, components=components, dtype=request.dtype, pinned=request.pinned
    )


def unload(request: ModelUnload, context: Context) -> ResolvedModelUnload:
    """A complete model.unload. What is in memory is let go of also where its file has changed since, or is gone."""
    if request.model is None:
        return ResolvedModelUnload(file=None)
    return ResolvedModelUnload(file=context.catalog.given(request.model) or context.catalog.model(request.model).ref)
