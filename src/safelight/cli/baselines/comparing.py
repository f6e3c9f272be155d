"""A case drawn again against its baseline: what was measured, and what of the thresholds it did not keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.cli.baselines.drawing import Drawn
from safelight.cli.baselines.measures import Likeness, compare
from safelight.cli.baselines.scenarios import Case, Thresholds
from safelight.core.plans import differences
from safelight.workflows import remake


@dataclass(frozen=True)
class Outcome:
    """How a case came out. `faults`: why it fails, empty where it passes. `plan`: what was computed otherwise.

    `kept`, `drawn`, `likeness`: None where it did not come to that.
    """

    case: Case
    faults: tuple[str, ...]
    plan: tuple[str, ...] = ()
    exact: bool = False
    kept: Drawn | None = None
    drawn: Drawn | None = None
    likeness: Likeness | None = None

    @property
    def passed(self) -> bool:
        """Whether the baseline holds."""
        return not self.faults

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"name": self.case.name, "passed": self.passed, "faults": list(self.faults)}
        if self.likeness is not None and self.kept is not None and self.drawn is not None:
            told |= {
                **self.likeness.facts(), "promised": "identical" if self.exact else "alike", "plan": list(self.plan),
                "seconds": self.drawn.seconds, "baseline_seconds": self.kept.seconds,
                "peak_bytes": self.drawn.peak_bytes, "baseline_peak_bytes": self.kept.peak_bytes,
            }  # fmt: skip
        return told


def judge(case: Case, kept: Drawn, drawn: Drawn) -> Outcome:
    """Hold the picture that was drawn now against the one that was kept."""
    plan = tuple(_changed(kept, drawn))
    changed = remake.differences(kept.origin, drawn.origin.resolved)
    if changed:
        said = (f"the baseline is of another request: {each}; capture it anew" for each in changed)
        return Outcome(case, tuple(said), plan, kept=kept, drawn=drawn)
    try:
        likeness = compare(kept.image(), drawn.image())
    except ValueError as error:
        return Outcome(case, (str(error),), plan, kept=kept, drawn=drawn)
    exact = case.thresholds.exact and kept.origin.deterministic and not plan
    faults = (*_unlike(likeness, case.thresholds, exact), *_dearer(kept, drawn, case.thresholds))
    return Outcome(case, faults, plan, exact, kept, drawn, likeness)


def orphans(folder: Path, cases: Iterable[Case]) -> list[str]:
    """Files among the baselines that no scenario names."""
    named = {path.name for case in cases for path in (case.file(folder), case.facts(folder))}
    return sorted(
        path.name for path in folder.glob("*.*") if path.suffix in (".png", ".json") and path.name not in named
    )


def _changed(kept: Drawn, drawn: Drawn) -> Iterator[str]:
    was, now = kept.origin, drawn.origin
    yield from differences(was.plan, now.plan)
    for name, before, after in (("threads", was.plan.get("threads"), now.plan.get("threads")),
                                ("the width of passes", was.width, now.width)):  # fmt: skip
        if before != after:
            yield f"{name} was {before}, here it is {after}"


def _unlike(seen: Likeness, wanted: Thresholds, exact: bool) -> Iterator[str]:
    if exact:
        if not seen.identical:
            yield f"{seen.share:.2%} of the pixels differ, by at most {seen.largest}; the same plan promises none"
        return
    if seen.psnr < wanted.psnr:
        yield f"PSNR {seen.psnr:.1f} dB is below {wanted.psnr:g} dB"
    if seen.ssim < wanted.ssim:
        yield f"SSIM {seen.ssim:.4f} is below {wanted.ssim:g}"
    if wanted.largest is not None and seen.largest > wanted.largest:
        yield f"a pixel differs by {seen.largest}, more than {wanted.largest}"
    if wanted.share is not None and seen.share > wanted.share:
        yield f"{seen.share:.2%} of the pixels differ, more than {wanted.share:.2%}"


def _dearer(kept: Drawn, drawn: Drawn, wanted: Thresholds) -> Iterator[str]:
    if wanted.slower is not None and drawn.seconds > wanted.slower * kept.seconds:
        yield f"it took {drawn.seconds:.2f} s, more than {wanted.slower:g} times {kept.seconds:.2f} s"
    if wanted.more_memory is not None and drawn.peak_bytes > wanted.more_memory * kept.peak_bytes:
        yield f"it took {drawn.peak_bytes:,} bytes, more than {wanted.more_memory:g} times {kept.peak_bytes:,}"
