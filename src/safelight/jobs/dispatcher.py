"""Which job goes to which worker: a pure decision over what is queued, running and there. Nothing here acts.

The line is: jobs passed over too often, then priority, then a turn for each owner, then age (`Store.waiting` brings
the owners' turns; `assign` keeps the order it is given within a priority). Each in turn takes the best worker that has
room. A job that fits nowhere now lets later ones overtake, and each time that is counted; from `PASSED_OVER_LIMIT` on
it goes first and a worker is kept free for it. A job of higher priority pushes lower ones out where all is full.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from safelight.core import plans
from safelight.core.names import one_of
from safelight.core.plans import Plan
from safelight.jobs.records import Job

PASSED_OVER_LIMIT = 8
"""A job that was overtaken this often goes first."""


@dataclass(frozen=True)
class OpenJob:
    """An attempt that a worker has open. Bytes. `weights`: of its model, which all jobs of the model share.

    `work`: what it takes beside the others.
    """

    job_id: str
    attempt: int
    model_key: str
    priority: int
    alone: bool = False
    work: int = 0
    weights: int = 0


@dataclass(frozen=True)
class WorkerView:
    """A worker as it last reported, or one that is configured and not up yet (`ready` false).

    `holds`: model keys in memory. `bytes`: for weights and work altogether. What open jobs take of it is in use,
    weights that nobody uses make room. `max_open`: attempts it takes at once. `plan`: how it computes deterministic
    pictures (core.plans); None while it is not known.
    """

    id: str
    device: str
    holds: frozenset[str] = frozenset()
    bytes: int = 0
    open: tuple[OpenJob, ...] = ()
    max_open: int = 1
    ready: bool = True
    plan: Plan | None = None


@dataclass(frozen=True)
class AssignTo:
    """Claim the job for this worker."""

    job_id: str
    worker: str


@dataclass(frozen=True)
class Preempt:
    """Pause this attempt at its next step: `by` needs the room. The same answer comes until it is gone."""

    job_id: str
    attempt: int
    worker: str
    by: str


@dataclass(frozen=True)
class Refuse:
    """Fail the job, since no wait helps. `kind`, `message`, `hint`: as Store.refuse takes them."""

    job_id: str
    kind: str
    message: str
    hint: str


@dataclass(frozen=True)
class PassOver:
    """Count it for these jobs: later ones go before them."""

    job_ids: tuple[str, ...]


Decision = AssignTo | Preempt | Refuse | PassOver


@dataclass
class _Bench:
    """A worker while one decision is made: what it will have once the decisions so far are carried out.

    `kept_for`: the job that has waited too long for it. `clearing`: some must leave first, so nothing is given now.
    """

    view: WorkerView
    open: list[OpenJob]
    holds: set[str] = field(default_factory=set)
    kept_for: str | None = None
    clearing: bool = False

    @property
    def free(self) -> int:
        """Bytes that no open job takes. The worker itself decides in the end: it declines what does not fit."""
        return self.view.bytes - _in_use(self.open)

    def has_room(self, job: Job) -> bool:
        """Whether the job fits beside what is open. An empty worker takes anything: it evicts, takes
        smaller forms of the work, or refuses in words."""
        if not self.view.ready or self.kept_for not in (None, job.id):
            return False
        if not self.open:
            return True
        if job.alone or any(each.alone for each in self.open):
            return False
        return len(self.open) < self.view.max_open and _in_use([*self.open, opened(job)]) <= self.view.bytes

    def take(self, job: Job) -> None:
        self.open.append(opened(job))
        self.holds.add(job.model_key)

    def without(self, gone: Collection[OpenJob]) -> _Bench:
        """As it will be when these have left."""
        staying = [each for each in self.open if each not in gone]
        return _Bench(self.view, staying, self.holds, self.kept_for)


def opened(job: Job) -> OpenJob:
    """The job's next attempt, as a worker will have it open."""
    work = job.bytes_needed - job.weights_bytes
    return OpenJob(job.id, job.attempt + 1, job.model_key, job.priority, job.alone, work, job.weights_bytes)


def _in_use(jobs: Sequence[OpenJob]) -> int:
    """Bytes that jobs take together: the work of each, and the weights of each model once."""
    weights: dict[str, int] = {}
    for each in jobs:
        weights[each.model_key] = max(each.weights, weights.get(each.model_key, 0))
    return sum(weights.values()) + sum(each.work for each in jobs)


