"""A server in the background (`python -m safelight.server`): its settings come as JSON on standard input."""

from __future__ import annotations

import json
import sys

from safelight.errors import SafelightError
from safelight.server.serve import run
from safelight.settings import settings_of


def main() -> int:
    """Read `{environment, values}`, serve until told to stop; 1 where it cannot start, with the reason on stderr."""
    said = json.load(sys.stdin)
    try:
        run(settings_of(said["values"], said["environment"]))
    except SafelightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
