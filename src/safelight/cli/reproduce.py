"""`safelight reproduce`: make a picture again from its file alone, and say whether it is the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from safelight.cli import connection, following, listing, saving
from safelight.cli.options import Argument, json_option
from safelight.errors import InvalidRequest, InvalidValue, UnreadableFile

if TYPE_CHECKING:
    from safelight.cli.baselines.measures import Likeness
    from safelight.client import Client, Job
    from safelight.workflows.remake import Origin

LEAST_PSNR = 40.0
"""What is promised, in dB, where the same bytes are not."""

SETTINGS = {"device": "devices.device", "dtype": "devices.dtype", "threads": "devices.threads"}
"""Parts of a plan that a server takes from a setting."""


@dataclass(frozen=True)
class Verdict:
    """How the picture came out. `plan`: what was computed otherwise, by name. `exact`: the same bytes are promised.

    `settings`: of a server that would compute more alike.
    """

    likeness: Likeness
    plan: tuple[str, ...]
    exact: bool
    settings: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether what is promised was kept."""
        return self.likeness.identical or (not self.exact and self.likeness.psnr >= LEAST_PSNR)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), cls=Argument,
                help="A picture that Safelight made: PNG, WebP, JPEG or AVIF.")  # fmt: skip
@click.option("-o", "--output", "destination", metavar="FILE", help="Write the new picture there.")
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The picture it was made from, where the server has not kept it.")  # fmt: skip
@click.option("--mask", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="The mask it was made with, where the server has not kept it.")  # fmt: skip
@json_option
def reproduce(file: Path, destination: str | None, as_json: bool, image: Path | None, mask: Path | None) -> None:
    """Make a picture again from FILE alone, and compare.

    A picture that was asked for as deterministic must come out the same, byte for byte, where it is computed by the
    same plan (device, precision, threads, versions); any other at least 40 dB alike. What the plan has otherwise is
    told by name. Lossy formats are compared after encoding again the same way. Exit codes: 0 it is the same as
    promised; 1 it is not; 2 FILE does not tell enough, or the model, a LoRA or a picture it needs is not here.

    \b
    safelight reproduce house.png
    safelight reproduce winter.png --image house.png -o again.png
    """
    saving.check(destination)
    found = _origin(file)
    given = {name: path for name, path in (("image", image), ("mask", mask)) if path is not None}
    with connection.server(draws=True) as client:
        job = following.follow(client, _hand_in(client, found, given))
        following.end(job)
        data = client.artifact(job.artifacts[found.picture]["id"])
    if destination is not None:
        Path(destination).expanduser().write_bytes(data)
    verdict = _judge(file, found, data)
    if as_json:
        listing.document(_facts(file, job, verdict, destination))
    else:
        _tell(verdict, destination)
    if not verdict.reproduced:
        raise click.exceptions.Exit(1)


def _origin(file: Path) -> Origin:
    from safelight.artifacts import read_metadata
    from safelight.workflows.remake import origin

    try:
        return origin(read_metadata(file), file.name)
    except UnreadableFile as error:
        raise InvalidRequest(InvalidValue("", error.message, error.hint)) from None


def _hand_in(client: Client, found: Origin, given: dict[str, Path]) -> str:
    """The new job's id. InvalidRequest where something it needs is missing, or resolves to something else here."""
    from safelight.core.operations.contract import Contract
    from safelight.core.tables import build_tables
    from safelight.settings import load_settings
    from safelight.workflows import remake

    settings = load_settings()
    spec = Contract(build_tables(settings.extensions.modules).operations).spec(found.operation)
    pictures = {name: _picture(name, sha256, given, settings.storage.home) for name, sha256 in found.pictures.items()}
    kept = {name: client.upload(path) for name, path in pictures.items() if path is not None}
    try:
        job_id = client.submit(remake.asked(found, spec, kept))
    except InvalidRequest as error:
        raise InvalidRequest(*(_hinted(each, found) for each in error.errors)) from None
    if changed := remake.differences(found, client.job(job_id).resolved):
        client.cancel(job_id)
        raise InvalidRequest(*(InvalidValue("", each, "It cannot come out the same; nothing was drawn.")
                               for each in changed))  # fmt: skip
    return job_id


