"""Looks for what is not there."""

LIMITS = {}


def limit(name):
    return LIMITS[name]


DEFAULT = limit("mail")
