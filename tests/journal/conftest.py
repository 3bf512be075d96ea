"""A journal's places, empty."""

from pathlib import Path

import pytest

from gateway.journal.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty journal in a directory of its own."""
    layout = Layout(tmp_path / "state")
    layout.spool.mkdir(parents=True)
    return layout
