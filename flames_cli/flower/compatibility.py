"""Minor releases of Flower (flwr) that FLAMES was tested with.

This package uses private modules of Flower, which any minor release may change. A new minor release is added
here, and to the bounds in pyproject.toml, after the tests of real nodes have passed with it.
"""

from importlib import metadata

TESTED_FLOWER = ("1.41", "1.42")


def flower_problem(version: str) -> str | None:
    """Return what is wrong with the installed release `version` of Flower, or None if it was tested."""
    if ".".join(version.split(".")[:2]) in TESTED_FLOWER:
        return None
    return f"flwr {version} is installed, expected {' or '.join(TESTED_FLOWER)}"


def how_to_fix() -> str:
    """Return the command that installs a release of Flower that was tested."""
    return f"pip install 'flwr=={TESTED_FLOWER[-1]}.*'"


def missing_name_problem(error: ImportError) -> str:
    """Return a one-line message for a part of Flower that this package needs and that does not exist."""
    found = str(error).partition(" (")[0]
    expected = " or ".join(TESTED_FLOWER)
    return (
        f"{found}: flwr {metadata.version('flwr')} is installed, expected {expected}, because FLAMES uses "
        f"private functions of Flower; run {how_to_fix()}"
    )
