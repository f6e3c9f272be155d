"""Reading server-sent events: lines in, events out (HTML standard, section 9.2.6)."""

from __future__ import annotations

import json
import time

from safelight.client.answers import Event


class Reader:
    """Gathers the lines of one connection into events. `last`: the id to go on from after a broken connection.

    `heard_at`: monotonic seconds of the server's last sign of life, be it no more than a comment.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self.heard_at = time.monotonic()
        self._id = ""
        self._data: list[str] = []

    def heard(self) -> None:
        """The server has answered."""
        self.heard_at = time.monotonic()

    def line(self, text: str) -> Event | None:
        """Take a line (without its end); the event that it completes, if it does."""
        self.heard()
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
