"""`safelight models` and `loras`: which weights there are, and how more get there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from safelight.cli import connection, following, listing
from safelight.cli.options import Argument, json_option
from safelight.errors import Conflict, NotFound
from safelight.settings import load_settings

_CHUNK = 8 << 20


@click.group()
def models() -> None:
    """List models, add folders and files, and say which stay in memory."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models that can be asked for; `safelight doctor` names the files that cannot be used."""
    with connection.server() as client:
        found = client.models()
    if as_json:
        listing.document({"models": found})
        return
    rows = ((each["id"], each["family"], listing.size(each["bytes"]), "default" if each["is_default"] else "",
             each["title"]) for each in found)  # fmt: skip
    listing.columns(("NAME", "FAMILY", "SIZE", "", "TITLE"), rows)


@models.command("show")
@click.argument("name", cls=Argument, help="As `models list` shows it.")
@json_option
def show_model(name: str, as_json: bool) -> None:
    """Show what is known of a model."""
    from safelight.core.names import nearest, one_of

    with connection.server() as client:
        found = {each["id"]: each for each in client.models()}
    model = found.get(name) or next((each for key, each in found.items() if key.casefold() == name.casefold()), None)
    if model is None:
        near = nearest(name, found)
        hint = f"Did you mean {one_of(near)}?" if near else f"There are: {one_of(found)}."
        raise NotFound(f"There is no model {name!r}.", hint)
    if as_json:
        listing.document(model)
        return
    stored = ", ".join(f"{kind} {listing.size(count)}" for kind, count in model["stored"].items())
    shown = {**model, "bytes": listing.size(model["bytes"]), "stored": stored}
    listing.facts({("name" if key == "id" else key): value for key, value in shown.items()
                   if key not in ("object", "owned_by")})  # fmt: skip


@models.command("add-folder")
@click.argument("path", cls=Argument, type=click.Path(path_type=Path, exists=True, file_okay=False), help="The folder.")
@json_option
def add_folder(path: Path, as_json: bool) -> None:
    """Use the models of a folder where they lie: one of your own, or the tree of ComfyUI, A1111, Forge or InvokeAI.

    It is written into safelight.toml in the data folder; a running server sees it at once.
    """
    from safelight.catalog.index import FolderCatalog
    from safelight.cli import settings_file, trees
    from safelight.settings.load import FILE_NAME

    home = load_settings().storage.home
    file = home / FILE_NAME
    tree = trees.recognise(path.expanduser().absolute())
    values = {}
    for name, folders in (("folders", tree.models), ("lora_folders", tree.loras)):
        known = tuple(settings_file.in_file(file, "models", name) or ())
        new = tuple(str(each) for each in folders if str(each) not in known)
        if new:
            values[name] = (*known, *new)
    settings_file.write(file, "models", values)
    entries = FolderCatalog([*tree.models, *tree.loras], bundled=False).entries()
    counts = {kind: sum(each.kind == kind for each in entries) for kind in ("checkpoint", "lora", "unreadable")}
    if as_json:
        used = [str(each) for each in (*tree.models, *tree.loras)]
        listing.document({"kind": tree.kind, "folders": used, "found": counts, "added": bool(values),
                          "file": str(file)})  # fmt: skip
        return
    click.echo(f"{path} is {tree.kind}: {counts['checkpoint']} models, {counts['lora']} LoRAs, "
               f"{counts['unreadable']} files that cannot be used.")  # fmt: skip
    click.echo(f"Written into {file}." if values else f"{file} has it already.")


@models.command("import")
@click.argument("file", cls=Argument, type=click.Path(path_type=Path, exists=True),
                help="A .safetensors file, or a diffusers folder.")  # fmt: skip
@click.option("--name", help="What it will be called; its own name if not given.")
@json_option
def import_file(file: Path, name: str | None, as_json: bool) -> None:
    """Copy a checkpoint or a LoRA into the data folder; a running server sees it at once."""
    from safelight.catalog.declarations import sidecars
    from safelight.catalog.fingerprint import examine, is_adapter
    from safelight.catalog.headers import read_header

    file = file.expanduser().absolute()
    lora = file.is_file() and is_adapter(read_header(file))
    family = None if lora else examine(file).family
    kept = f"{_plain(name)}{file.suffix}" if name and file.is_file() else _plain(name or file.name)
    target = load_settings().storage.home / ("loras" if lora else "models") / kept
    if target.exists():
        raise Conflict(f"{target} is there already.", "Give another name with --name, or remove that file first.")
    target.parent.mkdir(parents=True, exist_ok=True)
    for source, beside in zip(sidecars(file), sidecars(target), strict=True):
        if source.is_file() and not file.is_dir():
            shutil.copyfile(source, beside)
    size = _copy_folder(file, target) if file.is_dir() else _copy(file, target)
    called = target.name if file.is_dir() else target.stem
    facts: dict[str, Any] = {"name": called, "kind": "lora" if lora else "checkpoint", "family": family, "bytes": size}
    if as_json:
        listing.document({**facts, "path": str(target)})
    else:
        said = "LoRA" if lora else f"model of the family {family}"
        click.echo(f"Imported {called}, a {said}, {listing.size(size)}: {target}")


