"""Working memory: every pass and every piece runs here, in a form that fits, measured while it is new.

What runs out of memory after all takes the next form down the ladder; what runs out in the last one fails its own
job, in words, and leaves the process healthy.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

from safelight.engine.residency import memory
from safelight.errors import NoRoomNow, OutOfMemory
from safelight.placement.ladder import Expect
from safelight.placement.peaks import Peaks
from safelight.placement.plan import Form, Need, refusal
from safelight.placement.profiles import PassKey

if TYPE_CHECKING:
    from safelight.engine.residency.bench import Bench

T = TypeVar("T")
Y = TypeVar("Y")


class Working:
    """The working memory of one device. One owner: the loop's thread."""

    def __init__(self, bench: Bench, peaks: Peaks | None = None) -> None:
        self.peaks = peaks or Peaks()
        self._bench = bench
        self._hands: ThreadPoolExecutor | None = None
        self._harmed = False

    def run(self, key: PassKey, size: int, work: Callable[[], T]) -> T:
        """Do a pass or a piece; what it took is measured while it is new. Raises what it raises.

        On a CPU it is done in this thread until oneDNN has no memory for a kernel's code, and from then on in another:
        oneDNN keeps that, a thread, and makes no kernel there ever again.
        """
        watch = memory.Watch(self._bench.device) if self.peaks.wanted(key, size) else None
        try:
            done = self._in_sound_hands(work)
        except Exception as error:
            if memory.ran_out(error):
                self.peaks.ran_out(key, size, self.free)
                self._harmed = self._harmed or memory.harmed(error)
            raise
        if watch is not None and (count := watch.stop()) is not None:
            self.peaks.observe(key, size, count)
        self.peaks.went_well(key, size)
        return done

    def _in_sound_hands(self, work: Callable[[], T]) -> T:
        if self._harmed:  # not where it failed: what the failed pass held is let go by now
            self.close()
            self._hands = ThreadPoolExecutor(1, "arithmetic", memory.warm_up)
            with memory.uncapped():
                self._hands.submit(lambda: None).result()
            self._harmed = False
        memory.check_headroom()
        if self._hands is None:
            with memory.capped():
                return work()
        threads = torch.get_num_threads()

        def handed() -> T:
            torch.set_num_threads(threads)
            return work()

        with memory.capped():
            return self._hands.submit(handed).result()

    @property
    def free(self) -> int:
        """Bytes of the budget that nothing holds now."""
        return max(0, self._bench.budget - self._bench.bytes)

    def expect(self, key: PassKey, guess: int) -> Expect:
        """What sizes of `key` take; `guess`: bytes of one, before anything is measured."""
        return lambda size: self.peaks.expect(key, size, guess * size)

    def refused(self, need: Need) -> OutOfMemory:
        """What a job is told that ran out of memory in the last form of `need`."""
        told = refusal(need, self._bench.held(), self._bench.budget, ran_out=True)
        return (NoRoomNow if told.ever else OutOfMemory)(told.message, told.hint)

    def descend(self, need: Need, work: Callable[[Form], Generator[Y, None, T]]) -> Generator[Y, None, T]:
        """Do the work in the best form that fits, and in the next where it runs out of memory. OutOfMemory, or
        NoRoomNow, in words where it fits in none."""
        fitting = self._bench.make_room(need)
        for form in need.forms[need.forms.index(fitting) :]:
            try:
                return (yield from work(form))
            except Exception as error:
                if not memory.ran_out(error):
                    raise
            if self.relieve():  # out of the except clause: its trace held what the work had allocated
                try:
                    return (yield from work(form))
                except Exception as error:
                    if not memory.ran_out(error):
                        raise
        self.relieve()
        raise self.refused(need)

    def relieve(self) -> bool:
        """After running out: let everything go that nobody uses. Whether that was anything."""
        idle = [each.key for each in self._bench.held() if not each.stays]
        for key in idle:
            self._bench.evict(key)
        gc.collect()  # a trace that was in a circle holds what its frames had
        memory.save_space()
        memory.relieve(self._bench.device)
        return bool(idle)

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._hands is not None:
            self._hands.shutdown()
            self._hands = None
