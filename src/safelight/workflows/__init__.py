"""Recipes of the operations (generators of stages, without torch), resolving, the registry of workflows, the router."""
