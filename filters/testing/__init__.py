"""For the tests of filters: daemons that hang, lie and die on order, and what every filter owes the gateway.

`FilterContract`, `ScannerContract` and `ProbeContract` are collections of tests that a filter's own test
class inherits; `FakeServer` and its behaviours are what the daemon's side of them is made of, and of
whatever the daemon's own protocol needs besides. Needs pytest, and is imported by nothing but tests.
"""

try:
    import pytest
except ImportError:
    raise ImportError("filters.testing needs pytest, which is not installed") from None

# So that a failed assertion says what was there instead.
pytest.register_assert_rewrite("filters.testing.contract")

from filters.testing.contract import FilterContract, ProbeContract, ScannerContract  # noqa: E402
from filters.testing.server import (  # noqa: E402
    Behaviour,
    BlackHole,
    Conversation,
    FakeServer,
    Nobody,
    close_after,
    cut_off,
    deaf,
    drip,
    flood,
    hang,
    mute,
    reset_after,
    say_early,
    trickle,
)
from filters.testing.transactions import at_connect, at_end_of_data, at_rcpt  # noqa: E402

__all__ = [
    "Behaviour",
    "BlackHole",
    "Conversation",
    "FakeServer",
    "FilterContract",
    "Nobody",
    "ProbeContract",
    "ScannerContract",
    "at_connect",
    "at_end_of_data",
    "at_rcpt",
    "close_after",
    "cut_off",
    "deaf",
    "drip",
    "flood",
    "hang",
    "mute",
    "reset_after",
    "say_early",
    "trickle",
]
