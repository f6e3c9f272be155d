"""The nouns: operations, stages, states, events, media, and the tables of families, samplers and schedules.

Pydantic and the standard library only. Tables name their code as "module:attribute", resolved where it runs.
"""
