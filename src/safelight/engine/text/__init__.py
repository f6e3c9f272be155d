"""Prompts: parsing, chunks, conditionings."""
