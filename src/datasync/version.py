"""The version of this package, said once: the wheel, the command line and
the status read it here."""

__version__ = "0.1.0"
