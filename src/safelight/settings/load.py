"""Reading the settings: defaults, environment, file, variables, options; each goes over the one before."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safelight.settings.faults import InvalidSettings, Origin, SettingFault
from safelight.settings.fields import Setting, toml_value
from safelight.settings.lines import line_of, lines_of
from safelight.settings.profiles import ENVIRONMENTS, environment_of, overlay
from safelight.settings.table import Settings, sections, setting_table

FILE_NAME = "safelight.toml"
"""The settings file of a data folder."""

RESERVED = ("SAFELIGHT_ENV", "SAFELIGHT_HOME", "SAFELIGHT_URL")
"""Variables with a meaning of their own: the environment, the data folder, the server that commands talk to."""


@dataclass(frozen=True)
class _Given:
    """A value as it was given. `text`: it came as text and is read as such; `beside`: where its folders start."""

    key: str
    value: Any
    origin: Origin
    text: bool
    beside: Path


def load_settings(
    *, file: Path | None = None, overrides: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings of this machine, checked; InvalidSettings with everything that is wrong.

    `file`: read in place of the data folder's safelight.toml. `overrides`: "section.name=value", as `--set` has them.
    `environ`: the variables, os.environ if None.
    """
    environ = os.environ if environ is None else environ
    faults: list[SettingFault] = []
    options = _options(overrides, faults)
    variables = _variables(environ, faults)
    environment = environment_of(environ)
    if environment not in ENVIRONMENTS:
        allowed = _near(environment, ENVIRONMENTS) + f"Allowed: {', '.join(ENVIRONMENTS)}."
        faults.append(SettingFault("environment", repr(environment), allowed, Origin("variable", "SAFELIGHT_ENV")))
        environment = "development"
    base = Origin("environment", environment)
    profile = [_Given(key, value, base, False, Path.cwd()) for key, value in overlay(environment).items()]
    if file is None:
        merged = _Merge([])
        for layer in (profile, variables, options):
            merged.add(layer)
        found = merged.settings(environment, None).storage.home / FILE_NAME
        file = found if found.is_file() else None
        moves_home = False
    else:
        moves_home = True
    merged = _Merge(faults)
    for layer in (profile, _file(file, faults, moves_home) if file else [], variables, options):
        merged.add(layer)
    return merged.checked(environment, file)


def settings_of(values: Mapping[str, Mapping[str, Any]], environment: str = "development") -> Settings:
    """Defaults, with `values` {section: {name: value}} as a file would give them; InvalidSettings.

    Reads no file and no variable. Takes what `Settings.values` gave, so that settings travel between processes as JSON.
    """
    merged = _Merge([])
    merged.add(
        [
            _Given(f"{section}.{name}", value, Origin("option", "given values"), False, Path.cwd())
            for section, named in values.items()
            for name, value in named.items()
        ]
    )
    return merged.checked(environment, None)


class _Merge:
    """Values by key, layer over layer, with where each came from; faults are gathered."""

    def __init__(self, faults: list[SettingFault]) -> None:
        self.faults = faults
        self.values = {key: each.default_here() for key, each in setting_table().items()}
        self.origins: dict[str, Origin] = {}

    def add(self, layer: Iterable[_Given]) -> None:
        """Lay values over those that are there."""
        for given in layer:
            known = setting_table().get(given.key)
            if known is None:
                self.faults.append(_unknown(given.key, given.origin))
                continue
            try:
                read = known.read_text if given.text else known.read
                self.values[given.key] = read(given.value, given.beside)
                self.origins[given.key] = given.origin
            except (ValueError, TypeError):
                allowed = f"Allowed: {known.allowed}."
                shown = repr(given.value) if given.text else _shown(given.value)
                self.faults.append(SettingFault(given.key, shown, allowed, given.origin))

    def settings(self, environment: str, file: Path | None) -> Settings:
        """What has been merged, unchecked across settings."""
        made: dict[str, Any] = {}
        for name, section in sections().items():
            own = {key.partition(".")[2]: value for key, value in self.values.items() if key.startswith(f"{name}.")}
            made[name] = section(**own)
        return Settings(**made, environment=environment, origins=MappingProxyType(dict(self.origins)), file=file)

    def checked(self, environment: str, file: Path | None) -> Settings:
        """What has been merged, or InvalidSettings with every fault."""
        settings = self.settings(environment, file)
        wrong = {fault.setting for fault in self.faults}
        for rule in RULES:
            for key, allowed in rule(settings):
                if key not in wrong:
                    origin = self.origins.get(key, Origin())
                    self.faults.append(SettingFault(key, _shown(self.values[key]), allowed, origin))
        if self.faults:
            raise InvalidSettings(*self.faults)
        return settings


