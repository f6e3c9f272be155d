"""Parameters of samplers and schedules: what may be given, and how it is checked and completed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from safelight.core.names import nearest, one_of
from safelight.core.stages import Scalar
from safelight.errors import InvalidRequest, InvalidValue

PathName = Literal["ve", "flow"]
"""A noise path by name; see `FamilySpec.path`."""


@dataclass(frozen=True)
class Parameter:
    """One option of a sampler or schedule.

    `minimum` and `maximum` are inclusive. `least`: the smallest number beside 0, where 0 stands for the model's own.
    `below`: the parameter that must be greater, where both are given. `choices` belongs to type `choice`. `paths`: the
    noise paths on which anything but the default has a meaning.
    """

    name: str
    type: Literal["float", "int", "bool", "choice"]
    default: Scalar
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""
    paths: tuple[PathName, ...] = ("ve", "flow")
    least: float | None = None
    below: str = ""

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.type == "choice":
            return f"one of {one_of(self.choices, 20)}"
        if self.type == "bool":
            return "true or false"
        kind = "a whole number" if self.type == "int" else "a number"
        if self.least is not None:
            return f"0 or {kind} from {self.least:g} to {self.maximum:g}"
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        return kind if self.minimum is None else f"{kind} of at least {self.minimum:g}"

    def read(self, value: object) -> Scalar | None:
        """The value in this parameter's type, or None where it is not allowed. 4.0 is a whole number, true is not."""
        if self.type == "choice":
            return value if isinstance(value, str) and value in self.choices else None
        if self.type == "bool":
            return value if isinstance(value, bool) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        if self.type == "int" and value != int(value):
            return None
        if not (self.minimum is None or value >= self.minimum) or not (self.maximum is None or value <= self.maximum):
            return None
        if self.least is not None and 0 < value < self.least:
            return None
        return int(value) if self.type == "int" else float(value)


class Parametrised(Protocol):
    """A record with parameters: a sampler's or a schedule's."""

    @property
    def id(self) -> str:
        """The canonical name."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What may be given, in the order to show it."""
        ...


def complete_options(
    record: Parametrised, given: Mapping[str, object], *, path: PathName | None = None, at: str = "options"
) -> dict[str, Scalar]:
    """Every parameter of `record` with its given or default value.

    `path`: the noise path of the run, where it is known; refuses options that mean nothing there. `at`: where the
    options stand in the request, for the message. Raises InvalidRequest with everything that is wrong.
    """
    known = {parameter.name: parameter for parameter in record.parameters}
    wrong = [_unknown(record, name, known, at) for name in given if name not in known]
    complete: dict[str, Scalar] = {}
    for name, parameter in known.items():
        value = parameter.read(given.get(name, parameter.default))
        if value is None:
            wrong.append(InvalidValue(f"{at}.{name}", f"{given[name]!r} is not {parameter.allowed}", parameter.help))
        elif path is not None and path not in parameter.paths and value != parameter.default:
            hint = f"Leave it at {parameter.default!r} with this model."
            wrong.append(InvalidValue(f"{at}.{name}", f"{value!r} has no meaning on the {path} noise path", hint))
        else:
            complete[name] = value
    wrong += [fault for parameter in known.values() if (fault := _not_below(parameter, complete, at))]
    if wrong:
        raise InvalidRequest(*wrong)
    return complete


def _not_below(parameter: Parameter, complete: Mapping[str, Scalar], at: str) -> InvalidValue | None:
    """What is wrong with a parameter that must be below another; None where either is left to the model."""
    lower, upper = complete.get(parameter.name), complete.get(parameter.below)
    if not lower or not upper or float(lower) < float(upper):
        return None
    hint = f"Leave either at {parameter.default!r}: {parameter.help}."
    return InvalidValue(f"{at}.{parameter.name}", f"{lower!r} is not below {parameter.below}, {upper!r}", hint)


def _unknown(record: Parametrised, name: str, known: Mapping[str, Parameter], at: str) -> InvalidValue:
    near = nearest(name, known)
    hint = f"Did you mean {one_of(repr(each) for each in near)}? " if near else ""
    allowed = f"Known: {one_of(known, 20)}." if known else "It has none."
    return InvalidValue(f"{at}.{name}", f"{record.id} has no such parameter", hint + allowed)
