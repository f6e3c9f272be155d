"""What is wrong with settings, and where each value came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safelight.errors import SafelightError


@dataclass(frozen=True)
class Origin:
    """Where a value was given. `where`: the file, the variable, the environment or the option; `line`: in a file."""

    kind: Literal["default", "environment", "file", "variable", "option"] = "default"
    where: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        if self.kind == "environment":
            return f"environment {self.where}"
        return f"{self.where}:{self.line}" if self.line else self.where


@dataclass(frozen=True)
class SettingFault:
    """One setting that cannot be. `value`: as it was given, for people; `allowed`: what may be, and the way out."""

    setting: str
    value: str
    allowed: str
    origin: Origin

    def __str__(self) -> str:
        given = f"{self.value} is refused" if self.value else "is refused"
        return f"{self.setting}: {given} ({self.origin}). {self.allowed}"


class InvalidSettings(SafelightError):
    """The settings cannot be used. `faults` lists everything that is wrong with them, not the first only."""

    kind = "invalid_settings"

    def __init__(self, *faults: SettingFault) -> None:
        if not faults:
            raise ValueError("InvalidSettings needs at least one SettingFault")
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))
