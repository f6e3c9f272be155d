"""The signature by which a receiver knows that a message is this server's, as standardwebhooks.com describes it.

HMAC-SHA256 over `id.timestamp.body`, with a secret that the server draws once and keeps in its data folder.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from safelight.artifacts import sync_folder
from safelight.errors import UnreadableFile

SECRET_NAME = "webhook.secret"
"""In the data folder, for the server's account alone."""

PREFIX = "whsec_"
_BYTES = 32


def secret_of(home: Path) -> bytes:
    """The server's secret, drawn the first time it is needed; UnreadableFile where the file holds something else."""
    path = home / SECRET_NAME
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode() + "\n")
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        sync_folder(home)
    text = path.read_text("ascii", errors="replace").strip()
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(PREFIX) or len(secret) < _BYTES:
        hint = (
            f"Write {PREFIX} and {_BYTES} random bytes as base64 there, or remove it: the server then draws a new one."
        )
        raise UnreadableFile(f"{path} holds no webhook secret.", hint)
    return secret


def headers(secret: bytes, delivery_id: str, at: int, body: bytes) -> dict[str, str]:
    """What makes a message verifiable. `at`: when it is sent, seconds since the epoch."""
    signed = b".".join((delivery_id.encode(), str(at).encode(), body))
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
