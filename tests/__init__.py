"""The tests, a package so that they can import `tests.support` by name."""

import pytest

pytest.register_assert_rewrite("tests.support")
