"""Placement: pure decisions about memory (`plan`) and what was measured (`profiles`). No torch."""