@models.command("load")
@click.argument("model", cls=Argument, metavar="NAME", help="As `models list` shows it, or a path in a model folder.")
@click.option("--role", type=click.Choice(["denoise", "text", "vae"]), help="This part of it alone.")
@click.option("--device", metavar="WORKER|DEVICE", help="Who is to hold it; `safelight status` names them.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "fp16", "bf16"]),
              help="Refused where the worker computes in another.")  # fmt: skip
@click.option("--pinned", is_flag=True, help="Keep it in memory until it is unloaded or its worker ends.")
@json_option
def load_model(as_json: bool, **fields: Any) -> None:
    """Bring a model into memory, so that the next job need not wait for it."""
    result = _by_hand("model.load", fields, as_json)
    if result is not None:
        pinned = " and stays there" if fields["pinned"] else ""
        click.echo(f"{result['model']} is in memory{pinned}: {listing.size(result['bytes'])}, {result['dtype']}, "
                   f"{result['device']}.")  # fmt: skip


@models.command("unload")
@click.argument("model", cls=Argument, metavar="NAME", required=False,
                help="As `models list` shows it; without one, all that is idle and not pinned.")  # fmt: skip
@click.option("--device", metavar="WORKER|DEVICE", help="Who is to let go of it; `safelight status` names them.")
@json_option
def unload_model(as_json: bool, **fields: Any) -> None:
    """Let go of a model that is in memory, or of all that are idle. What jobs are using stays."""
    result = _by_hand("model.unload", fields, as_json)
    if result is None:
        return
    for each in result["unloaded"]:
        click.echo(f"Unloaded {each}.")
    for each in result["kept"]:
        click.echo(f"{each['name']} stays: {each['reason']}.")
    click.echo(f"{listing.size(result['bytes_freed'])} are free again.")


def _by_hand(operation: str, fields: dict[str, Any], as_json: bool) -> dict[str, Any] | None:
    """Hand in the operation with the fields that were given, and follow it; its result, or None where JSON was said.

    ServerNotRunning where there is none: what one of the command's own had in memory would be gone with it.
    """
    from safelight.client import Client
    from safelight.client.calls import body

    given = {name: value for name, value in fields.items() if value not in (None, False)}
    with Client() as client:
        job = following.follow(client, client.submit(body(operation, given)))
    if as_json:
        listing.document(job.fields)
    following.end(job)
    return None if as_json else job.fields["result"]


@click.group()
def loras() -> None:
    """List LoRAs."""


@loras.command("list")
@json_option
def list_loras(as_json: bool) -> None:
    """List the LoRAs that can be asked for."""
    with connection.server() as client:
        found = client.loras()
    if as_json:
        listing.document({"loras": found})
    else:
        listing.columns(("NAME", "SIZE"), ((each["id"], listing.size(each["bytes"])) for each in found))


def _plain(name: str) -> str:
    if not name or name.startswith(".") or any(each in name for each in '/\\:*?"<>|'):
        raise click.BadParameter(f"{name!r} cannot name a file; use letters, digits, spaces, - and _.",
                                 param_hint="'--name'")  # fmt: skip
    return name


def _copy(file: Path, target: Path) -> int:
    """Copy, synced, under a hidden name that no look at the folder sees; then rename. The bytes."""
    partial = target.with_name(f".{target.name}.partial")
    size = file.stat().st_size
    try:
        with file.open("rb") as source, partial.open("wb") as out:
            with click.progressbar(length=size, label=file.name, file=sys.stderr,
                                   hidden=not sys.stderr.isatty()) as bar:  # fmt: skip
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
            out.flush()
            os.fsync(out.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _copy_folder(folder: Path, target: Path) -> int:
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copytree(folder, partial)
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sum(each.stat().st_size for each in target.rglob("*") if each.is_file())
