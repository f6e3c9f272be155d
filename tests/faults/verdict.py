"""What must hold of a job and of the data folder after any fault, and what the fault cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.acceptance.real_server import RealServer

from .mix import MIN_PSNR, pixels, psnr, sha256

LAST = {"succeeded", "failed", "cancelled"}
INNOCENT = {"succeeded", "killed", "server_stopped", "expired"}
"""How attempts may end where nothing but SIGKILL struck."""


@dataclass
class Verdict:
    """What became of a job. `wrong`: every broken promise, in words.

    interrupted: attempts that ended without a result; resumed: those after them that began from a checkpoint.
    redone: steps told of twice. lost_s: the most work that one interruption cost, in seconds of work.
    """

    wrong: list[str] = field(default_factory=list)
    interrupted: int = 0
    resumed: int = 0
    redone: int = 0
    lost_s: float = 0.0
    sequences: list[int] = field(default_factory=list)


def judge(server: RealServer, job_id: str, reference: Sequence[NDArray[np.uint8]], exact: bool,
          strikes: Sequence[float]) -> Verdict:  # fmt: skip
    """Hold a job that should have succeeded to every promise. `reference`: its pictures, undisturbed."""
    record, events = server.finished(job_id), server.events(job_id)
    verdict = Verdict(sequences=[event["sequence"] for event in events])
    wrong = verdict.wrong
    if record["state"] != "succeeded":
        wrong.append(f"it {record['state']}: {record['failure']}")
    kinds = [event["kind"] for event in events]
    if [event["number"] for event in events] != list(range(1, len(events) + 1)):
        wrong.append(f"its events are numbered {[event['number'] for event in events]}")
    if [kind for kind in kinds if kind in LAST] != ["succeeded"] or kinds[-1] != "succeeded":
        wrong.append(f"its last events are {[kind for kind in kinds if kind in LAST]}, of {kinds[-3:]}")
    if sorted(set(verdict.sequences)) != verdict.sequences:
        wrong.append("its sequence does not increase")
    began = [event["data"]["attempt"] for event in events if event["kind"] == "started"]
    if began != [attempt["number"] for attempt in record["attempts"]] or began != list(range(1, len(began) + 1)):
        wrong.append(f"it began the attempts {began}")
    if ends := [a["end"] for a in record["attempts"] if a["end"] not in INNOCENT]:
        wrong.append(f"attempts ended as {ends}, and nobody but the fault was to blame")
    wrong += gaps(events)
    wrong += _files(server, record, kinds.count("artifact"), reference, exact)
    _cost(verdict, record, events, strikes)
    return verdict


def gaps(events: Sequence[dict[str, Any]]) -> list[str]:
    """What a job that succeeded did and never told of, in words. Numbers cannot show it: the store gives them. But a
    step is told before the checkpoint that holds it, and a stage's end before the one that holds its result, so
    that over all attempts every step and every end was told at least once."""
    told: dict[tuple[int, int], set[int]] = {}
    asked: dict[tuple[int, int], int] = {}
    stages: dict[str, set[int]] = {"entered": set(), "done": set(), "cached": set()}
    for event in events:
        data = event["data"]
        if event["kind"] == "step":
            walk = data["stage"], data["picture"]
            told.setdefault(walk, set()).add(data["step"])
            asked[walk] = data["steps"]
        elif event["kind"] == "stage":
            stages[data["state"]].add(data["stage"])
    wrong = [
        f"of stage {stage}, picture {picture}, it told the steps {sorted(steps)} of {asked[stage, picture]}"
        for (stage, picture), steps in told.items()
        if steps != set(range(1, asked[stage, picture] + 1))
    ]
    if not told or not stages["done"]:
        wrong.append("it told of no step, or of no stage")
    if unsaid := (stages["entered"] | stages["cached"]) - stages["done"]:
        wrong.append(f"it never told the end of the stages {sorted(unsaid)}")
    if unsaid := {stage for stage, _ in told} - stages["entered"]:
        wrong.append(f"it never told that it entered the stages {sorted(unsaid)}")
    return wrong


def _files(server: RealServer, record: dict[str, Any], told: int, reference: Sequence[NDArray[np.uint8]],
           exact: bool) -> list[str]:  # fmt: skip
    """Exactly a picture each, whole, under its content's name, and the one that an undisturbed run draws."""
    wrong = []
    indexes = [artifact["index"] for artifact in record["artifacts"]]
    if indexes != list(range(len(reference))) or told != len(indexes):
        wrong.append(f"it has the pictures {indexes} and told of {told}, {len(reference)} were asked for")
        return wrong
    for artifact, undisturbed in zip(record["artifacts"], reference, strict=True):
        name = artifact["sha256"]
        file = server.http.get(artifact["url"]).content
        lies = server.home / "artifacts" / name[:2] / name
        if not lies.is_file() or sha256(file) != name or lies.read_bytes() != file:
            wrong.append(f"picture {artifact['index']} is not the file {name}")
            continue
        drawn = pixels(file)
        if exact and not np.array_equal(drawn, undisturbed):
            wrong.append(f"picture {artifact['index']} differs from the undisturbed one by {psnr(drawn, undisturbed)}")
        if psnr(drawn, undisturbed) < MIN_PSNR:
            wrong.append(f"picture {artifact['index']} is {psnr(drawn, undisturbed):.1f} dB from the undisturbed one")
    return wrong


def _cost(verdict: Verdict, record: dict[str, Any], events: Sequence[dict[str, Any]], strikes: Sequence[float]) -> None:
    """What was done again. A step's work is kept where the next attempt tells of the one after it first."""
    told: dict[tuple[int, int], dict[int, float]] = {}
    first: dict[tuple[int, int], int] | None = None
    struck_at, began_at = 0.0, 0.0
    attempts = {attempt["number"]: attempt for attempt in record["attempts"]}
    for event in events:
        data = event["data"]
        if event["kind"] == "started":
            verdict.resumed += bool(data["attempt"] > 1 and data["resumed"])
            first = {} if data["attempt"] > 1 else None
            begun_before, began_at = began_at, event["at"]
            if first is not None:
                verdict.interrupted += 1
                ended_at = attempts[data["attempt"] - 1]["ended_at"]
                struck_at = max((strike for strike in strikes if strike <= ended_at), default=ended_at)
        elif event["kind"] == "step":
            walk = data["stage"], data["picture"]
            known = told.setdefault(walk, {})
            if first is not None and walk not in first and known:
                first[walk] = data["step"]
                kept_at = known.get(data["step"] - 1, begun_before)
                verdict.lost_s = max(verdict.lost_s, struck_at - kept_at)
            verdict.redone += data["step"] in known
            known[data["step"]] = event["at"]
