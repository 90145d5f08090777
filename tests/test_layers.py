"""The shape of the code: imports run one way, rules take their clock and chance from outside, nothing grows too big.

Read from the syntax trees, so that an import inside a function counts too.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.longest_first import LONGEST_FIRST

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("geo", "discovery", "api", "loadtest")
MAY_IMPORT = {
    "geo": {"geo"},
    "discovery": {"geo", "discovery"},
    "api": {"geo", "discovery", "api"},
    "loadtest": {"geo", "loadtest"},
}
# A journey is a client of the service, and signs tokens and calls as the command line does.
CLIENT_SIDE = {"loadtest/locustfile.py": ("api.auth", "api.operator_client", "api.settings")}
# Benchmarks of the state core run its hives themselves; that of the finder a whole application, with a route that does
# nothing beside.
IN_PROCESS = {"loadtest/state/": ("discovery",), "loadtest/finder/": ("discovery", "api")}
# An exact point exists only inside the request that brought it: the type is made in geo, where a request is parsed, and
# goes no further than the two acts that snap it.
EXACT_POINT_MODULES = {
    "geo/privacy.py",
    "discovery/positions.py",
    "discovery/shake.py",
    "loadtest/state/updates.py",  # stands for requests: each report is made of one point and hands it over
}
CLOCKS_AND_CHANCE = {"time", "random", "secrets", "uuid", "numpy.random"}
CLOCK_READS = {"now", "utcnow", "today", "fromtimestamp"}
ENVIRONMENT = {"environ", "getenv", "environb", "urandom", "getrandom"}
MAX_FUNCTION_LINES = 80
MAX_MODULE_LINES = 500


def modules(*packages: str) -> list[str]:
    """Paths of the packages' modules, from the root of the project."""
    return sorted(str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py"))


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text("utf-8"), filename=module)


def imported(module: str) -> Iterator[str]:
    """Dotted names that a module imports, relative ones resolved, ``from a import b`` as both ``a`` and ``a.b``."""
    package = module.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{name.name}" for name in node.names)


def _beyond(module: str) -> tuple[str, ...]:
    """What a module may import beyond its layer."""
    beyond = next((more for folder, more in IN_PROCESS.items() if module.startswith(folder)), ())
    return beyond or CLIENT_SIDE.get(module, ())


