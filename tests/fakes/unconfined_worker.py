"""The worker of the sandbox on a machine that nobody knows."""

import platform
import runpy

platform.machine = lambda: "vax"
runpy.run_module("filters.sandbox.worker", run_name="__main__")
