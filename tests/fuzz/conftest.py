"""Every run tries a few hundred inputs; `pytest tests/fuzz --hypothesis-profile=long` goes on for an hour."""

from hypothesis import settings

settings.register_profile("long", max_examples=200_000, deadline=None)
