"""Save: a picture becomes a finished file, on another thread."""

from __future__ import annotations

import json
from typing import Any

from safelight.artifacts import MADE, Files, encode_picture
from safelight.core.media import MEDIA_TYPES
from safelight.core.stages import Save
from safelight.engine.pixels import to_image
from safelight.engine.residency import memory
from safelight.engine.results import Picture, Stored
from safelight.engine.work import Desk, Work


def save(stage: Save, desk: Desk) -> Work:
    """Encode the picture with its metadata and put it under its content's name. Result: Stored, the file's facts."""
    picture = desk.result(stage.pixels)
    if not isinstance(picture, Picture):
        raise TypeError(f"Save needs a picture, not a {type(picture).__name__}.")

    made = {"picture": stage.index, "width": desk.width, "plan": dict(desk.plan)}
    texts = {**stage.metadata, MADE: json.dumps(made)} if stage.metadata else {}

    def write() -> dict[str, Any]:
        image = to_image(picture.pixels)
        data = encode_picture(image, stage.format, stage.quality, texts)
        return {
            "index": stage.index,
            "sha256": Files(desk.artifacts).put(data),
            "media_type": MEDIA_TYPES[stage.format],
            "bytes": len(data),
            "width": image.width,
            "height": image.height,
            "seed": stage.seed,
        }

    try:
        facts: dict[str, Any] = yield desk.saver.submit(write)
    except Exception as error:
        if not memory.ran_out(error):
            raise
        facts = {}
    return Stored(facts or write())  # memory was short beside a pass: once more, between passes
