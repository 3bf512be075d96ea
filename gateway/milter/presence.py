"""Whether pymilter and libmilter are there. Imports neither until it is asked."""

import importlib

_REMEDY = "pip install 'sluicegate[milter]', which takes gcc and Debian's libmilter-dev and python3-dev"


def why_missing() -> str:
    """Empty where the milter front end can be loaded, else what it needs and why, in one line."""
    try:
        importlib.import_module("milter")
    except ImportError as error:
        return f"needs pymilter: {_REMEDY}; {error}"
    return ""
