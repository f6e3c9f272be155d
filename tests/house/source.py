"""The program's source as data: every module with its tree, and who imports whom."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One module of the program. `name`: dotted; `text` and `tree`: what it says."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a node stands, for a message."""
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"

    def inside(self, *rooms: str) -> bool:
        """Whether the module is one of these or lies below one (names without `safelight.`)."""
        return any(self.name == f"safelight.{room}" or self.name.startswith(f"safelight.{room}.") for room in rooms)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of src/safelight, by name."""
    found = []
    for path in sorted((SRC / "safelight").rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text("utf-8")
        found.append(Module(name, path, text, ast.parse(text)))
    return tuple(found)


@cache
def imports() -> grimp.ImportGraph:
    """Who imports whom when it runs, imports hidden in functions counted, other packages as single nodes."""
    graph = grimp.build_graph(
        "safelight", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    # `safelight.Client` is imported when it is first asked for: `import safelight` alone reaches nothing.
    graph.remove_import(importer="safelight", imported="safelight.client")
    return graph


@cache
def loads() -> grimp.ImportGraph:
    """As `imports`, and each module also loads the packages it lies in: their `__init__` runs before it."""
    graph = copy.deepcopy(imports())
    for module in modules():
        above = module.name.rpartition(".")[0]
        if above:
            graph.add_import(importer=module.name, imported=above)
    return graph


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def public(module: Module) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Public classes, functions and methods with their dotted names; nothing inside functions."""

    def below(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
        for node in body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield f"{prefix}{node.name}", node
                if isinstance(node, ast.ClassDef):
                    yield from below(node.body, f"{prefix}{node.name}.")

    return below(module.tree.body, "")


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of attributes that begins with a name; the part that is one otherwise."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))
