"""Everything the server and its processes say to each other: MessagePack, typed and checked on arrival, never pickled.

Every message about a job carries the attempt: the store refuses what a stale attempt says. Four conversations:
server <-> worker (a socket), server <-> zygote, server -> worker that starts anew, server <-> files process (pipes).
"""

from __future__ import annotations

from typing import Any

import msgspec

from safelight.workers.spec import WorkerSpec


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One message. The tag on the wire is the class's name."""


# ---- server to worker


class Assign(Message, frozen=True):
    """Run this attempt. `resolved`: the complete request. `recipe`: "module:attribute" of its recipe.

    `checkpoint`: folder to go on from, or empty. `folder`: where this attempt may write checkpoints.
    `previews`: whether anyone watches. `alone`: run nothing beside it until its first checkpoint. `plan`: that of a
    deterministic job's first attempt, which this one must take up; empty for the first.
    """

    job: str
    attempt: int
    resolved: dict[str, Any]
    recipe: str
    folder: str
    owner: str
    checkpoint: str = ""
    previews: bool = False
    alone: bool = False
    plan: dict[str, Any] = msgspec.field(default_factory=dict)


class Cancel(Message, frozen=True):
    """Stop the attempt at the next step boundary and forget it."""

    job: str
    attempt: int


class Pause(Message, frozen=True):
    """Write a checkpoint at the next step boundary and let the job go. `end`: `paused` or `preempted`."""

    job: str
    attempt: int
    end: str


class Watch(Message, frozen=True):
    """Somebody began (or ceased) to watch the job: make previews or not."""

    job: str
    attempt: int
    previews: bool


class Shutdown(Message, frozen=True):
    """Checkpoint what is open within `grace_s` seconds, give it back, and end."""

    grace_s: float


ToWorker = Assign | Cancel | Pause | Watch | Shutdown


# ---- worker to server


class Hello(Message, frozen=True):
    """The first message on a worker's connection: `token` proves that it is the one the server started."""

    token: str


class Broken(Message, frozen=True):
    """The worker cannot start, or cannot go on for a fault of its own; it ends right after this."""

    message: str
    trace: str


class Ready(Message, frozen=True):
    """The worker can take jobs. `threads`: arithmetic threads; `bytes_free`: for weights and work; `plan`: how it
    computes deterministic pictures (core.plans)."""

    pid: int
    device: str
    device_name: str
    dtype: str
    threads: int
    bytes_free: int
    versions: dict[str, str]
    plan: dict[str, Any] = msgspec.field(default_factory=dict)


class Heartbeat(Message, frozen=True):
    """Alive, with these attempts open. `holds`: weights keys in memory.

    `last_pass_s`: seconds since the last sign of progress (a piece of work done, something reported); 0 with nothing
    open. `pass_s`: how long the piece of work under way takes as learnt (0: not known, or nothing under way).
    """

    open: list[tuple[str, int]]
    holds: list[str]
    bytes_free: int
    bytes_held: int
    rss: int
    last_pass_s: float
    pass_s: float


class Happened(Message, frozen=True):
    """An event of the attempt. `kind`: an EventKind."""

    job: str
    attempt: int
    kind: str
    data: dict[str, Any]


class Planned(Message, frozen=True):
    """The first attempt of a deterministic job begins with `plan`, which later attempts take up (core.plans)."""

    job: str
    attempt: int
    plan: dict[str, Any]


class Saved(Message, frozen=True):
    """An artifact lies finished under its content's name; the server records it."""

    job: str
    attempt: int
    index: int
    sha256: str
    media_type: str
    bytes: int
    width: int
    height: int
    seed: int


class Checkpointed(Message, frozen=True):
    """The attempt can go on from `folder` (whole on disk). `step`: how many steps of the job are in it."""

    job: str
    attempt: int
    folder: str
    step: int


class Succeeded(Message, frozen=True):
    """The recipe ended. `result`: its answer; `timings`: seconds per kind of stage."""

    job: str
    attempt: int
    result: dict[str, Any]
    timings: dict[str, float]
    peak_bytes: int


class Ended(Message, frozen=True):
    """The attempt ended without a result. `end`: an AttemptEnd; `kind`, `message`, `hint`: an error in words."""

    job: str
    attempt: int
    end: str
    kind: str = ""
    message: str = ""
    hint: str = ""
    trace: str = ""


class Declined(Message, frozen=True):
    """The worker cannot take the job now; costs the job nothing."""

    job: str
    attempt: int
    reason: str


class Profile(Message, frozen=True):
    """A measured cost: seconds of a pass of `width` rows over (`network`, `shape`, `dtype`)."""

    network: str
    shape: str
    dtype: str
    width: int
    seconds: float


ToServer = (
    Hello
    | Broken
    | Ready
    | Heartbeat
    | Happened
    | Planned
    | Saved
    | Checkpointed
    | Succeeded
    | Ended
    | Declined
    | Profile
)


# ---- server to zygote, and to a worker that starts anew


class Preload(Message, frozen=True):
    """The first message to a zygote: import these modules, then take orders."""

    modules: list[str]


class Start(Message, frozen=True):
    """Be (or fork) this worker: connect to `address` and show `token`."""

    spec: WorkerSpec
    address: str
    token: str


class Kill(Message, frozen=True):
    """End this child at once, if it has not been reaped yet (so that a reused pid is never hit)."""

    pid: int


ToZygote = Preload | Start | Kill


# ---- zygote to server


class Preloaded(Message, frozen=True):
    """The imports are done. `threads`: of this process (more than one: not safe to fork). `missing`: what failed."""

    threads: int
    missing: dict[str, str]


class Forked(Message, frozen=True):
    """The worker that will show `token` runs as `pid`; 0 and why where the system refused to fork."""

    token: str
    pid: int
    error: str = ""


class Exited(Message, frozen=True):
    """A worker was reaped. `code`: its exit code, or minus the signal that ended it."""

    pid: int
    code: int


FromZygote = Preloaded | Forked | Exited


# ---- server to files process, and back; answers come in the order of the requests


class InspectPicture(Message, frozen=True):
    """Is this file a whole picture that may come in? Every frame is decoded to know."""

    path: str


class MakeThumbnail(Message, frozen=True):
    """Make a WebP whose longer side is at most `side` pixels."""

    path: str
    side: int


class PictureFacts(Message, frozen=True):
    """A whole picture. Sides in pixels as stored (before any EXIF orientation)."""

    media_type: str
    width: int
    height: int
    frames: int


class Thumbnail(Message, frozen=True):
    """A WebP file's bytes and its sides."""

    data: bytes
    width: int
    height: int


class Refused(Message, frozen=True):
    """The file is not taken: an error in words (see errors.py)."""

    kind: str
    message: str
    hint: str


ToFiles = InspectPicture | MakeThumbnail
FromFiles = PictureFacts | Thumbnail | Refused
