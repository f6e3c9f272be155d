"""Durability: the store's protocol and its implementations, the dispatcher (pure), upkeep. No torch, no HTTP."""
