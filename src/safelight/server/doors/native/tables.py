"""Routes that say what is there: operations, models, LoRAs, samplers, schedules, guidances, families."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from safelight.catalog.scan import Entry
from safelight.core.parameters import Parameter
from safelight.server.doors.native.routes import Reach
from safelight.server.services import WorkerView

router = APIRouter(prefix="/v1", tags=["what is there"])


class ParameterView(BaseModel):
    """One parameter of a sampler, schedule or guidance. `minimum` and `maximum` are inclusive."""

    name: str
    type: str
    default: bool | int | float | str
    minimum: float | None
    maximum: float | None
    choices: list[str]
    help: str


class RecordView(BaseModel):
    """A sampler, schedule or guidance: its id, other names, and what may be given with it."""

    id: str
    label: str
    aliases: list[str]
    parameters: list[ParameterView]


class SamplerView(RecordView):
    """A sampler. `order`: evaluations per step; `stochastic`: draws noise by default."""

    order: int
    stochastic: bool


class GuidanceView(RecordView):
    """A guidance that requests may name."""

    help: str


class FamilyView(BaseModel):
    """A model family with what its requests take when they leave something open."""

    id: str
    label: str
    grid: int
    width: int
    height: int
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str
    operations: list[str]


class OperationView(BaseModel):
    """An operation that can be carried out here. `parameters`: JSON Schema of its request."""

    id: str
    aliases: list[str]
    summary: str
    parameters: dict[str, Any]


class ModelView(BaseModel):
    """A checkpoint: OpenAI's fields, and ours. `defaults`: what the file itself advises; `stored`: bytes of each kind
    that its tensors are stored in, most first; `loaded_on`: workers with some of it in memory.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str = "safelight"
    family: str
    title: str
    license: str
    bytes: int
    stored: dict[str, int]
    sha256: str
    prediction: str
    defaults: dict[str, Any]
    notes: list[str]
    is_default: bool
    loaded_on: list[str]


class UnusableView(BaseModel):
    """A file among the models that cannot be used, and why."""

    id: str
    problem: str
    hint: str


class ModelList(BaseModel):
    """The checkpoints that can be asked for, as OpenAI lists them, and those that cannot."""

    object: str = "list"
    data: list[ModelView]
    unusable: list[UnusableView]


class LoraView(BaseModel):
    """A LoRA file."""

    id: str
    bytes: int
    sha256: str


class LoraList(BaseModel):
    """The LoRAs that can be asked for."""

    loras: list[LoraView]


class SamplerList(BaseModel):
    """The samplers."""

    samplers: list[SamplerView]


class ScheduleList(BaseModel):
    """The schedules."""

    schedules: list[RecordView]


class GuidanceList(BaseModel):
    """The guidances that requests may name."""

    guidances: list[GuidanceView]


class FamilyList(BaseModel):
    """The model families."""

    families: list[FamilyView]


class OperationList(BaseModel):
    """The operations that can be carried out here."""

    operations: list[OperationView]


@router.get("/operations")
async def list_operations(services: Reach) -> OperationList:
    """What may be asked, each with the JSON Schema of its fields."""
    return OperationList(
        operations=[
            OperationView(
                id=spec.id,
                aliases=list(spec.aliases),
                summary=spec.summary,
                parameters=spec.request.model_json_schema(),
            )
            for spec in services.tables.operations
        ]
    )


@router.get("/models")
async def list_models(services: Reach) -> ModelList:
    """Checkpoints by the names that requests use."""
    entries = await asyncio.to_thread(services.catalog.entries)
    default = services.catalog.default.casefold()
    workers = services.control.workers()
    return ModelList(
        data=[_model(entry, default, workers) for entry in entries if entry.kind == "checkpoint"],
        unusable=[
            UnusableView(id=entry.name, problem=entry.problem, hint=entry.hint)
            for entry in entries
            if entry.kind == "unreadable"
        ],
    )


@router.get("/loras")
async def list_loras(services: Reach) -> LoraList:
    """LoRAs by the names that requests use."""
    entries = await asyncio.to_thread(services.catalog.entries)
    return LoraList(
        loras=[
            LoraView(id=entry.name, bytes=entry.bytes, sha256=entry.ref.sha256)
            for entry in entries
            if entry.kind == "lora" and entry.ref is not None
        ]
    )


@router.get("/samplers")
async def list_samplers(services: Reach) -> SamplerList:
    """Samplers with their parameters (`sampler_options`)."""
    return SamplerList(
        samplers=[
            SamplerView(
                id=each.id,
                label=each.label,
                aliases=list(each.aliases),
                parameters=_parameters(each.parameters),
                order=each.order,
                stochastic=each.stochastic,
            )
            for each in services.tables.samplers
        ]
    )


@router.get("/schedules")
async def list_schedules(services: Reach) -> ScheduleList:
    """Schedules with their parameters (`schedule_options`)."""
    return ScheduleList(
        schedules=[
            RecordView(
                id=each.id, label=each.label, aliases=list(each.aliases), parameters=_parameters(each.parameters)
            )
            for each in services.tables.schedules
        ]
    )


@router.get("/guidances")
async def list_guidances(services: Reach) -> GuidanceList:
    """Guidances with their parameters (`guidance: [{kind, ...}]`)."""
    return GuidanceList(
        guidances=[
            GuidanceView(
                id=each.id,
                label=each.label,
                aliases=list(each.aliases),
                parameters=_parameters(each.parameters),
                help=each.help,
            )
            for each in services.tables.guidances
            if each.public
        ]
    )


@router.get("/families")
async def list_families(services: Reach) -> FamilyList:
    """Model families with their grids and defaults."""
    return FamilyList(
        families=[
            FamilyView(
                id=each.id,
                label=each.label,
                grid=each.grid,
                width=each.native[0],
                height=each.native[1],
                steps=each.steps,
                guidance_scale=each.guidance_scale,
                sampler=each.sampler,
                schedule=each.schedule,
                operations=list(each.operations),
            )
            for each in services.tables.families
        ]
    )


def _parameters(parameters: tuple[Parameter, ...]) -> list[ParameterView]:
    return [
        ParameterView(
            name=each.name,
            type=each.type,
            default=each.default,
            minimum=each.minimum,
            maximum=each.maximum,
            choices=list(each.choices),
            help=each.help,
        )
        for each in parameters
    ]


def _model(entry: Entry, default: str, workers: Sequence[WorkerView]) -> ModelView:
    ref, identity = entry.ref, entry.identity
    if ref is None or identity is None:
        raise ValueError(f"{entry.path} is listed as a checkpoint but was never identified")
    said = identity.declared
    return ModelView(
        id=entry.name,
        created=ref.mtime_ns // 1_000_000_000,
        family=identity.family,
        title=said.title,
        license=said.license,
        bytes=entry.bytes,
        stored=dict(identity.stored),
        sha256=ref.sha256,
        prediction=said.prediction,
        defaults=dict(said.defaults),
        notes=list(said.notes),
        is_default=entry.name.casefold() == default,
        loaded_on=[worker.id for worker in workers if ref.key in worker.holds],
    )
