"""Fixtures of the tests of plug-ins."""

from tests.cli.conftest import error_line, flames
from tests.support.plugins import make_site

__all__ = ["error_line", "flames", "make_site"]
