"""The shape of the code: imports run one way, rules take their clock and chance from outside, nothing grows too big.

Read from the syntax trees, so that an import inside a function counts too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("module", modules("geo/kernels"))
def test_every_kernel_is_compiled_at_import_and_cached(module: str) -> None:
    for function in functions(module):
        for decorator in function.decorator_list:
            if "njit" not in ast.unparse(decorator):
                continue
            assert isinstance(decorator, ast.Call), f"{function.name}: njit without a signature"
            options = {option.arg for option in decorator.keywords if ast.unparse(option.value) == "True"}
            assert decorator.args, f"{function.name}: no signature"
            assert "cache" in options, f"{function.name}: not cached"
            assert "nogil" in options or module == "geo/kernels/h3_capi.py", f"{function.name}: holds the GIL"


@pytest.mark.parametrize("module", modules(*PACKAGES))
def test_nothing_grows_too_big(module: str) -> None:
    assert len((ROOT / module).read_text("utf-8").splitlines()) <= MAX_MODULE_LINES
    long = [
        function.name
        for function in functions(module)
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []
