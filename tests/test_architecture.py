"""The house's rules, held against the import statements of every module."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = ["accounts", "servers", "images", "metadata", "deploy", "config"]
"""Lower layers first: each may import those before it, none those after it."""

APART = ["rescue", "lab", "bench", "tests"]
"""What is no layer: recipes that run by path, the virtual machines, and what tries everything out."""

MAY_IMPORT_APART = {
    "images.factory": {"rescue"},  # both build things with Debian's tools
    "images.accelerator": {"rescue"},  # remembers in the same folder
    "lab": {"rescue"},
}

PURE = [
    "accounts.secret", "accounts.sshkeys", "servers.facts", "servers.values", "servers.storage", "images.flavours",
    "images.qcow2", "images.vmdk", "images.vhd", "images.ovf", "images.lvm", "images.contents", "images.formats",
    "images.life", "images.checksums", "images.capabilities", "images.inspection", "images.tarstream", "images.rootfs",
    "images.strays", "images.inputs", "images.refusal", "metadata.documents", "metadata.configdrive",
    "metadata.bootscript", "metadata.hostnames", "metadata.errors", "deploy.events", "deploy.commands", "deploy.logs",
    "deploy.timeline", "deploy.errors", "deploy.proof", "deploy.doctor.finding", "deploy.webhooks.payload",
    "servers.power.driver", "deploy.certificate.finding", "deploy.certificate.look", "deploy.certificate.tables",
    "deploy.certificate.compare",
]  # fmt: skip
"""Values in, values out: no Django, no network, no process, no clock, no chance; and nothing impure of our own."""

IMPURE = {"django", "paramiko", "sushy", "channels", "socket", "subprocess", "time", "random", "secrets", "threading"}

ONLY_IN = {
    "paramiko": {"deploy.transport"},
    "channels": {"deploy.live", "deploy.pglayer", "deploy.consumers", "config.asgi"},
    "psycopg": {"deploy.pglayer"},  # everything else goes through Django
    "sushy": {"servers.power.redfish"},
}

PAGES = ("deploy.pages", "deploy.consumers", "deploy.reading", "accounts.views", "servers.views", "images.views")
OUT_OF_REACH_OF_PAGES = ("deploy.transport", "deploy.driver", "deploy.worker", "deploy.jobs", "servers.power")


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours that is no test, by its dotted name."""
    found = {}
    for layer in [*LAYERS, *APART[:-1]]:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """The dotted names that a module imports, wherever in it, a name out of a package counted as a module."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    is_package = modules()[module].name == "__init__.py"
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = module.split(".")[: None if is_package else -1]
            up = up[: len(up) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names if f"{source}.{alias.name}" in modules())


def offences(rule: str, pairs: Iterator[tuple[str, str]]) -> None:
    """Fails when there is a pair, and lists them."""
    found = [f"{module} imports {imported}" for module, imported in pairs]
    assert not found, f"{rule}:\n" + "\n".join(sorted(set(found)))


def test_there_is_something_to_look_at() -> None:
    assert len(modules()) > 50
    assert "accounts.models" in imports("deploy.models")
    assert "deploy.events" in imports("deploy.models")
    assert all(any(is_in(module, package) for module in modules()) for package in [*PURE, *PAGES])


def test_imports_point_one_way() -> None:
    rank = {layer: number for number, layer in enumerate(LAYERS)}
    offences("A layer imports one above it", (
        (module, imported)
        for module in modules() for imported in imports(module)
        if rank.get(imported.split(".")[0], -1) > rank.get(module.split(".")[0], len(LAYERS))
    ))  # fmt: skip


def test_nothing_imports_what_stands_apart() -> None:
    def allowed(module: str, imported: str) -> bool:
        own = module.split(".")[0] == imported.split(".")[0]
        granted = {top for package, tops in MAY_IMPORT_APART.items() if is_in(module, package) for top in tops}
        return own or module.startswith("bench") or imported.split(".")[0] in granted

    offences("Something leans on what stands apart", (
        (module, imported)
        for module in modules() for imported in imports(module)
        if imported.split(".")[0] in APART and not allowed(module, imported)
    ))  # fmt: skip


def test_no_test_imports_a_bench() -> None:
    """It would change this process' environment: what tests start afterwards would be another Landfall."""
    importers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
        if is_in(name, "bench")
    ]
    assert importers == []


def test_the_rescue_recipe_needs_nothing_but_python() -> None:
    offences("The rescue recipe runs without our virtual environment", (
        (module, imported)
        for module in modules() if is_in(module, "rescue") for imported in imports(module)
        if imported.split(".")[0] in [*LAYERS, "lab", "django"]
    ))  # fmt: skip


def pure_modules() -> list[str]:
    return [module for module in modules() if any(is_in(module, package) for package in PURE)]


def test_pure_modules_import_nothing_impure() -> None:
    def is_impure(imported: str) -> bool:
        top = imported.split(".")[0]
        of_ours = top in LAYERS and imported not in LAYERS
        return top in IMPURE or (of_ours and not any(is_in(imported, package) for package in PURE))

    offences("A pure module is none", (
        (module, imported) for module in pure_modules() for imported in imports(module) if is_impure(imported)
    ))  # fmt: skip


def test_pure_modules_do_not_look_at_the_clock_or_open_files() -> None:
    forbidden = {"now", "utcnow", "today", "uuid1", "uuid4", "getenv", "environ", "read_text", "read_bytes"}
    found = [
        f"{module}:{node.lineno} uses {name}"
        for module in pure_modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute | ast.Name)
        for name in [node.attr if isinstance(node, ast.Attribute) else node.id]
        if name in forbidden or (isinstance(node, ast.Name) and name == "open")
    ]
    assert not found, found


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_of_these_libraries_has_its_one_place(library: str) -> None:
    offences(f"{library} has left its place", (
        (module, imported)
        for module in modules() if module.split(".")[0] in LAYERS for imported in imports(module)
        if is_in(imported, library) and module not in ONLY_IN[library]
    ))  # fmt: skip


def test_pages_reach_no_machine() -> None:
    offences("A page touches a machine; it should append an event, and a worker acts", (
        (module, imported)
        for module in modules() if any(is_in(module, page) for page in PAGES) for imported in imports(module)
        if any(is_in(imported, place) for place in OUT_OF_REACH_OF_PAGES)
    ))  # fmt: skip


def test_there_is_one_signal_of_our_own() -> None:
    made = [
        module
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Signal"
    ]
    assert made == ["metadata.signals"]