def _picture(name: str, sha256: str, given: dict[str, Path], home: Path) -> Path | None:
    """The file of that content: the one that was given, or the one in the data folder; None: the server may know it."""
    if name in given:
        with given[name].open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            said = f"{given[name].name} has the SHA-256 {found[:12]}…, and the picture was made with {sha256[:12]}…"
            raise InvalidRequest(InvalidValue(name, said, "Give the very file; one that was written anew is another."))
        return given[name]
    places = (home / folder / sha256[:2] / sha256 for folder in ("uploads", "artifacts"))
    return next((place for place in places if place.is_file()), None)


def _hinted(fault: InvalidValue, found: Origin) -> InvalidValue:
    """The way out from here: a picture can be given, a model has to be fetched."""
    if sha256 := found.pictures.get(fault.path):
        hint = f"Give the file with --{fault.path} FILE; its SHA-256 is {sha256}."
        return InvalidValue(fault.path, "the picture it was made from is not kept here", hint)
    if fault.path == "model":
        wanted = found.resolved["model"]
        named = f"SHA-256 {wanted['sha256']}" if wanted.get("sha256") else f"{wanted['size']} bytes"
        return InvalidValue(fault.path, fault.message, f"{fault.hint} Its file: {named}.".strip())
    return fault


def _judge(file: Path, found: Origin, data: bytes) -> Verdict:
    import io

    from PIL import Image

    from safelight.artifacts import read_metadata
    from safelight.cli.baselines.measures import compare
    from safelight.core.plans import differences
    from safelight.workflows.remake import origin

    plan = origin(read_metadata(data), "the new picture").plan
    changed = (*differences(found.plan, plan), *_threads(found.plan, plan))
    with Image.open(file) as kept, Image.open(io.BytesIO(data)) as drawn:
        try:
            likeness = compare(kept, drawn)
        except ValueError as error:
            raise InvalidRequest(InvalidValue("", f"{file.name} was changed since it was made: {error}")) from None
    settings = tuple(
        f"{setting}={found.plan[name]}"
        for name, setting in SETTINGS.items()
        if name in found.plan and found.plan[name] != plan.get(name)
    )
    return Verdict(likeness, changed, found.deterministic and not changed, settings)


def _threads(was: Any, now: Any) -> tuple[str, ...]:
    same = was.get("threads") == now.get("threads")
    return () if same else (f"threads was {was.get('threads')}, here it is {now.get('threads')}",)


def _facts(file: Path, job: Job, verdict: Verdict, destination: str | None) -> dict[str, Any]:
    return {
        "file": str(file), "reproduced": verdict.reproduced, "promised": "identical" if verdict.exact else "alike",
        **verdict.likeness.facts(), "plan": list(verdict.plan), "settings": list(verdict.settings),
        "job": job.id, "output": destination,
    }  # fmt: skip


def _tell(verdict: Verdict, destination: str | None) -> None:
    seen = verdict.likeness
    if seen.identical:
        click.echo("The same, byte for byte.")
    else:
        promised = "the same bytes" if verdict.exact else f"at least {LEAST_PSNR:g} dB"
        click.echo(f"{'Alike' if verdict.reproduced else 'Not the same'}: {seen.psnr:.1f} dB, {seen.share:.2%} of the "
                   f"pixels differ, by at most {seen.largest} of 255; promised: {promised}.")  # fmt: skip
    for each in verdict.plan:
        click.echo(f"Computed otherwise: {each}.")
    if verdict.settings and not verdict.reproduced:
        click.echo(f"A server with {', '.join(f'--set {each}' for each in verdict.settings)} computes more alike.")
    if destination is not None:
        click.echo(destination)
