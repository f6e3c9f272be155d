"""From a finished file back to its request: what the file tells, asked again, and what came out otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from safelight.artifacts import MADE, PARAMETERS, REQUEST
from safelight.core.operations.contract import OperationSpec
from safelight.core.plans import Plan
from safelight.errors import InvalidRequest, InvalidValue

_PLACE = frozenset({"path", "mtime_ns", "inode"})
"""Where a file lies on one machine: no part of a picture."""


@dataclass(frozen=True)
class Origin:
    """What a file tells of how it was made.

    `resolved`: the job's complete request, without places. `picture`: its number in the job. `plan`, `width`: how the
    arithmetic was done, and in passes of how many rows.
    """

    resolved: Mapping[str, Any]
    picture: int
    plan: Plan
    width: int

    @property
    def operation(self) -> str:
        """Its id, such as image.generate."""
        return str(self.resolved["operation"])

    @property
    def deterministic(self) -> bool:
        """Whether the same plan gives the same bytes."""
        return bool(self.resolved.get("deterministic")) and self.plan.get("passes") == "own"

    @property
    def pictures(self) -> dict[str, str]:
        """SHA-256 of the pictures it was made from, by field."""
        return {name: each["sha256"] for name, each in self.resolved.items() if _is_picture(each)}


def origin(texts: Mapping[str, str], name: str) -> Origin:
    """What the texts inside the file `name` tell; InvalidRequest says why that is not enough to make it again."""
    if REQUEST not in texts or MADE not in texts:
        raise InvalidRequest(_lacking(texts, name))
    try:
        resolved, made = json.loads(texts[REQUEST]), json.loads(texts[MADE])
        if not isinstance(resolved["operation"], str):
            raise TypeError("its operation is no name")
        return Origin(dict(resolved), int(made["picture"]), dict(made["plan"]), int(made["width"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = f"what {name} tells of itself cannot be read: {error!r}"
        raise InvalidRequest(InvalidValue("", said, "Was its metadata edited?")) from None


def asked(origin: Origin, spec: OperationSpec, pictures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The submission that resolves to the same request. `pictures`: what to ask with instead of the ids, by field."""
    fields = {name: _asked(each) for name, each in origin.resolved.items() if name in spec.request.model_fields}
    return {**fields, **(pictures or {}), "operation": origin.operation}


def differences(origin: Origin, resolved: Mapping[str, Any]) -> list[str]:
    """What a request that was asked again resolved to otherwise, by name.

    Hashes that are not known yet are equal. What the file does not tell of (a field that is newer than it) is left to
    the comparison of pixels.
    """
    was, now = dict(_leaves(origin.resolved)), dict(_leaves(resolved))
    return [
        f"{name} was {was.get(name)!r}, now it is {now.get(name)!r}"
        for name in was
        if was.get(name) != now.get(name) and not (name.endswith("sha256") and "" in (was.get(name), now.get(name)))
    ]


def _lacking(texts: Mapping[str, str], name: str) -> InvalidValue:
    if "prompt" in texts or "workflow" in texts:
        return InvalidValue("", f"{name} tells of a ComfyUI graph and not of a request of Safelight", "Open it there.")
    if PARAMETERS in texts:
        said = f"{name} carries A1111's infotext alone: another program made it, or its request was taken out"
        return InvalidValue("", said, "The infotext rounds and leaves out; hand it in anew with `safelight generate`.")
    said = f"{name} tells nothing of how it was made"
    return InvalidValue(
        "", said, "It is not Safelight's, was made with output.metadata off, or was written anew since."
    )


def _asked(value: Any) -> Any:
    """A part of a resolved request as a client asks for it: files by name, pictures by id, options flat."""
    if isinstance(value, list):
        return [_asked(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "header_hash" in value:
        return value["name"]
    if _is_picture(value):
        return value["id"]
    parts = {("name" if name == "file" else name): _asked(each) for name, each in value.items()}
    if "kind" in parts and isinstance(parts.get("options"), dict):
        parts |= parts.pop("options")
    return parts


def _is_picture(value: Any) -> bool:
    return isinstance(value, dict) and {"sha256", "media_type"} <= value.keys()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text of a resolved request by its path, without places. A picture is its content alone."""
    if _is_picture(value):
        yield f"{path}.sha256", value["sha256"]
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in _PLACE or "header_hash" not in value:
                yield from _leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}.{number}")
    else:
        yield path, value
