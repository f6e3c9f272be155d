"""`safelight doctor`: what is here, what is wrong with it, and how to mend it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

import safelight
from safelight.cli import listing
from safelight.cli.options import json_option
from safelight.settings import InvalidSettings, Settings, load_settings, settings_of

LITTLE_DISK = 2 << 30
LITTLE_MEMORY = 2 << 30
PROBE_S = 120.0


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. `error`: pictures cannot be made; `warning`: they can, but."""

    level: Literal["error", "warning"]
    message: str
    mend: str


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what is here (versions, devices, folders, memory), what is wrong, and how to mend it; exits 1 on errors."""
    findings: list[Finding] = []
    try:
        settings = load_settings()
    except InvalidSettings as error:
        findings += [Finding("error", str(fault), "Correct it; `safelight config docs` lists all.")
                     for fault in error.faults]  # fmt: skip
        settings = settings_of({})
    machine = _probe(settings)
    server = _server(settings.storage.home)
    models = _models(settings)
    findings += [*_of_machine(machine, settings), *_of_folders(settings), *_of_models(models, settings),
                 *_of_server(server)]  # fmt: skip
    said = {
        "versions": {"safelight": safelight.__version__, "python": platform.python_version(), **machine["versions"]},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": machine.get("device"),
        "devices": machine["devices"],
        "folders": _folders(settings),
        "models": models,
        "server": server,
        "findings": [asdict(each) for each in findings],
        "healthy": not any(each.level == "error" for each in findings),
    }
    if as_json:
        listing.document(said)
    else:
        _show(said, findings)
    raise click.exceptions.Exit(0 if said["healthy"] else 1)


def _probe(settings: Settings) -> dict[str, Any]:
    """What `cli.probe` says; {error} where it ended badly."""
    command = [sys.executable, "-m", "safelight.cli.probe", settings.devices.device, settings.devices.dtype]
    nothing: dict[str, Any] = {"versions": {}, "missing": [], "devices": []}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
    except subprocess.TimeoutExpired:
        return {**nothing, "error": f"looking at the devices took more than {PROBE_S:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return {**nothing, "error": f"torch cannot be used (exit code {done.returncode}): {last}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _of_machine(machine: dict[str, Any], settings: Settings) -> Iterator[Finding]:
    if machine["missing"]:
        yield Finding("error", f"Not installed: {', '.join(machine['missing'])}.",
                      "pip install 'safelight[engine]'; README.md, \"Installing for your device\".")  # fmt: skip
    if "error" in machine:
        yield Finding("error", f"{machine['error'][0].upper()}{machine['error'][1:]}.", "Install torch again.")
    chosen = machine.get("device") or {}
    if "error" in chosen:
        yield Finding("error", f"The device {settings.devices.device!r} cannot be used: {chosen['error']}",
                      "Set devices.device to auto or cpu, or install the build of torch for it.")  # fmt: skip
    for each in machine["devices"]:
        if each["device"] == chosen.get("device") and each["bytes_free"] < LITTLE_MEMORY:
            yield Finding("warning", f"{each['name']} has only {listing.size(each['bytes_free'])} of memory free.",
                          "Close other programs; large models will not fit.")  # fmt: skip


def _folders(settings: Settings) -> list[dict[str, Any]]:
    """The data folder and every folder of models, with what is known of each."""
    home = settings.storage.home
    more = (*settings.models.folders, *settings.models.lora_folders)
    found = [{"folder": str(home), "for": "data", "exists": home.is_dir(), "bytes_free": _disk(home)}]
    return [*found, *({"folder": str(each), "for": "models", "exists": each.is_dir()} for each in more)]


def _of_folders(settings: Settings) -> Iterator[Finding]:
    home = settings.storage.home
    nearest = next(each for each in (home, *home.parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield Finding("error", f"Nothing can be written to the data folder {home}.",
                      "Correct its rights, or set SAFELIGHT_HOME to another folder.")  # fmt: skip
    elif _disk(home) < LITTLE_DISK:
        yield Finding("warning", f"{home} has only {listing.size(_disk(home))} of disk free.",
                      "Make room, or set storage.retention_gib.")  # fmt: skip
    for each in (*settings.models.folders, *settings.models.lora_folders):
        if not each.is_dir():
            yield Finding("warning", f"The folder of models {each} is not there.",
                          "Mount it, or take it out of models.folders.")  # fmt: skip


def _disk(folder: Path) -> int:
    """Bytes free where a folder lies, or would."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free


def _models(settings: Settings) -> list[dict[str, Any]]:
    """Every weights file that a server would see."""
    from safelight.catalog.index import FolderCatalog

    home = settings.storage.home
    folders = [home / "models", home / "loras", *settings.models.folders, *settings.models.lora_folders]
    return [
        {"name": each.name, "kind": each.kind, "family": each.identity.family if each.identity else None,
         "path": str(each.path), "bytes": each.bytes, "problem": each.problem, "mend": each.hint}
        for each in FolderCatalog(folders).entries()
    ]  # fmt: skip


def _of_models(models: list[dict[str, Any]], settings: Settings) -> Iterator[Finding]:
    names = [each["name"] for each in models if each["kind"] == "checkpoint"]
    if settings.models.default.casefold() not in (name.casefold() for name in names):
        there = ", ".join(names) or "none"
        yield Finding("warning", f"The default model {settings.models.default!r} is not there; there are: {there}.",
                      "Import it with `safelight models import`, or set models.default.")  # fmt: skip
    for each in models:
        if each["problem"]:
            yield Finding("warning", each["problem"], each["mend"])


def _server(home: Path) -> dict[str, Any] | None:
    """The local server with its system page or why it does not answer; None where none runs."""
    from safelight.client import Client, address
    from safelight.errors import SafelightError

    there = address.read(home)
    if there is None:
        return None
    facts: dict[str, Any] = {"url": there.url, "pid": there.pid}
    try:
        with Client(home=home) as client:
            return {**facts, "workers": client.system()["workers"]}
    except SafelightError as error:
        return {**facts, "error": error.message}


def _of_server(server: dict[str, Any] | None) -> Iterator[Finding]:
    if server is not None and "error" in server:
        yield Finding("error", f"The server (pid {server['pid']}) does not answer: {server['error']}",
                      "Wait a moment; if it stays silent, end that process and start `safelight serve`.")  # fmt: skip


def _show(said: dict[str, Any], findings: list[Finding]) -> None:
    for name, version in said["versions"].items():
        click.echo(f"{name:<14}{version}")
    click.echo(f"{'platform':<14}{said['platform']}, {said['cores']} cores")
    for each in said["devices"]:
        mark = ", used" if each["device"] == (said["device"] or {}).get("device") else ""
        click.echo(f"{'device':<14}{each['device']}: {each['name']}, {listing.size(each['bytes_free'])} free{mark}")
    for each in said["folders"]:
        free = f", {listing.size(each['bytes_free'])} free" if "bytes_free" in each else ""
        click.echo(f"{'folder':<14}{each['folder']} ({each['for']}{free})")
    usable = [each["name"] for each in said["models"] if not each["problem"]]
    click.echo(f"{'models':<14}{', '.join(usable) or 'none'}")
    click.echo(f"{'server':<14}{said['server']['url'] if said['server'] else 'none runs'}")
    for finding in findings:
        click.echo(f"\n{finding.level}: {finding.message}\n  {finding.mend}")
    if not findings:
        click.echo("\nNothing is wrong.")
