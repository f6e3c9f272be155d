"""The contract: the table of operations and the one union that HTTP, command line and stored jobs derive from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from safelight.core.names import nearest, one_of
from safelight.core.operations import image, model
from safelight.core.registry import Registry
from safelight.errors import InvalidRequest, InvalidValue, OperationUnavailable


@dataclass(frozen=True)
class OperationSpec:
    """One operation: what may be asked, what is stored, and the code that resolves and carries it out.

    `request`: a frozen pydantic model whose `operation` is the literal `id`. `resolved`: likewise, with nothing open.
    `resolve`: "module:attribute" of `(request, context) -> resolved` (see workflows/resolve.py).
    `recipe`: "module:attribute" of `(resolved) -> generator of stages` (see workflows/recipes).
    """

    id: str
    request: type[BaseModel]
    resolved: type[BaseModel]
    resolve: str
    recipe: str
    aliases: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the request's docstring."""
        return (self.request.__doc__ or "").strip().splitlines()[0]


BUILT_IN: tuple[OperationSpec, ...] = (
    OperationSpec(
        id="image.generate",
        request=image.ImageGenerate,
        resolved=image.ResolvedGenerate,
        resolve="safelight.workflows.resolve:generate",
        recipe="safelight.workflows.recipes.image:generate",
        aliases=("image_generation",),
    ),
    OperationSpec(
        id="image.transform",
        request=image.ImageTransform,
        resolved=image.ResolvedTransform,
        resolve="safelight.workflows.resolve:transform",
        recipe="safelight.workflows.recipes.image:transform",
        aliases=("image_transform",),
    ),
    OperationSpec(
        id="image.inpaint",
        request=image.ImageInpaint,
        resolved=image.ResolvedInpaint,
        resolve="safelight.workflows.resolve:inpaint",
        recipe="safelight.workflows.recipes.image:inpaint",
        aliases=("image_inpaint",),
    ),
    OperationSpec(
        id="model.load",
        request=model.ModelLoad,
        resolved=model.ResolvedModelLoad,
        resolve="safelight.workflows.resolve_model:load",
        recipe="safelight.workflows.recipes.model:load",
    ),
    OperationSpec(
        id="model.unload",
        request=model.ModelUnload,
        resolved=model.ResolvedModelUnload,
        resolve="safelight.workflows.resolve_model:unload",
        recipe="safelight.workflows.recipes.model:unload",
    ),
)

PLANNED: tuple[str, ...] = (
    "image.edit", "image.relight", "image.layers", "image.upscale", "video.generate", "video.animate",
    "video.inpaint", "video.alpha", "text.encode", "text.tokenize", "latent.encode", "latent.decode",
    "vision.encode", "vision.describe", "text.generate", "artifact.save", "workflow.run",
)  # fmt: skip
"""Operations of the contract that have no handler yet: refused as unavailable, not as unknown."""


def operation_table() -> Registry[OperationSpec]:
    """A fresh registry with the built-in operations, open for extensions until it is closed."""
    table: Registry[OperationSpec] = Registry("operation")
    for spec in BUILT_IN:
        table.register(spec)
    return table


class Contract:
    """Parses what clients ask into the union of the table's operations. Built once, after the table is closed."""

    def __init__(self, table: Registry[OperationSpec]) -> None:
        self.table = table
        self._requests = self._union(tuple(spec.request for spec in table))
        self._resolved = self._union(tuple(spec.resolved for spec in table))

    @staticmethod
    def _union(models: tuple[type[BaseModel], ...]) -> TypeAdapter[BaseModel]:
        if len(models) == 1:
            return TypeAdapter(models[0])
        return TypeAdapter(cast(Any, Annotated[reduce(or_, models), Field(discriminator="operation")]))

    def parse(self, body: Any) -> BaseModel:
        """The request that `body` (decoded JSON) asks for; InvalidRequest with every fault, or OperationUnavailable."""
        if not isinstance(body, dict):
            raise InvalidRequest(InvalidValue("", f"the body is {type(body).__name__}, not an object"))
        name = body.get("operation")
        if not isinstance(name, str):
            raise InvalidRequest(
                InvalidValue("operation", "is missing", f"Say which: {one_of(spec.id for spec in self.table)}.")
            )
        spec = self.spec(name)
        try:
            return self._requests.validate_python({**body, "operation": spec.id})
        except ValidationError as error:
            raise InvalidRequest(*explain(error, spec)) from None

    def spec(self, name: str) -> OperationSpec:
        """The operation of that id or alias; OperationUnavailable with those that are there."""
        found = self.table.find(name)
        if found is not None:
            return found
        there = one_of(spec.id for spec in self.table)
        if name in PLANNED:
            raise OperationUnavailable(f"Nothing here carries out {name!r}.", f"Available: {there}.")
        near = nearest(name, [spec.id for spec in self.table])
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise OperationUnavailable(f"There is no operation {name!r}.", f"{hint}Available: {there}.")

    def load(self, stored: Any) -> BaseModel:
        """A resolved request from its stored JSON object."""
        return self._resolved.validate_python(stored)

    def request_schema(self) -> dict[str, Any]:
        """JSON Schema of the union of requests."""
        return self._requests.json_schema(ref_template="#/components/schemas/{model}")


def explain(error: ValidationError, spec: OperationSpec) -> list[InvalidValue]:
    """Pydantic's findings in our words: path, value, what is allowed, the way out."""
    return [_one(detail, spec) for detail in error.errors(include_url=False)]


def _one(detail: ErrorDetails, spec: OperationSpec) -> InvalidValue:
    location = [str(part) for part in detail["loc"] if part != spec.id]
    path = ".".join(location)
    if detail["type"] == "extra_forbidden":
        known = list(spec.request.model_fields) if len(location) == 1 else []
        near = nearest(location[-1], known, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"See /v1/operations for the fields of {spec.id}."
        return InvalidValue(path, f"there is no field {location[-1]!r} in {spec.id}", hint)
    if detail["type"] == "missing":
        return InvalidValue(path, f"is required by {spec.id}", "Add the field.")
    field = spec.request.model_fields.get(location[0]) if location else None
    hint = (field.description or "") if field else ""
    given = detail["input"]
    shown = repr(given) if len(repr(given)) <= 80 else repr(given)[:77] + "..."
    message = detail["msg"].removeprefix("Value error, ")
    return InvalidValue(path, f"{shown} is refused: {message[0].lower()}{message[1:]}", hint[:1].upper() + hint[1:])
