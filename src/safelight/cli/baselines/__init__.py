"""Golden baselines: scenarios read from a file, drawn and kept, drawn again and compared, shown side by side."""
