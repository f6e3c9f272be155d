"""Commands. Heavy things are imported inside a command."""
