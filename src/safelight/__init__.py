"""Safelight: a self-hosted server for diffusion images and video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__"]

if TYPE_CHECKING:
    from safelight.client import AsyncClient, Client


def __getattr__(name: str) -> Any:
    """The clients, imported when they are first asked for: `import safelight` alone stays free."""
    if name in ("AsyncClient", "Client"):
        import safelight.client

        return getattr(safelight.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
