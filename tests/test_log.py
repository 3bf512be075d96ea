"""What ends up in the operational log."""

import subprocess
import sys

PROGRAM = """
import logging
from gateway.log import configure_logging

configure_logging()
logging.getLogger("filters.backend").warning("%s is %s", "127.0.0.1:783", "given up on")
logging.getLogger("mail.log").info("of no interest")
"""


def test_what_a_filter_logs_by_the_standard_library_is_a_line_like_ours():
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert printed.stdout == ""
    (line,) = printed.stderr.splitlines()
    assert line.endswith("Z [warning  ] 127.0.0.1:783 is given up on [filters.backend]")
