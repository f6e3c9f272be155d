"""The table of settings: a frozen dataclass a section, a field a setting.

To add one, write its field here, read it where it has its effect (a test demands both), and run `make docs`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from safelight.settings.faults import Origin
from safelight.settings.fields import Kind, Setting, setting

Network = IPv4Network | IPv6Network

_GIB = 1 << 20
"""More GiB than any machine has."""


def default_home() -> Path:
    """The data folder where nothing else was said."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "safelight"
    return Path.home() / ".local" / "share" / "safelight"


@dataclass(frozen=True)
class ServerSettings:
    """The HTTP server."""

    host: str = setting("127.0.0.1", "address to listen on", text=(r"[^\s/]+", "an address or a host's name"))
    port: int = setting(8484, "port to listen on", limits=(1, 65535), zero="any free port")
    max_body_mib: int = setting(96, "largest request body, in MiB", limits=(1, 4096))
    stream_heartbeat_s: float = setting(15.0, "a silent event stream says something this often", limits=(0.05, 300))
    max_streams: int = setting(1000, "event streams open at once; one more is refused", limits=(1, 100_000))


@dataclass(frozen=True)
class StorageSettings:
    """The data folder: database, artifacts, uploads, checkpoints, logs."""

    home: Path = setting(  # noqa: RUF009 (a field with a default factory)
        default_home,
        "the data folder; SAFELIGHT_HOME says the same",
        shown="~/.local/share/safelight (Windows: %LOCALAPPDATA%\\safelight)",
    )
    retention_days: float = setting(
        30.0, "finished jobs and their artifacts are kept this long", limits=(0.001, 36_500), zero="for ever"
    )
    retention_gib: float = setting(
        0.0, "artifacts may take this much; the oldest go first", limits=(0.001, _GIB), zero="no limit"
    )
    converted_gib: float = setting(
        20.0,
        "weights that are computed with in another precision than they are stored in are kept converted in "
        "cache/weights, of this much together; those used longest ago go first",
        limits=(0.001, _GIB),
        zero="none are kept",
    )
    bin_days: float = setting(
        7.0, "what lies in the bin this long is removed for good", limits=(0.001, 36_500), zero="only with its job"
    )


@dataclass(frozen=True)
class ModelSettings:
    """Where weights lie. The data folder's own `models` and `loras` are always looked at."""

    folders: tuple[Path, ...] = setting((), "more folders with checkpoints")
    lora_folders: tuple[Path, ...] = setting((), "more folders with LoRAs")
    default: str = setting("postcards", "the model of a request that names none", text=(r".*\S.*", "a model's name"))


@dataclass(frozen=True)
class JobSettings:
    """The queue, leases and checkpoints."""

    max_queued: int = setting(10_000, "queued jobs; one more is refused as a full queue", limits=(1, 10_000_000))
    lease_s: float = setting(15.0, "a worker that is silent for this long loses its jobs", limits=(0.2, 3600))
    heartbeat_s: float = setting(2.0, "a worker says this often that it is alive", limits=(0.02, 600))
    hang_s: float = setting(
        300.0,
        "a worker that ends no piece of work for this long, and for ten times what the work is known to take, has hung",
        limits=(1, 86_400),
    )
    checkpoint_interval_s: float = setting(
        2.0,
        "at most so much work of a running job is lost: its state is written that often, or a little more",
        limits=(0.01, 3600),
        zero="after every step",
    )
    preview_steps: int = setting(3, "a watched job shows a preview every so many steps", limits=(1, 150), zero="none")
    take_up: bool = setting(True, "run jobs that an earlier server accepted; if not, they wait for one that does")
    max_open: int = setting(8, "jobs that a worker has open side by side", limits=(1, 256))


@dataclass(frozen=True)
class DeviceSettings:
    """What the arithmetic runs on."""

    device: str = setting(
        "auto",
        "auto takes CUDA, then MPS, then the CPU",
        text=(r"auto|cpu|mps|cuda(:\d{1,3})?", "one of auto, cpu, cuda, cuda:N, mps"),
    )
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = setting("auto", "precision; auto takes what the device is best at")
    threads: int = setting(0, "arithmetic threads of a worker", limits=(1, 1024), zero="the machine's cores")
    memory_gib: float = setting(
        0.0,
        "bytes a worker plans with, for weights and work",
        limits=(0.03, _GIB),
        zero="a measured share of what is free",
    )
    memory_hard_gib: float = setting(
        0.0,
        "bytes a worker is given at most, whatever it planned: its hard cap (on a CPU kept by Linux alone)",
        limits=(0.03, _GIB),
        zero="a quarter more than memory_gib, or most of what is free where that is 0 too",
    )


