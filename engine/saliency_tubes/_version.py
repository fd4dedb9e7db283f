"""The version, alone, so that any module can read it."""

__version__ = "0.1.0"