def functions(module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_layer_has_modules() -> None:
    assert all(len(modules(package)) > 1 for package in ("geo", "discovery", "api"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    ours = {"geo", "discovery", "api", "loadtest", "tests"}
    backward = [
        f"{module} imports {name}"
        for module in modules(package)
        for name in imported(module)
        if name.split(".")[0] in ours - MAY_IMPORT[package] and not name.startswith(_beyond(module))
    ]
    assert backward == []


def test_rules_take_clock_chance_and_environment_from_outside() -> None:
    read = [
        f"{module} imports {name}"
        for module in modules("geo", "discovery")
        for name in imported(module)
        if name in CLOCKS_AND_CHANCE or name.rpartition(".")[2] in ENVIRONMENT
    ]
    read += [
        f"{module}:{node.lineno} uses {ast.unparse(node)}"
        for module in modules("geo", "discovery")
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and _reads_the_world(node)
    ]
    assert read == []


# What ``geo`` may stand on: mathematics, types, arrays, threads for a batch. No files, network, clocks or chance.
GEO_STANDS_ON = {
    "abc", "collections", "concurrent", "ctypes", "dataclasses", "functools", "geo", "h3", "importlib", "itertools",
    "llvmlite", "math", "numba", "numpy", "os", "pkgutil", "sys", "typing",
}  # fmt: skip
GEO_USES = {"os.sched_getaffinity", "sys.float_info", "sys.modules"}
INPUT_OUTPUT = {"open", "print", "input", "exec", "eval", "fromfile", "tofile", "memmap", "loadtxt", "savetxt", "save"}
INPUT_OUTPUT |= {"load", "savez", "genfromtxt", "getLogger"}
# ``person_hash`` is a number that shakes and reports carry; friends' cells are those of one resolution.
PEOPLE = re.compile(r"user|person(?!_hash)|people|friend(?!_resolution)|account|token|session|human|profile", re.I)


def test_geo_is_arithmetic_alone() -> None:
    """It reads and writes nothing outside its arguments, and its names know nobody."""
    assert {name.split(".")[0] for module in modules("geo") for name in imported(module)} <= GEO_STANDS_ON
    found = []
    for module in modules("geo"):
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in INPUT_OUTPUT:
                found.append(f"{module}:{node.lineno} calls {ast.unparse(node.func)}")
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"os", "sys"}:
                found += [f"{module}:{node.lineno}"] * (ast.unparse(node) not in GEO_USES)
            names = [str(getattr(node, field)) for field in ("id", "arg", "name", "attr") if hasattr(node, field)]
            found += [f"{module}:{node.lineno} names {name}" for name in names if PEOPLE.search(name)]  # type: ignore[attr-defined]
    assert found == []


def _reads_the_world(node: ast.Attribute) -> bool:
    """``datetime.now``, ``loop.time``, ``os.environ``, ``np.random`` and the like, by any name that ends so."""
    owner = ast.unparse(node.value).rpartition(".")[2]
    return (
        (node.attr in CLOCK_READS and owner in {"datetime", "date"})
        or (node.attr == "time" and owner.endswith(("loop", "loop()")))
        or (node.attr in ENVIRONMENT and owner == "os")
        or (node.attr == "random" and owner in {"np", "numpy"})
    )


def test_exact_points_stay_where_they_are_snapped() -> None:
    """No annotation, call or import elsewhere; a module of ``api`` may only build one out of a request."""
    holders = {
        module
        for module in modules("geo", "discovery", "loadtest")
        if any(_is_exact_point(node) for node in ast.walk(tree(module)))
    }
    assert holders <= EXACT_POINT_MODULES
    kept = [
        f"{module}:{node.lineno}"
        for module in modules("api")
        for node in ast.walk(tree(module))
        if isinstance(node, ast.AnnAssign) and "ExactPoint" in ast.unparse(node.annotation)
    ]
    assert kept == [], "api builds an ExactPoint and hands it over; it keeps none in a field"


def _is_exact_point(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "ExactPoint") or (
        isinstance(node, ast.Attribute) and node.attr == "ExactPoint"
    )


def test_only_geo_kernels_use_numba() -> None:
    """A kernel elsewhere would not be compiled by the set-up, and its stale machine code not removed."""
    users = {
        module
        for module in modules(*PACKAGES)
        for name in imported(module)
        if name.split(".")[0] in {"numba", "llvmlite"}
    }
    assert users
    assert all(module.startswith("geo/kernels/") for module in users)


def kernels(module: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.Call]]:
    """Every compiled function with its decorator, which is a call: ``njit(...)`` or ``inner(...)``."""
    for function in functions(module):
        for decorator in function.decorator_list:
            if re.match(r"(numba\.)?(njit|jit|inner)\b", ast.unparse(decorator)):
                assert isinstance(decorator, ast.Call), f"{function.name}: no signature"
                yield function, decorator


@pytest.mark.parametrize("module", modules("geo/kernels"))
def test_every_kernel_is_compiled_at_import_and_cached(module: str) -> None:
    """Or, where only kernels call it, within those."""
    for function, decorator in kernels(module):
        options = {option.arg for option in decorator.keywords if ast.unparse(option.value) == "True"}
        assert decorator.args, f"{function.name}: no signature"
        if ast.unparse(decorator.func) == "njit":
            assert {"cache", "nogil"} <= options, f"{function.name}: not cached, or holds the GIL"


def test_inner_kernels_are_called_by_kernels_alone() -> None:
    """Python would meet one that is not compiled, and have it compiled for whatever it gives."""
    inner = {
        function.name
        for module in modules("geo/kernels")
        for function, decorator in kernels(module)
        if ast.unparse(decorator.func) == "inner"
    }
    assert len(inner) > 50
    names = {"kernels", *(Path(module).stem for module in modules("geo/kernels"))}
    used = [
        f"{module}:{node.lineno} {ast.unparse(node)}"
        for module in modules(*PACKAGES)
        if not module.startswith("geo/kernels/")
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and node.attr in inner and ast.unparse(node.value) in names
    ]
    used += [
        f"{module} imports {name}"
        for module in modules(*PACKAGES)
        if not module.startswith("geo/kernels/")
        for name in imported(module)
        if name.startswith("geo.kernels.") and name.rpartition(".")[2] in inner
    ]
    assert used == []


@pytest.mark.parametrize("module", modules(*PACKAGES))
def test_nothing_grows_too_big(module: str) -> None:
    assert len((ROOT / module).read_text("utf-8").splitlines()) <= MAX_MODULE_LINES
    long = [
        function.name
        for function in functions(module)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_files_that_go_first_exist() -> None:
    assert len(set(LONGEST_FIRST)) == len(LONGEST_FIRST)
    assert [name for name in LONGEST_FIRST if not (ROOT / name).is_file()] == []