def assign(queued: Sequence[Job], running: Sequence[Job], workers: Sequence[WorkerView], now: float,
           steady: float) -> list[Decision]:  # fmt: skip
    """What to do now. `queued`: in `Store.waiting`'s order. `now`: seconds since the epoch, which `not_before` names.
    `steady`: the time on the store's steady clock, which `deadline` is on."""
    running_by_id = {job.id: job for job in running}
    benches = [_Bench(view, list(view.open), set(view.holds)) for view in workers]
    decisions: list[Decision] = []
    blocked: list[str] = []
    overtaken: dict[str, None] = {}
    for job in _line(queued, now):
        refusal = _refusal(job, workers, steady)
        if refusal is not None:
            decisions.append(refusal)
            continue
        able = [bench for bench in benches if _may_run(job, bench.view)]
        fitting = [bench for bench in able if not bench.clearing and bench.has_room(job)]
        if fitting:
            best = min(fitting, key=lambda bench: _rank(job, bench))
            best.take(job)
            decisions.append(AssignTo(job.id, best.view.id))
            overtaken |= dict.fromkeys(blocked)
        elif (pushed := _push_out(job, able, running_by_id)) is not None:
            decisions += pushed
        else:
            blocked.append(job.id)
            if job.passed_over >= PASSED_OVER_LIMIT:
                _keep_one_free(job, able)
    if overtaken:
        decisions.append(PassOver(tuple(overtaken)))
    return decisions


def _line(queued: Sequence[Job], now: float) -> list[Job]:
    """Who is asked first; stable, so that within a priority the owners' turns and age stand as given."""
    may_start = [job for job in queued if job.not_before is None or job.not_before <= now]
    return sorted(may_start, key=lambda job: (job.passed_over < PASSED_OVER_LIMIT, -job.priority))


def _refusal(job: Job, workers: Sequence[WorkerView], steady: float) -> Refuse | None:
    """Why no wait can help the job, if so. Before any worker is known nothing is refused for its pin."""
    if job.deadline is not None and job.deadline <= steady:
        late = f"The job was still queued {steady - job.deadline:.0f} s after its deadline."
        return Refuse(job.id, "deadline", late, "Give it more time, or a higher priority.")
    pinned = [view for view in workers if _pinned(job, view)]
    if job.plan and (why := plans.refusal(job.plan, {view.id: view.plan for view in pinned})):
        hint = "Start a worker that computes like that, or retry the job: the new one goes by the plan of who draws it."
        return Refuse(job.id, "plan_unavailable", why, hint)
    if job.worker is None or not workers or pinned:
        return None
    there = one_of(dict.fromkeys(name for view in workers for name in (view.id, view.device)))
    message = f"The job is pinned to {job.worker!r}, and no such worker or device is here."
    return Refuse(job.id, "worker_unavailable", message, f"There are: {there}.")


def _may_run(job: Job, view: WorkerView) -> bool:
    """Whether the job may go to this worker: its pin allows it, and it can take up the job's plan."""
    return _pinned(job, view) and not (job.plan and view.plan is not None and plans.differences(job.plan, view.plan))


def _pinned(job: Job, view: WorkerView) -> bool:
    return job.worker in (None, view.id, view.device)


def _rank(job: Job, bench: _Bench) -> tuple[bool, int, int, str]:
    """Smallest is best: holds the model, then the fewest open, then the most room; the id makes it one answer."""
    return job.model_key not in bench.holds, len(bench.open), -bench.free, bench.view.id


def _push_out(job: Job, able: Sequence[_Bench], running: Mapping[str, Job]) -> list[Decision] | None:
    """Make room among jobs of lower priority: on the worker where the least important and the fewest have to go, which
    then takes nothing else until they left. None where nothing helps; nobody to push where those who are leaving
    anyway suffice."""
    ways = [(bench, gone) for bench in able if (gone := _who_goes(job, bench, running)) is not None]
    if not ways:
        return None
    bench, gone = min(ways, key=lambda way: ([each.priority for each in way[1]], way[0].view.id))
    after = bench.without(gone)
    bench.open, bench.clearing = after.open, True
    bench.take(job)
    staying = [each for each in gone if not _leaves(each, running)]
    return [Preempt(each.job_id, each.attempt, bench.view.id, job.id) for each in staying]


def _who_goes(job: Job, bench: _Bench, running: Mapping[str, Job]) -> list[OpenJob] | None:
    """The fewest that must leave the worker: those leaving anyway, then the lowest priority, then the latest begun."""
    here = [each for each in bench.open if each in bench.view.open]  # what was only just given is not taken back
    lower = [each for each in here if each.priority < job.priority or _leaves(each, running)]
    lower.sort(key=lambda each: (not _leaves(each, running), each.priority, -_begun(each, running)))
    gone: list[OpenJob] = []
    if bench.has_room(job):  # once those who were pushed out for another have left
        return gone
    for each in lower:
        gone.append(each)
        if bench.without(gone).has_room(job):
            return gone
    return None


def _leaves(opened: OpenJob, running: Mapping[str, Job]) -> bool:
    job = running.get(opened.job_id)
    return job is not None and (job.cancel_requested or job.pause_requested)


def _begun(opened: OpenJob, running: Mapping[str, Job]) -> float:
    job = running.get(opened.job_id)
    return job.attempts[-1].started_at if job is not None and job.attempts else 0.0


def _keep_one_free(job: Job, able: Sequence[_Bench]) -> None:
    """Give nothing more to the worker that will soonest have room for the job."""
    free = [bench for bench in able if bench.view.ready and bench.kept_for is None]
    if free:
        min(free, key=lambda bench: (len(bench.open), -bench.free, bench.view.id)).kept_for = job.id
