"""Fixtures of the tests of plug-ins."""

from tests.support.plugins import make_site

__all__ = ["make_site"]
