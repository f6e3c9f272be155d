"""`make bench`: every benchmark that needs no server of its own, one after another."""

from __future__ import annotations

from benchmarks import engine

if __name__ == "__main__":
    engine.run()
