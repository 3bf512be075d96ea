"""The configuration file: TOML in, frozen values out, or one clear line about what is wrong.

`schema` is the sections and their keys, `reading` turns a file into them, `options` validates the
options of filters and policies from their signatures. Only the command line, the supervisor and what
they put together from it read configuration; everything below receives plain values.
"""

from gateway.config.reading import RESERVED, load, parse, read_plugins
from gateway.config.schema import Config, ConfigError

__all__ = ["RESERVED", "Config", "ConfigError", "load", "parse", "read_plugins"]
