"""The shape of the source: sizes, names, docstrings, state, exceptions, and what only some rooms may touch."""

from __future__ import annotations

import ast
import re

import pytest
from tests.house.source import Function, Module, dotted, functions, modules, public

MAX_MODULE, MAX_FUNCTION, MAX_POSITIONAL = 400, 60, 6
FORBIDDEN_NAMES = re.compile(r"^(utils?|common|helpers?|misc|shared|base|base_.*|.*_(utils?|helpers?))$")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|for now)\b")
MUTABLE = {"dict", "list", "set", "defaultdict", "deque", "OrderedDict", "Counter", "WeakValueDictionary"}
MUTATORS = {"append", "add", "update", "pop", "popitem", "clear", "extend", "insert", "remove", "setdefault", "discard"}

POSIX = {
    "fcntl", "resource", "termios", "pwd",
    "socket.AF_UNIX", "AF_UNIX", "asyncio.open_unix_connection", "asyncio.start_unix_server",
    "os.fork", "os.forkpty", "os.setsid", "os.killpg", "os.getpgid", "os.waitpid", "os.set_inheritable",
    "signal.SIGKILL", "signal.SIGUSR1", "signal.SIGUSR2", "signal.SIGCHLD", "signal.SIGHUP", "signal.SIGSTOP",
}  # fmt: skip
"""What Windows has not. Only these modules may name it, each with its other branch (`mypy --platform win32` sees)."""

POSIX_ROOMS = (
    "workers.local", "workers.zygote", "workers.child", "workers.deaths", "server.single", "client.transport",
    "workers.files_process", "engine.residency",
)  # fmt: skip

MEMORY = {
    "mem_get_info", "memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved",
    "memory_stats", "current_allocated_memory", "driver_allocated_memory",
    "virtual_memory", "swap_memory", "memory_info", "memory_full_info", "ru_maxrss",
}  # fmt: skip
MEMORY_FILES = re.compile(r"/proc/(meminfo|self/status|self/statm|\{|\d)|/sys/fs/cgroup|tracemalloc")
MEMORY_ROOMS = ("telemetry", "engine.residency")

BROAD_ROOMS = ("engine.loop", "engine.batcher", "workers.process", "workers.zygote", "server.app", "server.problems")
"""The worker's loop and process, and the HTTP edge: they alone may catch everything, and record what they caught."""

each_module = pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)


def constant(node: ast.stmt) -> bool:
    """A table: an assignment to an UPPER_CASE name at the top of a module."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return bool(targets) and all(isinstance(each, ast.Name) and each.id.lstrip("_").isupper() for each in targets)


@each_module
def test_a_module_has_at_most_400_lines_tables_aside(module: Module):
    tables = sum(node.end_lineno - node.lineno + 1 for node in module.tree.body if constant(node))
    lines = module.text.count("\n")
    assert lines - tables <= MAX_MODULE, f"{module.path.name}: {lines} lines, {tables} of them tables"


@each_module
def test_functions_are_short_annotated_and_take_few_positions(module: Module):
    wrong = []
    for node in functions(module.tree):
        length = node.end_lineno - node.lineno + 1
        if length > MAX_FUNCTION:
            wrong.append(f"{module.at(node)} {node.name}: {length} lines")
        positional = [*node.args.posonlyargs, *node.args.args]
        bound = positional and positional[0].arg in ("self", "cls")
        taken = positional[1:] if bound else positional
        if len(taken) > MAX_POSITIONAL:
            wrong.append(f"{module.at(node)} {node.name}: {len(taken)} positional parameters")
        variadic = [each for each in (node.args.vararg, node.args.kwarg) if each is not None]
        wrong += [
            f"{module.at(node)} {node.name}: {each.arg} has no type"
            for each in [*taken, *node.args.kwonlyargs, *variadic]
            if each.annotation is None
        ]
        if node.returns is None:
            wrong.append(f"{module.at(node)} {node.name}: no type of what it returns")
    assert not wrong, "\n".join(wrong)


@each_module
def test_names_say_what_a_module_is_about(module: Module):
    bad = [part for part in module.name.split(".") if FORBIDDEN_NAMES.match(part)]
    assert not bad, f"{module.name}: a file called {bad[0]} says nothing"


@each_module
def test_everything_public_has_a_docstring(module: Module):
    missing = [module.name] if not ast.get_docstring(module.tree) else []
    missing += [f"{module.at(node)} {name}" for name, node in public(module) if not ast.get_docstring(node)]
    assert not missing, "\n".join(missing)


@each_module
def test_nothing_is_left_unfinished(module: Module):
    found = [
        f"{module.path.name}:{number} {line.strip()}"
        for number, line in enumerate(module.text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    protocols = {
        id(function)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and any(dotted(base).endswith(("Protocol", "ABC")) for base in bases(node))
        for function in functions(node)
    }
    for node in functions(module.tree):
        body = [each for each in node.body if not is_text(each)]
        said_to = not body and isinstance(node.returns, ast.Constant) and node.returns.value is None
        allowed = said_to or id(node) in protocols or any("overload" in dotted(each) for each in node.decorator_list)
        if all(isinstance(each, ast.Pass) or is_ellipsis(each) for each in body) and not allowed:
            found.append(f"{module.at(node)} {node.name} does nothing")
    assert not found, "\n".join(found)


def bases(node: ast.ClassDef) -> list[ast.expr]:
    """The bases of a class, without what stands in brackets."""
    return [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]


def is_text(node: ast.stmt) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_ellipsis(node: ast.stmt) -> bool:
    """`...`"""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


@each_module
def test_no_module_or_class_keeps_state(module: Module):
    wrong = []
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    # msgspec gives each instance its own copy of an empty dict or list
    structs = [node.body for node in classes if any(dotted(base).endswith("Struct") for base in bases(node))]
    bodies = [module.tree.body, *(node.body for node in classes if node.body not in structs)]
    constants = set()
    for body in bodies:
        for node in body:
            value = getattr(node, "value", None)
            if not isinstance(node, ast.Assign | ast.AnnAssign) or value is None:
                continue
            if constant(node):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                constants |= {each.id for each in targets}
            elif is_mutable(value) and "__all__" not in ast.dump(node) and "__slots__" not in ast.dump(node):
                wrong.append(f"{module.at(node)} a {type(value).__name__} that can change")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            wrong.append(f"{module.at(node)} global {', '.join(node.names)}")
        if (name := changed(node)) in constants:
            wrong.append(f"{module.at(node)} {name} is changed")
    assert not wrong, "\n".join(wrong)


def is_mutable(value: ast.expr) -> bool:
    """A dict, list or set, written out or made by its name."""
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
        return True
    return isinstance(value, ast.Call) and dotted(value.func).rpartition(".")[2] in MUTABLE


def changed(node: ast.AST) -> str:
    """The name of what a node changes in place, or nothing."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return dotted(node.func.value)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return dotted(node.value)
    return ""


