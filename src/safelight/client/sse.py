"""Reading server-sent events: lines in, events out (HTML standard, section 9.2.6)."""

from __future__ import annotations

import json

from safelight.client.answers import Event


class Reader:
    """Gathers the lines of one connection into events. `last`: the id to go on from after a broken connection."""

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self._id = ""
        self._data: list[str] = []

    def line(self, text: str) -> Event | None:
        """Take a line (without its end); the event that it completes, if it does."""
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id":
                self._id = value
            return None
        data, self._data = self._data, []
        number, self._id = self._id, ""
        if not data:
            return None
        if number:
            self.last = int(number)
        return Event(**json.loads("\n".join(data)))
