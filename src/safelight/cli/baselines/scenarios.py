"""What is to be drawn: scenarios and matrices of a TOML file become cases, a picture each.

`docs/baselines.md` describes the file. A scenario's keys are the fields of its request, but for `seeds` and
`thresholds`; a matrix is a scenario for each pair of its samplers and schedules.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safelight.core.names import one_of
from safelight.core.tables import Tables
from safelight.errors import InvalidRequest, InvalidValue

ALL = "*"
"""In a matrix: every sampler (or schedule) of the registry that is valid on the matrix's noise path."""

PICTURES = ("image", "mask")
"""Fields that name files beside the configuration."""

TOP = ("folder", "settings", "fields", "thresholds", "scenario", "matrix")


@dataclass(frozen=True)
class Thresholds:
    """What a picture that is drawn again must keep.

    `exact`: every pixel the same, where it was and is computed by the same plan. Elsewhere `psnr` (dB) and `ssim` at
    least; `largest` (of 255) and `share` (of pixels that differ) at most, if given. `slower`, `more_memory`: at most
    so many times what the baseline took, if given.
    """

    exact: bool = True
    psnr: float = 40.0
    ssim: float = 0.99
    largest: int | None = None
    share: float | None = None
    slower: float | None = None
    more_memory: float | None = None


@dataclass(frozen=True)
class Case:
    """One picture: its name (and file's), the request that draws it, the files it takes, what it must keep."""

    name: str
    body: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    thresholds: Thresholds = Thresholds()

    def file(self, folder: Path) -> Path:
        """The picture in `folder`."""
        return folder / f"{self.name}.png"

    def facts(self, folder: Path) -> Path:
        """What was measured when it was drawn, in `folder`."""
        return folder / f"{self.name}.json"

    def request(self) -> dict[str, Any]:
        """The body with its files, as the client takes it."""
        return {**self.body, **self.pictures}


@dataclass(frozen=True)
class Book:
    """A configuration, read. `folder`: of the baselines. `settings`: of the server that draws, by "section.name"."""

    folder: Path
    cases: tuple[Case, ...]
    settings: Mapping[str, Any]

    def chosen(self, patterns: Iterable[str]) -> tuple[Case, ...]:
        """The cases whose name, or its part before the seed, is like one of the patterns; all where there are none."""
        patterns = tuple(patterns)
        for pattern in patterns:
            if not fnmatch.filter([case.name for case in self.cases], pattern):
                known = one_of((case.name for case in self.cases), 20)
                raise InvalidRequest(
                    InvalidValue("scenario", f"no scenario is like {pattern!r}", f"There are: {known}.")
                )
        return tuple(c for c in self.cases if not patterns or any(fnmatch.fnmatch(c.name, p) for p in patterns))


def read(file: Path, tables: Tables) -> Book:
    """The configuration in `file`; InvalidRequest says what is wrong and where."""
    try:
        with file.open("rb") as opened:
            told = tomllib.load(opened)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong("", f"{file} cannot be read: {error}") from None
    for name in told:
        if name not in TOP:
            raise _wrong(name, f"{file.name} knows no {name!r}", f"There are: {', '.join(TOP)}.")
    common, limits = told.get("fields", {}), _thresholds(told.get("thresholds", {}), Thresholds(), "thresholds")
    cases: dict[str, Case] = {}
    for name, own in told.get("scenario", {}).items():
        for case in _cases(name, {**common, **own}, limits, file.parent):
            cases[case.name] = case
    for number, matrix in enumerate(told.get("matrix", [])):
        for name, own in _pairs(matrix, tables, f"matrix.{number}"):
            for case in _cases(name, {**common, **own}, limits, file.parent):
                if cases.setdefault(case.name, case) != case:
                    raise _wrong(f"matrix.{number}", f"{case.name} is there already, with another request")
    if not cases:
        raise _wrong("", f"{file} has no scenario", "Add a [scenario.NAME] or a [[matrix]].")
    return Book(
        file.parent / told.get("folder", file.stem), tuple(cases.values()), dict(_flat(told.get("settings", {})))
    )


def _cases(name: str, own: Mapping[str, Any], limits: Thresholds, beside: Path) -> Iterator[Case]:
    """A case a seed; the file's name has the seed where there are several."""
    body = {key: value for key, value in own.items() if key not in ("seeds", "thresholds", *PICTURES)}
    body.setdefault("operation", "image.generate")
    pictures = {key: beside / own[key] for key in PICTURES if key in own}
    for key, path in pictures.items():
        if not path.is_file():
            raise _wrong(f"scenario.{name}.{key}", f"there is no file {path}")
    limits = _thresholds(own.get("thresholds", {}), limits, f"scenario.{name}.thresholds")
    seeds = own.get("seeds", [1])
    for seed in seeds:
        yield Case(f"{name}-{seed}" if len(seeds) > 1 else name, {**body, "seed": seed}, pictures, limits)


def _pairs(matrix: Mapping[str, Any], tables: Tables, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, fields) of each pair. `path`: the noise path of the model, `without`: ids that are left out."""
    own = {key: value for key, value in matrix.items() if key not in ("samplers", "schedules", "path", "without")}
    path, without = matrix.get("path", "ve"), frozenset(matrix.get("without", ()))
    samplers = [each.id for each in tables.samplers if path in each.paths]
    schedules = [each.id for each in tables.schedules if each.code is not None]
    for sampler in _listed(matrix, "samplers", samplers, at):
        for schedule in _listed(matrix, "schedules", schedules, at):
            if not without & {sampler, schedule}:
                yield f"{sampler}-{schedule}", {**own, "sampler": sampler, "schedule": schedule}


def _listed(matrix: Mapping[str, Any], name: str, known: list[str], at: str) -> list[str]:
    asked = matrix.get(name, [ALL])
    for each in asked:
        if each != ALL and each not in known:
            raise _wrong(
                f"{at}.{name}", f"{each!r} is not there, or not valid here", f"There are: {one_of(known, 60)}."
            )
    return known if ALL in asked else list(asked)


def _thresholds(told: Mapping[str, Any], otherwise: Thresholds, at: str) -> Thresholds:
    names = [each.name for each in fields(Thresholds)]
    for name, value in told.items():
        if name not in names:
            raise _wrong(f"{at}.{name}", "there is no such threshold", f"There are: {', '.join(names)}.")
        if not isinstance(value, int | float):
            raise _wrong(f"{at}.{name}", f"{value!r} is no number")
    return Thresholds(**{**vars(otherwise), **told})


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, values in settings.items():
        for name, value in values.items():
            yield f"{section}.{name}", value


def _wrong(path: str, said: str, hint: str = "See docs/baselines.md.") -> InvalidRequest:
    return InvalidRequest(InvalidValue(path, said, hint))
