"""The server's own pages: the form at `/`, its files under `/ui/`, `/docs` and `/openapi.json`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from safelight.core.operations import Contract
from safelight.errors import NotFound
from safelight.server import manual
from safelight.server.openapi import describe

router = APIRouter(include_in_schema=False)

FILES: dict[str, str] = {
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""What `/ui/` serves, with media types."""


def _read(name: str) -> bytes:
    return (files("safelight.server") / "page" / name).read_bytes()


@router.get("/")
async def index() -> Response:
    """The form."""
    return HTMLResponse(_read("index.html"), headers={"Cache-Control": "no-cache"})


@router.get("/ui/{name}")
async def page_file(name: str) -> Response:
    """The form's script, style and icon."""
    if name not in FILES:
        raise NotFound(f"There is no file {name[:80]!r}.", f"There are {', '.join(FILES)}.")
    return Response(_read(name), media_type=FILES[name], headers={"Cache-Control": "no-cache"})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description of the HTTP interface."""
    return JSONResponse(document(request.app))


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The same for people."""
    return HTMLResponse(manual.page(document(request.app)))


def document(web: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the program, made when it is first asked for."""
    if web.openapi_schema is None:
        web.openapi_schema = describe(web, cast(Contract, web.state.services.contract))
    return web.openapi_schema
