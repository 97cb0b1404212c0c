"""What all tests share: where the real data is, and libraries kept offline."""

import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Ultralytics looks for updates and installs packages by itself unless told not to.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

ROOT = Path(__file__).resolve().parent.parent

_CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Tests have a cache of their own, one for all their processes: runtimes are tried once."""
    if not hasattr(config, "workerinput"):
        config.stash[_CACHE] = tempfile.TemporaryDirectory(prefix="framechain-tests-")
        os.environ["FRAMECHAIN_CACHE"] = config.stash[_CACHE].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CACHE in config.stash:
        config.stash[_CACHE].cleanup()


# rtsp_server.py runs under the system's Python, which has GStreamer; the doctest collector would import it here.
collect_ignore = ["pipeline/rtsp_server.py"]

# What their tests share takes from ten seconds to a minute to make, so that one process makes it for all of them.
_BY_ONE_PROCESS = frozenset(
    {"test_distil", "test_inference_libreyolo", "test_sample_video", "test_train_detector", "test_train_embedder"}
)


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in _BY_ONE_PROCESS:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


_PRINT_OPTIONS = np.get_printoptions()


@pytest.fixture(autouse=True)
def _print_options() -> Generator[None, None, None]:
    """Ultralytics changes how NumPy prints arrays when it is imported, and doctests come after."""
    yield
    np.set_printoptions(**_PRINT_OPTIONS)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real videos, ground truth and weights; tests that need it skip where it is absent."""
    path = Path(os.environ.get("FRAMECHAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no test data at {path}; set FRAMECHAIN_TEST_DATA")
    return path


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Where everything a test may need is installed, a skip hides a hole: FRAMECHAIN_NO_SKIP makes it a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("FRAMECHAIN_NO_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {call.excinfo.value if call.excinfo else report.longrepr}"
