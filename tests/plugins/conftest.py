"""No plugin of one test is there in the next."""

import sys
from collections.abc import Iterator

import pytest

from gateway.plugins.modules import Modules


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    yield
    nothing = Modules(())
    nothing.install()
    sys.meta_path.remove(nothing)
