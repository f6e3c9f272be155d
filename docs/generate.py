"""Writes the generated pages: `python docs/generate.py` (or `make docs`). With --check it only says which are stale.

Each page is a function of the program's own tables, so it cannot say anything else than they do.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from safelight.cli.main import EXIT_CODES
from safelight.cli.main import safelight as command_line
from safelight.core.events import EVENT_HELP, LAST, UNSTORED
from safelight.core.guidances import guidance_table
from safelight.core.operations.contract import PLANNED, OperationSpec, operation_table
from safelight.core.parameters import Parametrised
from safelight.core.samplers import sampler_table
from safelight.core.schedules import schedule_table
from safelight.settings.render import default_file
from safelight.settings.render import page as settings_page

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples" / "operations"


def operations_page() -> str:
    """docs/operations.md: every operation of the contract, its fields, and an example."""
    lines = [_generated("Operations", "safelight/core/operations"), _OPERATIONS]
    for spec in operation_table():
        lines += [f"## `{spec.id}`\n", f"{spec.summary}\n"]
        if spec.aliases:
            lines.append(f"Also accepted as {', '.join(f'`{alias}`' for alias in spec.aliases)}.\n")
        lines += list(_fields(spec))
        lines += ["\n```json", json.dumps(example(spec.id), indent=2), "```\n"]
    lines.append("## Without a handler yet\n")
    lines.append(
        "These names are known and refused as unavailable: " + ", ".join(f"`{name}`" for name in PLANNED) + "."
    )
    return "\n".join(lines) + "\n"


def example(operation: str) -> dict[str, Any]:
    """The example of an operation: a body for `POST /v1/jobs`."""
    body: dict[str, Any] = json.loads((EXAMPLES / f"{operation}.json").read_text("utf-8"))
    return body


def events_page() -> str:
    """docs/events.md: every kind of event."""
    lines = [
        _generated("Events", "safelight/core/events.py"),
        _EVENTS,
        "| kind | data | stored | last |",
        "|---|---|---|---|",
    ]
    for kind, said in EVENT_HELP.items():
        stored = "no" if kind in UNSTORED else "yes"
        lines.append(f"| `{kind}` | {said} | {stored} | {'yes' if kind in LAST else ''} |")
    return "\n".join(lines) + "\n"


def samplers_page() -> str:
    """docs/samplers.md: samplers, schedules and guidances with their names and parameters."""
    lines = [_generated("Samplers, schedules, guidances", "the tables in safelight/core"), _SAMPLERS]
    lines += [
        "## Samplers\n",
        "| id | also | evaluations a step | noise | paths | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for record in sampler_table():
        noise = "draws noise" if record.stochastic else "none by default"
        cells = (_names(record.aliases), str(record.order), noise, ", ".join(record.paths), _parameters(record))
        lines.append(f"| `{record.id}` | {' | '.join(cells)} |")
    lines += ["\n## Schedules\n", "| id | also | parameters |", "|---|---|---|"]
    for schedule in schedule_table():
        lines.append(f"| `{schedule.id}` | {_names(schedule.aliases)} | {_parameters(schedule)} |")
    lines += ["\n## Guidances\n", "| kind | what it does | parameters |", "|---|---|---|"]
    for guidance in (each for each in guidance_table() if each.public):
        lines.append(f"| `{guidance.id}` | {_cell(guidance.help)} | {_parameters(guidance)} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """docs/commands.md: every command with its options, and the exit codes."""
    lines = [_generated("Commands", "the command line itself"), "## Exit codes\n", "| code | means |", "|---|---|"]
    lines += [f"| {code} | {said} |" for code, said in EXIT_CODES.items()]
    for path, command in commands(command_line, "safelight"):
        lines += [f"\n## `{path}`\n", f"{_prose(command.help or '')}\n"]
        with click.Context(command, info_name=path) as context:
            lines.append(f"`{' '.join([path, *command.collect_usage_pieces(context)])}`\n")
            rows = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
        if rows:
            lines += ["| option | what it does |", "|---|---|"]
            lines += [f"| `{_cell(names)}` | {_cell(said)} |" for names, said in rows]
    return "\n".join(lines) + "\n"


def _prose(said: str) -> str:
    """A command's help as Markdown: a paragraph that click is told not to wrap (\\b) is an example."""
    paragraphs = inspect.cleandoc(said).split("\n\n")
    return "\n\n".join(f"```sh{each[1:]}\n```" if each.startswith("\b") else each for each in paragraphs)


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below `group` with its whole name, groups before what they hold."""
    yield path, group
    if isinstance(group, click.Group):
        with click.Context(group, info_name=path) as context:
            for name in group.list_commands(context):
                inner = group.get_command(context, name)
                if inner is not None and not inner.hidden:
                    yield from commands(inner, f"{path} {name}")


PAGES: Mapping[str, Callable[[], str]] = {
    "config/default.toml": default_file,
    "docs/commands.md": commands_page,
    "docs/events.md": events_page,
    "docs/operations.md": operations_page,
    "docs/samplers.md": samplers_page,
    "docs/settings.md": settings_page,
}
"""Every generated file, from the repository's root."""


