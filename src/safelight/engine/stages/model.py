"""LoadModel and UnloadModel: what is in memory, by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from safelight.core.events import EventKind
from safelight.core.stages import LoadModel, UnloadModel
from safelight.engine.results import Facts
from safelight.engine.work import PIECE, Desk, Notice, Work
from safelight.errors import InvalidRequest, InvalidValue


def load_model(stage: LoadModel, desk: Desk) -> Work:
    """Bring the components into memory, one a turn.

    Result: Facts {model, components [{component, bytes, pinned, loaded, seconds}], bytes, dtype, device}; `loaded`:
    just now. InvalidRequest for a precision that is not this worker's.
    """
    own = desk.bench.where.dtype_name
    if stage.dtype not in ("auto", own):
        hint = f"Allowed: {own} or auto; the setting devices.dtype gives workers another."
        raise InvalidRequest(InvalidValue("dtype", f"this worker holds and computes in {own}, not {stage.dtype}", hint))
    held: list[dict[str, Any]] = []
    for component in stage.components:
        held.append(asdict(desk.bench.hold(stage.use, component, stage.pinned)))
        yield PIECE
    facts = {"model": stage.use.model.name, "components": held, "bytes": sum(each["bytes"] for each in held)}
    return Facts({**facts, "dtype": own, "device": str(desk.bench.device)})


def unload_model(stage: UnloadModel, desk: Desk) -> Work:
    """Let go of a model's components, or of all that are idle. What is in use stays: its jobs need it.

    Result: Facts {unloaded [name], kept [{name, reason}], bytes_freed}.
    """
    gone = desk.bench.release(stage.model)
    for name, reason in gone.kept:
        if reason == "in use":
            said = f"{name} stays, since jobs are using it. Unload it once they are done."
            yield Notice(EventKind.WARNING, {"message": said})
    yield PIECE
    kept = [{"name": name, "reason": reason} for name, reason in gone.kept]
    return Facts({"unloaded": list(gone.unloaded), "kept": kept, "bytes_freed": gone.bytes})
