"""Everything server and worker say to each other. MessagePack on a socket, typed and checked on arrival, never pickled.

Every message about a job carries the attempt: the store refuses what a stale attempt says.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One message. The tag on the wire is the class's name."""


# ---- server to worker


class Assign(Message, frozen=True):
    """Run this attempt. `resolved`: the complete request. `recipe`: "module:attribute" of its recipe.

    `checkpoint`: folder to go on from, or empty. `folder`: where this attempt may write checkpoints.
    `previews`: whether anyone watches. `alone`: run nothing beside it until its first checkpoint.
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


# ---- worker to server


class Ready(Message, frozen=True):
    """The worker can take jobs. `threads`: arithmetic threads; `bytes_free`: for weights and work."""

    pid: int
    device: str
    device_name: str
    dtype: str
    threads: int
    bytes_free: int
    versions: dict[str, str]


class Heartbeat(Message, frozen=True):
    """Alive, with these attempts open. `holds`: weights keys in memory. `last_pass_s`: since the last piece of work.

    `pass_s`: how long the piece of work under way may take as learnt (0: nothing under way).
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
    """A measured cost: seconds and peak bytes of a pass of `width` rows over (`network`, `shape`, `dtype`)."""

    network: str
    shape: str
    dtype: str
    width: int
    seconds: float
    bytes: int


ToWorker = Assign | Cancel | Pause | Watch | Shutdown
ToServer = Ready | Heartbeat | Happened | Saved | Checkpointed | Succeeded | Ended | Declined | Profile