def stale() -> list[str]:
    """The generated files that are missing or do not say what the tables say."""
    return [name for name, make in PAGES.items() if not _is(ROOT / name, make())]


def main() -> None:
    """Write the pages, or with --check say which are stale and exit 1."""
    if "--check" in sys.argv[1:]:
        old = stale()
        sys.exit(f"Stale: {', '.join(old)}. Run `make docs`." if old else 0)
    for name, make in PAGES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), "utf-8", newline="\n")


_OPERATIONS = """\
An operation is the body of `POST /v1/jobs`: `operation` says which, the other fields what is wanted. JSON is in
snake_case. A field that does not exist is refused with the nearest one that does, and a value that is not allowed
with what is. What is left out is filled in when the job is submitted, and the complete request is kept with the job.
"""

_EVENTS = """\
What happens to a job, as `GET /v1/jobs/{id}/stream` sends it. Stored events are numbered within the job from 1, and
are sent again from the number that `Last-Event-ID` names; the others are seen only by who listens. A stream ends
after one of the last kinds.
"""

_SAMPLERS = """\
`sampler` and `schedule` take an id or any of its other names, in upper or lower case. Parameters are given in
`sampler_options` and `schedule_options`, a guidance's in its entry of `guidance`.
`ve` and `flow` are the noise paths a sampler is valid on.
"""


def _generated(title: str, source: str) -> str:
    return f"# {title}\n\nGenerated by `make docs` from {source}.\n"


def _fields(spec: OperationSpec) -> Iterator[str]:
    schema = spec.request.model_json_schema()
    required = set(schema.get("required", ()))
    parent = next((each for each in operation_table() if each.request is spec.request.__base__), None)
    if parent is not None:
        yield f"The fields of [`{parent.id}`](#{parent.id.replace('.', '')}), and:\n"
    yield "| field | type | default | what it is |"
    yield "|---|---|---|---|"
    for name, field in spec.request.model_fields.items():
        if name == "operation" or (parent is not None and name in parent.request.model_fields):
            continue
        key = _alias(spec.request, name)
        shape = _resolved(schema["properties"][key], schema)
        default = "required" if key in required else f"`{_default(field.get_default(call_default_factory=True))}`"
        yield f"| `{name}` | {_type(shape, schema)} | {default} | {_cell(field.description or '')} |"
        for inner, part in _part(shape, schema).items():
            inner_default = f"`{json.dumps(part['default'])}`" if "default" in part else "required"
            said = _cell(part.get("description", ""))
            yield f"| `{name}.{inner}` | {_type(part, schema)} | {inner_default} | {said} |"


def _alias(model: type[BaseModel], name: str) -> str:
    """The name that the schema gives a field (the first of its aliases)."""
    alias = model.model_fields[name].validation_alias
    first = getattr(alias, "choices", [alias])[0]
    return first if isinstance(first, str) else name


def _resolved(shape: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = shape.get("$ref")
    return shape if reference is None else {**schema["$defs"][reference.rpartition("/")[2]], **shape}


def _part(shape: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a group, or of the groups in a list."""
    inner = _resolved(shape.get("items", shape), schema)
    return {name: _resolved(each, schema) for name, each in inner.get("properties", {}).items()}


def _type(shape: dict[str, Any], schema: dict[str, Any]) -> str:
    shape = _resolved(shape, schema)
    if "anyOf" in shape:
        return " or ".join(_type(each, schema) for each in shape["anyOf"] if each.get("type") != "null")
    if "enum" in shape:
        return ", ".join(f"`{each}`" for each in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    kind = str(shape.get("type", "anything"))
    if kind == "array":
        most = f"at most {shape['maxItems']} of " if "maxItems" in shape else "list of "
        return most + _type(shape.get("items", {}), schema)
    return kind + _limits(shape)


def _limits(shape: dict[str, Any]) -> str:
    low, high = shape.get("minimum"), shape.get("maximum")
    if low is not None and high is not None:
        return f" {low:g}–{high if isinstance(high, int) else format(high, 'g')}"
    return f", at most {shape['maxLength']:,} characters" if "maxLength" in shape else ""


def _default(value: object) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _names(aliases: tuple[str, ...]) -> str:
    return ", ".join(f"`{alias}`" for alias in aliases)


def _parameters(record: Parametrised) -> str:
    return "; ".join(f"`{each.name}` {each.default} ({each.allowed}: {each.help})" for each in record.parameters)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _is(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content


if __name__ == "__main__":
    main()
