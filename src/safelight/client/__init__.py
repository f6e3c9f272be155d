"""The Python client of the server; imports no torch."""
