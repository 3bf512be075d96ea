"""The worker of the sandbox where a library is not installed."""

import runpy
import sys

sys.modules["libarchive"] = None  # type: ignore[assignment]
runpy.run_module("filters.sandbox.worker", run_name="__main__")
