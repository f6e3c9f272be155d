"""The bench: lends components within a byte budget."""
