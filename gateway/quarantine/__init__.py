"""Messages that policies have had us keep: how they are kept, and how they are let go."""
