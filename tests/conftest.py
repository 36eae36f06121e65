"""What every test stands on: eight CPU devices, run-time checked annotations, and golden files.

The environment is set before anything imports JAX, and the import hook before anything imports our packages.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8").strip()
# On a busy machine the devices of a collective may meet later than after the 40 s at which XLA ends the process.
if "terminate_timeout" not in os.environ["XLA_FLAGS"]:
    os.environ["XLA_FLAGS"] += " --xla_cpu_collective_call_terminate_timeout_seconds=600"
# What tests tokenize and compile is shared by all processes of a session, and by none of another session.
if "LEVANTER_TESTS_CACHE" not in os.environ:
    os.environ.setdefault("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    os.environ["LEVANTER_TESTS_CACHE"] = tempfile.mkdtemp(prefix="levanter-tests-")
    os.environ["XDG_CACHE_HOME"] = os.environ["LEVANTER_TESTS_CACHE"]

import jax
import pytest
import typeguard

# Who starts the tests behind something else has them ignore signals, and with them every process that a test starts.
for _number, _handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Tracing makes hundreds of thousands of objects that stay, and Python would look through all of them again and again.
gc.set_threshold(200_000, *gc.get_threshold()[1:])

# What the import hook and pytest rewrite is kept as byte code: rewriting it for every run, and for every process that a
# test starts, costs more than many a test.
sys.dont_write_bytecode = False

BUSY = (
    *("ir.analysis", "ir.errors", "ir.graph", "ir.names", "ir.ops", "ir.order", "ir.rewrite", "ir.staging", "ir.text"),
    *("ir.types", "ir.union_find"),
    *("passes.arithmetic", "passes.checks", "passes.hardware", "passes.join_sums", "passes.partition"),
    *("passes.planner", "passes.proof", "passes.retype", "passes.scatter_sums", "passes.sharding"),
)
"""Modules, and packages with all that is in them, of short functions that are called millions of times: checking them
at run time takes longer than the tests do. pyright is strict about them."""


class Plain(SourceFileLoader):
    """Compiles a module as it is, each time: the file of byte code beside it may be the checked one."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class Instrumented(typeguard.TypeguardFinder):
    """Finds the modules whose annotations are checked while the tests run, and those of `BUSY` as they are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not any(fullname == busy or fullname.startswith(f"{busy}.") for busy in BUSY):
            return super().find_spec(fullname, path, target)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Plain(spec.loader.name, spec.loader.path)
        return spec


typeguard.install_import_hook(["haliax", "ir", "passes", "levanter"], cls=Instrumented)

GOLDEN = Path(__file__).parent / "golden"


HURRIED = ("docs", "haliax")
"""Folders whose programs are small, many, and compared up to rounding or with the very same operation: most of their
time would go into optimizing what runs once. Elsewhere a test says so of itself: `hurried`."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    hurried = item.path.parent.name in HURRIED or item.get_closest_marker("hurried") is not None
    if jax.config.read("jax_disable_most_optimizations") != hurried:
        jax.config.update("jax_disable_most_optimizations", hurried)
        jax.clear_caches()  # what is compared bit for bit elsewhere meets no program from here


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["LEVANTER_TESTS_CACHE"], ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(text, name)`: `text` is what tests/golden/NAME holds; `--update-golden` makes it so."""
    update = request.config.getoption("--update-golden")

    def compare(text: str, name: str) -> None:
        path = GOLDEN / name
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {path}: run pytest with --update-golden and read what it writes"
        assert text == path.read_text(encoding="utf-8"), f"differs from {path}"

    return compare
