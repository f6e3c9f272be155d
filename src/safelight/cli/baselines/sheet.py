"""The sheet of a comparison: JSON for programs, Markdown for a review, HTML with the pictures side by side."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from safelight.cli.baselines.comparing import Outcome
from safelight.cli.baselines.drawing import Drawn

NAMES = ("baselines.json", "baselines.md", "baselines.html")

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Baselines</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; background: #fff; color: #222 }}
table {{ border-collapse: collapse }} td, th {{ padding: .4rem .8rem; text-align: left; vertical-align: top }}
tr {{ border-top: 1px solid #ddd }} img {{ width: 192px; image-rendering: pixelated; display: block }}
.failed td:first-child {{ border-left: 4px solid #c00 }} .passed td:first-child {{ border-left: 4px solid #080 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #1b1b1b; color: #ddd }} tr {{ border-color: #444 }} }}
</style>
<h1>{summary}</h1>
<table><tr><th>Scenario<th>Baseline<th>Drawn<th>Difference</tr>
{rows}
</table></html>
"""


def write(outcomes: Sequence[Outcome], strays: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Write the three sheets into `folder`; their paths. `strays`: files that are no scenario's baseline."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = (_json(outcomes, strays), _markdown(outcomes, strays), _html(outcomes, strays))
    paths = tuple(folder / name for name in NAMES)
    for path, page in zip(paths, pages, strict=True):
        path.write_text(page, encoding="utf-8")
    return paths


def summary(outcomes: Sequence[Outcome], strays: Sequence[str]) -> str:
    """One line: how many hold, how many do not."""
    failed = sum(not each.passed for each in outcomes)
    said = f"{len(outcomes) - failed} of {len(outcomes)} baselines hold"
    return said + (f"; of no scenario: {', '.join(strays)}" if strays else "")


def line(outcome: Outcome) -> str:
    """What was measured of one case, or why it failed."""
    return "; ".join(outcome.faults) if outcome.faults else _measured(outcome)


def amplified(kept: Image.Image, drawn: Image.Image) -> tuple[Image.Image, int]:
    """The difference, made as strong as it can be: (picture, how many times)."""
    one, other = (np.asarray(each.convert("RGB"), dtype=np.int16) for each in (kept, drawn))
    apart = np.abs(one - other)
    factor = max(1, 255 // max(1, int(apart.max())))
    return Image.fromarray((apart * factor).astype(np.uint8)), factor


def _json(outcomes: Sequence[Outcome], strays: Sequence[str]) -> str:
    passed = all(each.passed for each in outcomes) and not strays
    told = {"passed": passed, "cases": [each.facts() for each in outcomes], "of_no_scenario": list(strays)}
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _markdown(outcomes: Sequence[Outcome], strays: Sequence[str]) -> str:
    rows = [
        f"| {'passed' if each.passed else '**failed**'} | {each.case.name} | {_figures(each)} | {line(each)} |"
        for each in sorted(outcomes, key=lambda each: each.passed)
    ]
    head = (
        "| | scenario | PSNR | SSIM | largest | pixels | seconds | peak MiB | |\n|---|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([f"# {summary(outcomes, strays)}", "", head, *rows, ""])


def _html(outcomes: Sequence[Outcome], strays: Sequence[str]) -> str:
    rows = "\n".join(_row(each) for each in sorted(outcomes, key=lambda each: each.passed))
    return _PAGE.format(summary=html.escape(summary(outcomes, strays)), rows=rows)


def _row(outcome: Outcome) -> str:
    said = "<br>".join(html.escape(each) for each in (line(outcome), *outcome.plan))
    state = "passed" if outcome.passed else "failed"
    cells = [f"<b>{html.escape(outcome.case.name)}</b><br>{said}", _shown(outcome.kept), _shown(outcome.drawn), ""]
    if outcome.kept and outcome.drawn and outcome.likeness:
        apart, factor = amplified(outcome.kept.image(), outcome.drawn.image())
        cells[3] = _image(_png(apart)) + ("none" if outcome.likeness.identical else f"{factor} times")
    return f'<tr class="{state}">' + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _shown(drawn: Drawn | None) -> str:
    return _image(drawn.data) if drawn is not None else ""


def _image(data: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _measured(outcome: Outcome) -> str:
    seen = outcome.likeness
    if seen is None or seen.identical:
        return "identical"
    return f"{seen.psnr:.1f} dB, SSIM {seen.ssim:.4f}, {seen.share:.2%} of the pixels differ by at most {seen.largest}"


def _figures(outcome: Outcome) -> str:
    seen, was, now = outcome.likeness, outcome.kept, outcome.drawn
    if seen is None or was is None or now is None:
        return " | ".join([""] * 6)
    psnr = "∞" if seen.identical else f"{seen.psnr:.1f}"
    memory = f"{now.peak_bytes / 2**20:.0f} ({was.peak_bytes / 2**20:.0f})"
    return (f"{psnr} | {seen.ssim:.4f} | {seen.largest} | {seen.share:.2%} | {now.seconds:.2f} ({was.seconds:.2f}) | "
            f"{memory}")  # fmt: skip
