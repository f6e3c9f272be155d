"""What a finished file says of itself: A1111's infotext, and the whole resolved request."""

from __future__ import annotations

from typing import Any

from safelight import __version__
from safelight.core.operations.image import ResolvedGenerate, ResolvedTransform
from safelight.core.samplers import sampler_table
from safelight.core.schedules import schedule_table

_PLACE = {"path", "mtime_ns", "inode"}
HERE: Any = {
    "model": _PLACE,
    "loras": {"__all__": {"file": _PLACE}},
    "image": {"path"},
    "mask": {"path"},
}
"""Where files lie on this machine: nothing that a picture should tell whoever it is given to."""


def metadata(request: ResolvedGenerate, picture: int) -> dict[str, str]:
    """Text chunks for picture number `picture` of a job: `parameters` (A1111's), `safelight` (JSON), `Software`."""
    if not request.output.metadata:
        return {}
    return {
        "parameters": infotext(request, picture),
        "safelight": request.model_dump_json(exclude=HERE),
        "Software": f"safelight {__version__}",
    }


def infotext(request: ResolvedGenerate, picture: int) -> str:
    """The prompt, the negative prompt, and "Key: value" pairs, in the order that A1111 writes and clients parse.

    Hashes are SHA-256 of whole files, as other tools write them; left out until the catalog knows them. Samplers and
    schedules go by the names A1111 knows; those of an extension by their ids.
    """
    sampler = sampler_table().find(request.sampler)
    schedule = schedule_table().find(request.schedule)
    pairs = {
        "Steps": request.steps,
        "Sampler": sampler.label if sampler else request.sampler,
        "Schedule type": schedule.label if schedule else request.schedule,
        "CFG scale": f"{request.guidance_scale:g}",
        "Seed": (request.seed + picture) % 2**64,
        "Size": f"{request.width}x{request.height}",
    }
    if request.model.sha256:
        pairs["Model hash"] = request.model.sha256[:10]
    pairs["Model"] = _quoted(request.model.name)
    if isinstance(request, ResolvedTransform):
        pairs["Denoising strength"] = f"{request.strength:g}"
    if request.clip_skip > 1:
        pairs["Clip skip"] = request.clip_skip
    hashed = [lora.file for lora in request.loras if lora.file.sha256]
    if hashed:
        pairs["Lora hashes"] = '"' + ", ".join(f"{file.name}: {file.sha256[:12]}" for file in hashed) + '"'
    pairs["Version"] = f"safelight {__version__}"
    lines = [request.prompt + "".join(f" <lora:{lora.file.name}:{lora.strength:g}>" for lora in request.loras)]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{key}: {value}" for key, value in pairs.items()))
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return f'"{text}"' if any(mark in text for mark in ",:\n") else text
