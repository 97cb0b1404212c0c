"""What tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from site_of_cameras import Site


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.pipeline.abort()
    made.pipeline.join(20)
