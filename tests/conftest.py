"""What all tests share: where the real data is, and libraries kept offline."""

import os
from pathlib import Path

import pytest

# Ultralytics looks for updates and installs packages by itself unless told not to.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real videos, ground truth and weights; tests that need it skip where it is absent."""
    path = Path(os.environ.get("FRAMECHAIN_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no test data at {path}; set FRAMECHAIN_TEST_DATA")
    return path