@dataclass(frozen=True)
class PerformanceSettings:
    """How passes are shared and laid out."""

    max_batch_size: int = setting(16, "rows in one pass over a network", limits=(1, 64))
    channels_last: Literal["auto", "on", "off"] = setting("auto", "memory layout of convolutions; auto: where faster")


@dataclass(frozen=True)
class ExtensionSettings:
    """What is added to Safelight from outside."""

    modules: tuple[str, ...] = setting(
        (), "importable modules whose register(tables) adds samplers, guidances, operations and the like"
    )


@dataclass(frozen=True)
class WebhookSettings:
    """Telling other programs of a job's events over HTTP."""

    enabled: bool = setting(False, "jobs may name an address that is told of their events")
    networks: tuple[Network, ...] = setting(
        (), "networks that webhooks may lead to although they are not public; there http is allowed too"
    )
    timeout_s: float = setting(10.0, "an address must have answered by then", limits=(0.1, 120))
    max_tries: int = setting(16, "after so many failed tries an event is given up", limits=(1, 100))
    first_retry_s: float = setting(
        5.0, "the second try comes after this long; each later pause is twice as long, up to an hour",
        limits=(0.05, 3600),
    )  # fmt: skip


@dataclass(frozen=True)
class LogSettings:
    """The log, written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "the least important line that is written")
    format: Literal["text", "json"] = setting("text", "lines for people, or an object a line")


@dataclass(frozen=True)
class Settings:
    """Every setting, frozen. Made by `load_settings`, or by `settings_of` from some values.

    `environment`: development, testing, staging or production. `origins`: where each value that is no default was
    given. `file`: the file that was read, if any.
    """

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = field(default_factory=StorageSettings)
    models: ModelSettings = ModelSettings()
    jobs: JobSettings = JobSettings()
    devices: DeviceSettings = DeviceSettings()
    performance: PerformanceSettings = PerformanceSettings()
    extensions: ExtensionSettings = ExtensionSettings()
    webhooks: WebhookSettings = WebhookSettings()
    log: LogSettings = LogSettings()
    environment: str = "development"
    origins: Mapping[str, Origin] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    file: Path | None = field(default=None, compare=False)

    def values(self) -> dict[str, dict[str, Any]]:
        """{section: {name: value}} as JSON has it: folders are texts, tuples lists."""
        shown: dict[str, dict[str, Any]] = {}
        for each in setting_table().values():
            shown.setdefault(each.section, {})[each.name] = plain(self.value(each.key))
        return shown

    def value(self, key: str) -> Any:
        """The value of `section.name`; AttributeError where there is no such setting."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)


def sections() -> dict[str, type[Any]]:
    """The sections by name, in the order of the file."""
    hints = get_type_hints(Settings)
    return {each.name: hints[each.name] for each in dataclasses.fields(Settings) if _is_section(hints[each.name])}


@cache
def setting_table() -> Mapping[str, Setting]:
    """The table by `section.name`, in the order of the file."""
    return MappingProxyType(
        {
            f"{section}.{each.name}": _setting(section, each, hint)
            for section, owner in sections().items()
            for each, hint in _fields(owner)
        }
    )


def plain(value: Any) -> Any:
    """A setting's value as JSON has it."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path | Network) else value


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _fields(owner: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(owner)
    return [(each, hints[each.name]) for each in dataclasses.fields(owner)]


def _setting(section: str, each: dataclasses.Field[Any], hint: Any) -> Setting:
    kinds: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text", Path: "folder"}
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    lists: dict[Any, Kind] = {tuple[Path, ...]: "folders", tuple[str, ...]: "modules", tuple[Network, ...]: "networks"}
    kind: Kind = "choice" if choices else (kinds | lists)[hint]
    missing = each.default is dataclasses.MISSING
    default = each.default_factory if missing else each.default
    return Setting(section, each.name, kind, default, choices=choices, **each.metadata)