@each_module
def test_no_exception_is_swallowed(module: Module):
    wrong = []
    for node in ast.walk(module.tree):
        suppressed = node.args if isinstance(node, ast.Call) and dotted(node.func).endswith("suppress") else []
        if any(dotted(each) in ("Exception", "BaseException") for each in suppressed):
            wrong.append(f"{module.at(node)} suppresses everything")
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        broad = any(each is None or dotted(each) in ("Exception", "BaseException") for each in caught)
        raised = any(isinstance(each, ast.Raise) for each in ast.walk(node))
        if all(isinstance(each, ast.Pass) or is_ellipsis(each) for each in node.body):
            wrong.append(f"{module.at(node)} drops what it caught (contextlib.suppress says so aloud)")
        elif broad and not raised and not module.inside(*BROAD_ROOMS):
            wrong.append(f"{module.at(node)} catches everything outside the worker's loop and the HTTP edge")
        elif broad and not raised and not records(node):
            wrong.append(f"{module.at(node)} catches everything and records nothing")
    assert not wrong, "\n".join(wrong)


def records(handler: ast.ExceptHandler) -> bool:
    """Whether a handler uses what it caught: by its name, or by logging with the trace."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Name) and node.id == handler.name:
            return True
        if isinstance(node, ast.Attribute) and node.attr in ("exception", "format_exc", "print_exc"):
            return True
    return False


@each_module
def test_what_windows_has_not_stays_in_its_rooms(module: Module):
    named = {dotted(node): node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute | ast.Name)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            named |= {each.name: node for each in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module: node} | {f"{node.module}.{each.name}": node for each in node.names}
    used = {name: node for name, node in named.items() if name in POSIX}
    if used and module.inside(*POSIX_ROOMS):
        assert re.search(r"sys\.platform|os\.name", module.text), f"{module.name} has no branch for Windows"
    elif used:
        pytest.fail("\n".join(f"{module.at(node)} {name}" for name, node in used.items()))


@each_module
def test_memory_is_counted_in_two_rooms_only(module: Module):
    if module.inside(*MEMORY_ROOMS):
        return
    found = [
        f"{module.at(node)} {node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in MEMORY
    ]
    found += [f"{module.name} names {found[0]}" for found in [MEMORY_FILES.search(module.text)] if found]
    assert not found, "\n".join(found)


@each_module
def test_nobody_reads_the_command_line_or_prints_outside_the_commands(module: Module):
    if module.inside("cli"):
        return
    found = []
    for top in module.tree.body:
        if isinstance(top, ast.If) and ast.unparse(top.test) == "__name__ == '__main__'":
            continue
        for node in ast.walk(top):
            if dotted(node) == "sys.argv" or (isinstance(node, ast.Call) and dotted(node.func) == "print"):
                found.append(f"{module.at(node)} {ast.unparse(node)}")
    assert not found, "\n".join(found)


@each_module
def test_settings_are_read_by_who_starts_the_program_alone(module: Module):
    """Below, they are values: no module but settings and the command line reads SAFELIGHT_ variables."""
    if module.inside("settings", "cli", "client"):
        return
    found = [
        f"{module.at(node)} {node.value}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"SAFELIGHT_\w+", node.value)
    ]
    assert not found, "\n".join(found)


def test_the_rules_see_what_they_forbid():
    """Each rule refuses a module made to break it: a rule that cannot fail keeps nothing."""
    text = "\n".join(
        [
            "import fcntl, sys",
            "state = {}",
            "TABLE = []",
            "class Thing: pass",
            "def f(a, b, c, d, e, g, h):",
            "    # TODO: later",
            "    TABLE.append(sys.argv)",
            "    try: g()",
            "    except Exception: pass",
            "    print(torch.cuda.mem_get_info(), 'SAFELIGHT_SERVER_PORT')",
            *("    a = 1" for _ in range(500)),
        ]
    )
    broken = Module("safelight.core.utils", modules()[0].path, text, ast.parse(text))
    rules = [each for name, each in globals().items() if name.startswith("test_") and hasattr(each, "pytestmark")]
    assert len(rules) >= 11
    for rule in rules:
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            rule(broken)


def test_functions_are_told_apart_from_other_nodes():
    tree = ast.parse("class A:\n    async def b(self) -> None:\n        def c() -> None: ...\n")
    assert [node.name for node in functions(tree)] == ["b", "c"]
    assert all(isinstance(node, Function) for node in functions(tree))
