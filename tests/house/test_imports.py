"""Who may import whom, beyond the contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest
from tests.house.source import Module, imports, loads, modules

from safelight.core.families import BUILT_IN as FAMILIES

HEAVY = ("torch", "diffusers", "transformers")
HEAVY_ROOMS = ("engine", "workers.process", "client.tensors")
"""The only rooms that may reach the heavy packages."""

LIGHT = [module for module in modules() if not module.inside(*HEAVY_ROOMS)]

ONLY_HERE = {"ray": ("workers.ray",), "sqlite3": ("jobs",), "fastapi": ("server",), "starlette": ("server",)}
"""Packages that belong to one room."""


def test_imports_make_no_cycle():
    graph = imports()
    ours = [name for name in graph.modules if name.split(".")[0] == "safelight"]
    circles = [name for name in ours if name in graph.find_upstream_modules(name) or _back(graph, name)]
    assert not circles, f"in a circle: {', '.join(sorted(circles))}"


def _back(graph, name: str) -> bool:
    return any(
        name == each or name in graph.find_upstream_modules(each)
        for each in graph.find_modules_directly_imported_by(name)
        if each.split(".")[0] == "safelight"
    )


@pytest.mark.parametrize("module", LIGHT, ids=lambda module: module.name)
def test_only_the_rooms_of_pixels_reach_torch(module: Module):
    graph = loads()
    heavy = [room for room in HEAVY if room in graph.modules]
    for name in heavy:
        chain = graph.find_shortest_chain(module.name, name)
        assert chain is None, " -> ".join(chain)


def test_what_light_modules_import_from_elsewhere_loads_no_torch():
    """Other packages, with submodules and those imported in functions: `safetensors.torch` would be found here."""
    outside = sorted({name for module in LIGHT for name in _outside(module)} - {"msvcrt", "winreg", "_winapi"})
    code = f"""
import importlib, json, sys
reached = []
for name in {outside!r}:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    if not reached and any(each in sys.modules for each in {HEAVY!r}):
        reached.append(name)
print(json.dumps(reached))
"""
    assert json.loads(_python(code)) == []


def _outside(module: Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return {name for name in found if name.split(".")[0] not in ("safelight", "__future__", *_optional())}


def _optional() -> tuple[str, ...]:
    return ("ray",)


def test_the_server_loads_no_torch_in_a_fresh_interpreter():
    code = f"import sys, safelight.server.app; print([each for each in {HEAVY!r} if each in sys.modules])"
    assert _python(code).strip() == "[]"


def test_the_package_alone_loads_nothing_of_its_own():
    code = "import sys, safelight; print(sorted(each for each in sys.modules if each.startswith('safelight')))"
    assert _python(code).strip() == "['safelight']"
    assert _python("import safelight; print(safelight.Client.__name__)").strip() == "Client"


@pytest.mark.parametrize("package", ONLY_HERE)
def test_a_package_of_one_room_is_imported_there_only(package):
    graph = imports()
    if package not in graph.modules:
        return
    users = [module for module in modules() if package in graph.find_modules_directly_imported_by(module.name)]
    strangers = [module.name for module in users if not module.inside(*ONLY_HERE[package])]
    assert not strangers, f"{package} belongs to {', '.join(ONLY_HERE[package])}"


def test_families_do_not_know_each_other():
    graph = imports()
    code = sorted({spec.code.partition(":")[0] for spec in FAMILIES})
    known = [(one, other) for one in code for other in code if one != other and graph.chain_exists(one, other)]
    assert not known


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
