"""Sample: a walk down the sigmas. Here a sampler, a guidance and a network meet."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any, cast

from torch import Tensor

from safelight.core.events import EventKind
from safelight.core.names import attribute
from safelight.core.stages import Sample, Segment
from safelight.engine.evaluation import Evaluation
from safelight.engine.guidance import Answer, Guidance, Guided
from safelight.engine.residency.lent import LentNetwork
from safelight.engine.results import Latent, Mask, Said
from safelight.engine.sampling.levels import NoiseLevels
from safelight.engine.sampling.noise import open_noise
from safelight.engine.sampling.step import Denoised, Moved, Query, Step, Steps
from safelight.engine.sampling.table import plan_of, sampler_of, schedule_of
from safelight.engine.work import Boundary, Desk, Notice, RunState, Work

Ask = Callable[[Query], Answer]


def sample(stage: Sample, desk: Desk) -> Work:
    """Walk the plan of `stage.sampler` over its schedule. Result: Latent.

    Everything between two steps is plain data (RunState), so the walk may begin at `desk.resumed` as well.
    """
    record = desk.tables.samplers.get(stage.sampler)
    family = desk.tables.families.get(stage.segments[0].network.family)
    with ExitStack() as borrowed:
        segment = stage.segments[0]
        lent = borrowed.enter_context(desk.bench.network(segment.network))
        for warning in lent.warnings:
            yield Notice(EventKind.WARNING, {"message": warning})
        ask = answers(segment, lent, desk)
        path, device = lent.network.path, desk.bench.device
        sigmas = walked_sigmas(stage, desk, lent.network.levels)
        shape = (lent.network.channels, stage.height // family.factor, stage.width // family.factor)
        if len(sigmas) < 2:
            return Latent(_latent(stage, desk))
        start, noise = open_noise(stage.noise, shape, sigmas, device)
        state = desk.resumed
        if state is None:
            begun = stage.latent is not None
            x = path.mix(_latent(stage, desk), start, sigmas[0]) if begun else path.start(start, sigmas[0])
            state = RunState(0, x, {}, noise.state())
        noise.restore(state.noise)
        moves = plan_of(record)(sigmas, stage.sampler_options)
        steps = sum(move.kind == "step" for move in moves)
        for place in range(state.place, len(moves)):
            move = moves[place]
            if (due := _segment_at(stage, place / len(moves))) is not segment:
                segment = due
                borrowed.pop_all().close()
                lent = borrowed.enter_context(desk.bench.network(segment.network))
                ask = answers(segment, lent, desk)
            step = Step(
                state.x, move.sigma, move.sigma_next, noise, path, state.memory, stage.sampler_options, move.order
            )
            seen: list[Tensor] = [state.x]
            moved = yield from carry_out(sampler_of(record, move)(step), ask, seen)
            state = RunState(place + 1, moved.x, dict(moved.memory), noise.state())
            if move.kind == "step":
                done = sum(each.kind == "step" for each in moves[: place + 1])
                yield Boundary(state, stage.picture, done, steps, move.sigma_next, seen[-1])
        return Latent(state.x)


def carry_out(steps: Steps, ask: Ask, seen: list[Tensor]) -> Generator[list[Evaluation], list[Tensor], Moved]:
    """One step of a sampler: each of its queries is answered by the guidance. `seen` gathers the clean latents."""
    try:
        query = next(steps)
        while True:
            denoised: Denoised = yield from ask(query)
            seen.append(denoised.guided)
            query = steps.send(denoised)
    except StopIteration as stop:
        return cast(Moved, stop.value)


def answers(segment: Segment, lent: LentNetwork, desk: Desk) -> Ask:
    """The chain of guidances of a segment, innermost first, as one function of a query."""
    prompt, negative = desk.result(segment.positive), desk.result(segment.negative)
    if not isinstance(prompt, Said) or not isinstance(negative, Said):
        raise TypeError("A segment's prompts are results of EncodeText.")
    chain: Ask | None = None
    for use in segment.guidance:
        guidance: Guidance = attribute(desk.tables.guidances.get(use.kind).code)
        run = Guided(
            network=lent,
            path=lent.network.path,
            prompt=prompt.timeline,
            negative_prompt=negative.timeline,
            guidance_scale=segment.guidance_scale,
            exclusive=desk.word if desk.deterministic else "",
            options=use.options,
            tensors={name: _tensor(desk.result(handle)) for name, handle in use.inputs.items()},
            inner=chain,
        )
        chain = _asking(guidance, run)
    if chain is None:
        raise ValueError("A segment needs at least a base guidance, such as cfg.")
    return chain


def _asking(guidance: Guidance, run: Guided) -> Ask:
    return lambda query: guidance(query, run)


def walked_sigmas(stage: Sample, desk: Desk, levels: NoiseLevels) -> list[float]:
    """The sigmas of the walk: the whole schedule, or its last share where `strength` is below 1.

    At least one step is walked unless the strength is 0. As diffusers and A1111, the schedule is that of all `steps`.
    """
    schedule = schedule_of(desk.tables.schedules.get(stage.schedule))
    sigmas = schedule(stage.steps, levels, stage.schedule_options)
    if stage.latent is None or stage.strength >= 1.0:
        return sigmas
    walked = 0 if stage.strength == 0.0 else max(1, round(stage.steps * stage.strength))
    return sigmas[len(sigmas) - 1 - walked :]


def _latent(stage: Sample, desk: Desk) -> Tensor:
    if stage.latent is None:
        raise ValueError("A walk of no steps needs a latent to begin with.")
    return _tensor(desk.result(stage.latent))


def _segment_at(stage: Sample, share: float) -> Segment:
    return [segment for segment in stage.segments if segment.start <= share][-1]


def _tensor(result: Any) -> Tensor:
    match result:
        case Latent(x):
            return x
        case Mask(latent, _):
            return latent
        case _:
            raise TypeError(f"A {type(result).__name__} is no latent or mask.")
