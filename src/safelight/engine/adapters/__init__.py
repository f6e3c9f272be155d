"""Adapters: LoRA hung into a network and taken out again, its strength read from a table of rows at each pass."""

from __future__ import annotations

from safelight.engine.adapters.host import AdapterHost

__all__ = ["AdapterHost"]