def _heartbeats(settings: Settings) -> list[tuple[str, str]]:
    """A lease must outlive a lost heartbeat."""
    lease_s = settings.jobs.lease_s
    if settings.jobs.heartbeat_s <= lease_s / 2:
        return []
    return [("jobs.heartbeat_s", f"Allowed: at most half of jobs.lease_s, {lease_s / 2:g}; or lengthen the lease.")]


def _only_here(settings: Settings) -> list[tuple[str, str]]:
    """Whoever reaches the server may use it, so nobody but this machine may reach it."""
    host = settings.server.host
    try:
        here = host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        here = False
    if here:
        return []
    why = "Others could use the server: this version has no API keys yet."
    return [("server.host", f"{why} Allowed: 127.0.0.1, ::1, localhost. Put a proxy that asks who is there before it.")]


RULES: tuple[Callable[[Settings], list[tuple[str, str]]], ...] = (_heartbeats, _only_here)
"""What must hold between settings, or is more than a range: each gives (setting, what is allowed) where it does not."""


def _options(overrides: Iterable[str], faults: list[SettingFault]) -> list[_Given]:
    given = []
    for text in overrides:
        key, equals, value = text.partition("=")
        origin = Origin("option", f"--set {key.strip()}")
        if equals:
            given.append(_Given(key.strip(), value.strip(), origin, True, Path.cwd()))
        else:
            faults.append(SettingFault(key.strip(), "", "Write --set section.name=value.", origin))
    return given


def _variables(environ: Mapping[str, str], faults: list[SettingFault]) -> list[_Given]:
    known = {each.variable: each.key for each in setting_table().values()}
    prefixes = tuple(f"SAFELIGHT_{section}_".upper() for section in sections())
    given = []
    if environ.get("SAFELIGHT_HOME"):
        home = Origin("variable", "SAFELIGHT_HOME")
        given.append(_Given("storage.home", environ["SAFELIGHT_HOME"], home, True, Path.cwd()))
    for name in sorted(each for each in environ if each.startswith("SAFELIGHT_") and each not in RESERVED):
        origin = Origin("variable", name)
        if name in known:
            given.append(_Given(known[name], environ[name], origin, True, Path.cwd()))
        elif name.startswith(prefixes) or difflib.get_close_matches(name, known, 1, 0.85):
            allowed = _near(name, known) + "It sets nothing; `safelight config docs` lists what there is."
            faults.append(SettingFault(name, "", allowed, origin))
    return given


def _file(file: Path, faults: list[SettingFault], moves_home: bool) -> list[_Given]:
    """The values of a settings file. `moves_home`: whether it may name the data folder (its own cannot)."""
    try:
        text = file.read_text("utf-8")
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        origin = Origin("file", str(file), int(line[1]) if line else 0)
        faults.append(SettingFault("the file", "", f"It is not TOML: {error}.", origin))
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        faults.append(SettingFault("the file", "", f"It cannot be read: {reason}.", Origin("file", str(file))))
        return []
    lines = lines_of(text)
    given = []
    for section, named in content.items():
        for key, value in _keys(section, named):
            origin = Origin("file", str(file), line_of(key, lines))
            if key == "storage.home" and not moves_home:
                allowed = "The file in the data folder cannot move it. Set SAFELIGHT_HOME, or use --config FILE."
                faults.append(SettingFault(key, _shown(value), allowed, origin))
            else:
                given.append(_Given(key, value, origin, False, file.parent.absolute()))
    return given


def _keys(section: str, named: Any) -> list[tuple[str, Any]]:
    if not isinstance(named, dict):
        return [(section, named)]
    if named and section not in sections():
        return [(section, named)]
    return [(f"{section}.{name}", value) for name, value in named.items()]


def _unknown(key: str, origin: Origin) -> SettingFault:
    section, _, name = key.partition(".")
    if section in sections() and name:
        own = {each.name: each.key for each in setting_table().values() if each.section == section}
        near = difflib.get_close_matches(name, own, 1, 0.5)
        hint = f"Did you mean {own[near[0]]}? " if near else _near(key, setting_table())
        allowed = f"{hint}There is no such setting. [{section}] has {', '.join(own)}."
    elif section in sections():
        allowed = f"It is a section: write [{section}] with settings under it."
    else:
        hint = (_near(key, setting_table()) if name else "") or _near(section, sections())
        elsewhere: list[Setting] = [each for each in setting_table().values() if each.name == (name or section)]
        hint = f"Did you mean {elsewhere[0].key}? " if elsewhere else hint
        allowed = f"{hint}There is no such setting. Sections: {', '.join(sections())}."
    return SettingFault(key, "", allowed, origin)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"Did you mean {near[0]}? " if near else ""


def _shown(value: Any) -> str:
    try:
        text = toml_value(value)
    except TypeError:
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
