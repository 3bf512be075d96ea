"""Judging recorded mail again by other settings, offline. What a record cannot tell is never guessed."""
