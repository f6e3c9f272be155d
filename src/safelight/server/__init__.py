"""The HTTP server: app.py wires everything in one place."""
