"""The server's view of the files process: ask it about pictures, never decode one here."""

from __future__ import annotations

import asyncio
from pathlib import Path

from safelight.errors import UnreadableFile
from safelight.workers.channel import ChannelClosed
from safelight.workers.child import Child
from safelight.workers.messages import (
    FromFiles,
    InspectPicture,
    MakeThumbnail,
    PictureFacts,
    Refused,
    Thumbnail,
    ToFiles,
)

HINT = "Save the picture anew with another program, or give a smaller one."


class FilesPool:
    """Files processes, each started when first needed and again after it died; each answers one request at a time.

    timeout_s: for one request, after which its process counts as hung and is ended. processes: so many at most; more
    than one, so that a picture that takes long does not hold up all others.
    """

    def __init__(self, timeout_s: float = 60.0, processes: int = 2) -> None:
        self._seats = [_Seat(timeout_s) for _ in range(processes)]
        self._idle: asyncio.LifoQueue[_Seat] = asyncio.LifoQueue()  # the last used first: its process is there
        for seat in self._seats:
            self._idle.put_nowait(seat)
        self._closed = False

    async def inspect(self, path: Path) -> PictureFacts:
        """The facts of a whole picture of a kind and size that is taken; UnreadableFile in words otherwise."""
        answer = await self._ask(InspectPicture(path=str(path)))
        assert isinstance(answer, PictureFacts)
        return answer

    async def thumbnail(self, path: Path, side: int) -> bytes:
        """A WebP file whose longer side is at most `side` pixels; UnreadableFile in words otherwise."""
        answer = await self._ask(MakeThumbnail(path=str(path), side=side))
        assert isinstance(answer, Thumbnail)
        return answer.data

    async def close(self) -> None:
        """End the processes at once; who waits for an answer is told so."""
        self._closed = True
        for seat in self._seats:
            seat.kill()
        for _ in self._seats:
            await (await self._idle.get()).end()

    async def _ask(self, request: ToFiles) -> FromFiles:
        if self._closed:
            raise _stopping(request)
        seat = await self._idle.get()
        try:
            if self._closed:
                raise _stopping(request)
            answer, end = await seat.ask(request)
            if answer is None and self._closed:
                raise _stopping(request)
        finally:
            self._idle.put_nowait(seat)
        if answer is None:
            raise UnreadableFile(f"{Path(request.path).name} {end}.", HINT)
        if isinstance(answer, Refused):
            raise UnreadableFile(answer.message, answer.hint)
        return answer


class _Seat:
    """The place of one files process."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._child: Child[FromFiles] | None = None
        self._killed = False

    async def ask(self, request: ToFiles) -> tuple[FromFiles | None, str]:
        """(answer, "") or (None, what became of the picture), with the process ended. One at a time."""
        child = self._child
        if child is not None and child.process.returncode is not None:  # it died idle: no picture's fault
            await child.close()
            child = None
        if child is None:
            child = self._child = await Child.spawn("safelight.workers.files_process", FromFiles)
            if self._killed:
                child.kill()
        answer: FromFiles | None = None
        end = "broke the process that decodes pictures"
        try:
            child.channel.send(request)
            answer = await asyncio.wait_for(child.channel.receive(), self._timeout_s)
        except TimeoutError:
            end = f"took longer than {self._timeout_s:g} s to decode"
        except ChannelClosed:
            end = "could not be looked at: the process that decodes pictures had ended"
        finally:
            if answer is None:  # also where the caller went away: what comes late must not answer the next
                self._child = None
                child.kill()
                await asyncio.shield(child.close())
        return answer, end

    def kill(self) -> None:
        """End the process, and one that is only just starting."""
        self._killed = True
        if self._child is not None:
            self._child.kill()

    async def end(self) -> None:
        """Let go of the process, which was killed."""
        if self._child is not None:
            await self._child.close()
            self._child = None


def _stopping(request: ToFiles) -> UnreadableFile:
    name = Path(request.path).name
    return UnreadableFile(f"{name} could not be looked at: the server is stopping.", "Try again once it runs.")
