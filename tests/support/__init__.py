"""Functions and classes that several test files import by name; fixtures are in the conftest files."""
