"""The page `/docs`: routes, operations, problems and events as plain HTML. Nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from safelight.core.events import EVENT_HELP
from safelight.server.problems import TITLES

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Safelight: HTTP interface</title>
<link rel="icon" href="/ui/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="/ui/style.css"></head>
<body><header><h1>Safelight {version}</h1><p>{description}</p>
<nav><a href="/">Page</a> <a href="/openapi.json">openapi.json</a></nav></header>
<main class="docs"><h2>Routes</h2>{routes}<h2>Operations</h2>{operations}
<h2>Events</h2>{events}<h2>Problems</h2>{problems}</main></body></html>
"""


def page(document: dict[str, Any]) -> str:
    """The HTML of an OpenAPI document."""
    schemas = document["components"]["schemas"]
    submission = schemas["Submission"]
    names = [each["$ref"].rpartition("/")[2] for each in submission.get("oneOf", ())] or [
        submission["$ref"].rpartition("/")[2]
    ]
    return _PAGE.format(
        version=escape(document["info"]["version"]),
        description=escape(document["info"]["description"]),
        routes="".join(
            _route(path, method, route)
            for path, methods in document["paths"].items()
            for method, route in methods.items()
        ),
        operations="".join(_operation(schemas[name], schemas) for name in names),
        events=_table([(f"<code>{kind}</code>", escape(help)) for kind, help in EVENT_HELP.items()], ("kind", "data")),
        problems=_table(
            [(f'<code id="problem-{kind}">{kind}</code>', escape(title)) for kind, title in TITLES.items()],
            ("kind", "meaning"),
        ),
    )


def _route(path: str, method: str, route: dict[str, Any]) -> str:
    parameters = [
        (
            f"<code>{escape(each['name'])}</code>",
            each["in"],
            escape(_type(each.get("schema", {}))),
            escape(each.get("description", "")),
        )
        for each in route.get("parameters", ())
    ]
    answers = ", ".join(
        f"{status} {escape(answer['description'])}" for status, answer in sorted(route.get("responses", {}).items())
    )
    bodies = ", ".join(route.get("requestBody", {}).get("content", ()))
    takes = f"<p>Body: <code>{escape(bodies)}</code></p>" if bodies else ""
    table = _table(parameters, ("parameter", "in", "type", "")) if parameters else ""
    said = escape(route.get("description") or route.get("summary", ""))
    return f"<h3><code>{method.upper()} {escape(path)}</code></h3><p>{said}</p>{takes}{table}<p>Answers: {answers}.</p>"


def _operation(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows = [
        (
            f"<code>{escape(name)}</code>",
            escape(_type(field)),
            escape("required" if name in schema.get("required", ()) else _default(field)),
            escape(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]
    said = escape(schema.get("description", ""))
    return f"<h3>{escape(schema['title'])}</h3><p>{said}</p>{_table(rows, ('field', 'type', 'default', ''))}"


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema or "allOf" in schema:
        parts = [_type(each) for each in schema.get("anyOf", schema.get("allOf", ())) if each.get("type") != "null"]
        return " | ".join(parts)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = f" {low}..{high}" if low is not None and high is not None else ""
    return str(schema.get("type", "any")) + limits


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None else str(value) if not isinstance(value, dict) else ""


def _table(rows: Sequence[tuple[str, ...]], heads: tuple[str, ...]) -> str:
    head = "".join(f"<th>{each}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{each}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
