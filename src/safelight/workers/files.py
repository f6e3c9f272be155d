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


class FilesPool:
    """One files process, started when first asked and again after it died; requests are answered in order.

    timeout_s: for one request, after which the process counts as hung and is ended.
    """

    def __init__(self, timeout_s: float = 60.0) -> None:
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._child: Child[FromFiles] | None = None

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
        """End the process once it has answered what is under way."""
        async with self._turn:
            if self._child is not None:
                await self._child.close()
                self._child = None

    async def _ask(self, request: ToFiles) -> FromFiles:
        async with self._turn:
            child = self._child
            if child is not None and child.process.returncode is not None:  # it died idle: no picture's fault
                await child.close()
                child = None
            if child is None:
                child = self._child = await Child.spawn("safelight.workers.files_process", FromFiles)
            answer: FromFiles | None = None
            try:
                child.channel.send(request)
                answer = await asyncio.wait_for(child.channel.receive(), self._timeout_s)
                end = "broke the process that decodes pictures"
            except TimeoutError:
                end = f"took longer than {self._timeout_s:g} s to decode"
            except ChannelClosed:
                end = "could not be looked at: the process that decodes pictures had ended"
            finally:
                if answer is None:  # also where the caller went away: what comes late must not answer the next
                    self._child = None
                    child.kill()
                    await asyncio.shield(child.close())
        if answer is None:
            name = Path(request.path).name
            raise UnreadableFile(f"{name} {end}.", "Save the picture anew with another program, or give a smaller one.")
        if isinstance(answer, Refused):
            raise UnreadableFile(answer.message, answer.hint)
        return answer
