"""Sampling: schedules, samplers, noise and noise paths. Pure maths, no networks."""
