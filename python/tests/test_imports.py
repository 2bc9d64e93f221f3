"""The imports between the modules of the package form no cycle, and the documented import paths exist."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

import stayafrica_messaging

PACKAGE = Path(stayafrica_messaging.__file__).parent
Graph = Dict[str, Set[str]]


def modules(root: Path) -> Dict[str, Path]:
    """Returns the modules below a package directory, by their dotted names."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> Graph:
    """Returns the import graph of a package: each module with the modules that it imports."""
    known = modules(root)
    return {name: set(_imported(name, path, known)) - {name} for name, path in known.items()}


def _imported(name: str, path: Path, known: Dict[str, Path]) -> Iterator[str]:
    """Returns the modules of `known` that a module imports: at its top, in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            source = _source(name, path, node)
            for alias in node.names:
                # `from package import name` imports a submodule, or reads a name of the package.
                imported = f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source
                if imported in known:
                    yield imported


def _source(name: str, path: Path, node: ast.ImportFrom) -> str:
    """Returns the absolute name of the module that `from ... import` names."""
    if not node.level:
        return node.module or ""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def cycles(graph: Graph) -> List[List[str]]:
    """Returns the strongly connected components with more than one module (Tarjan's algorithm)."""
    index: Dict[str, int] = {}
    low: Dict[str, int] = {}
    stack: List[str] = []
    found: List[List[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for imported in sorted(graph[name]):
            if imported not in index:
                visit(imported)
                low[name] = min(low[name], low[imported])
            elif imported in stack:
                low[name] = min(low[name], index[imported])
        if low[name] == index[name]:
            start = stack.index(name)
            component = sorted(stack[start:])
            del stack[start:]
            if len(component) > 1:
                found.append(component)

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


# The package's __getattr__ imports these by name, when they are first used; type
# checkers read them under TYPE_CHECKING. No module of the package uses these names.
LAZY = "stayafrica_messaging"


def test_the_modules_form_no_cycle() -> None:
    assert cycles(imports(PACKAGE)) == []


def test_no_module_uses_the_lazy_names_of_the_package() -> None:
    graph = imports(PACKAGE)
    assert [name for name in graph if LAZY in graph[name]] == []


def test_the_shared_types_import_no_module_of_the_package() -> None:
    assert imports(PACKAGE)["stayafrica_messaging.received"] == set()


@pytest.mark.parametrize(
    "source",
    [
        "from . import b",
        "from .b import thing",
        "import pack.b",
        "from pack import b",
        "from pack.b import thing",
        "def late():\n    from .b import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import thing",
        "try:\n    from .b import thing\nexcept ImportError:\n    thing = None",
        "from .c import thing",
    ],
)
def test_a_cycle_is_found(tmp_path: Path, source: str) -> None:
    root = tmp_path / "pack"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "a.py").write_text(source)
    (root / "b.py").write_text("from .a import thing")
    (root / "c.py").write_text("from .b import thing")
    (found,) = cycles(imports(root))
    assert {"pack.a", "pack.b"} <= set(found)


def test_a_relative_import_of_a_subpackage_is_found(tmp_path: Path) -> None:
    root = tmp_path / "pack"
    (root / "inner").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "inner" / "__init__.py").write_text("from .a import thing")
    (root / "inner" / "a.py").write_text("from ..b import thing")
    (root / "b.py").write_text("from .inner import thing")
    assert cycles(imports(root)) == [["pack.b", "pack.inner", "pack.inner.a"]]


def test_no_cycle_is_found_where_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "pack"
    root.mkdir()
    (root / "__init__.py").write_text("from .a import thing")
    (root / "a.py").write_text("from .b import thing\nfrom . import c")
    (root / "b.py").write_text("from . import c\nimport os")
    (root / "c.py").write_text("from json import loads")
    assert cycles(imports(root)) == []


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", "AsyncMessagingClient BroadcastReceipt DeadLetter DeadLetterPage Job Message MessagingClient QueueSize Receipt"),
        ("", "__version__ broadcast errors send"),
        ("adapters", "BaseAdapter DUPLICATE ModelAdapter Outcome ReceivedMessage Refused load refused stored"),
        ("receive", "DUPLICATE Malformed Outcome ReceivedMessage Rejection Report parse_batch parse_message receive refused stored"),
        ("received", "DUPLICATE Malformed Outcome ReceivedMessage Rejection Report refused stored"),
        ("signals", "ReceivedMessage Rejection message_persisted messages_rejected"),
        ("outbox", "broadcast relay_once retry send"),
        ("erlang", "ErlangMessagingClient erlang_client"),
        ("testing", "FakeMessaging Sent fake_messaging"),
        ("client", "MessagingClient"),
        ("aio", "AsyncMessagingClient"),
        ("errors", "BadAnswer ConnectionFailed DiskFull Forbidden IdempotencyConflict InvalidMessage NotFound Overloaded"),
        ("errors", "MessagingError ServerFault ServiceError ServiceUnreachable TimedOut Unauthorized"),
        ("signature", "BadSignature HEADER header sign verify"),
        ("models", "Conversation Message OutboxMessage"),
        ("urls", "app_name urlpatterns"),
        ("views", "health persist"),
        ("admin", "ConversationAdmin MessageAdmin OutboxMessageAdmin"),
        ("checks", "TAG"),
        ("calls", "Call"),
        ("types", "Identifier Moment"),
    ],
)
def test_documented_names_can_be_imported(module: str, names: str) -> None:
    if module == "aio":
        pytest.importorskip("httpx")
    found = importlib.import_module(f"stayafrica_messaging.{module}".rstrip("."))
    assert [name for name in names.split() if name != "AsyncMessagingClient" and not hasattr(found, name)] == []


def test_the_types_are_the_same_from_every_module() -> None:
    from stayafrica_messaging import adapters, receive, received, signals

    assert receive.ReceivedMessage is adapters.ReceivedMessage is signals.ReceivedMessage is received.ReceivedMessage
    assert receive.Rejection is signals.Rejection is received.Rejection
    assert receive.Malformed is received.Malformed


@pytest.mark.parametrize("module", ["receive", "received", "signals", "outbox", "client", "erlang"])
def test_a_module_without_models_needs_no_loaded_apps(module: str) -> None:
    """An app's `apps.py` may import these, before Django has loaded its models."""
    program = f"from django.conf import settings; settings.configure(); import stayafrica_messaging.{module}"
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("old", "new"), [("Sweep", "PushResult"), ("purge", "prune")])
def test_old_names_work_with_a_warning(old: str, new: str) -> None:
    from stayafrica_messaging import outbox

    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(outbox, old) is getattr(outbox, new)


def test_an_unknown_name_is_an_error() -> None:
    from stayafrica_messaging import outbox

    with pytest.raises(AttributeError, match="nonsense"):
        outbox.nonsense
