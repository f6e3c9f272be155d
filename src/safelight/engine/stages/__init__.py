"""Handlers of the stages, by theme. Each is a generator (see engine/work.py); `core.handlers` names them."""
