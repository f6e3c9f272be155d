"""Draw a picture and follow it: `python examples/generate.py "a boat on a lake" boat.png`.

Uses the server on this machine, starting one where none runs (it stays; `safelight stop` ends it).
"""

from __future__ import annotations

import os
import sys

from safelight.client import Client, Event


def progress(event: Event) -> None:
    """Say how far it is."""
    if event.kind == "step":
        print(f"step {event.data['step']} of {event.data['steps']}", file=sys.stderr)


def main() -> None:
    """Draw what the first argument says into the file that the second names."""
    prompt, file = sys.argv[1:3] if len(sys.argv) > 2 else ("a boat on a lake", "boat.png")
    with Client() if os.environ.get("SAFELIGHT_URL") else Client.start() as client:
        result = client.generate(prompt, steps=12, on_event=progress)
        print(result.save(file), "seed", result.artifacts[0].seed)


if __name__ == "__main__":
    main()
