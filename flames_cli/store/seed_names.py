"""Names of the runs of one name with several seeds."""

import re

_MEMBER = re.compile(r"(.+)-seed-(\d+)")


def member_name(family: str, seed: int) -> str:
    """Return the name of the run of a family with `seed`, such as flames-seed-0."""
    return f"{family}-seed-{seed}"


def family_name(run: str) -> str:
    """Return the name of the family to which a run of this name belongs; empty if its name has no seed."""
    found = _MEMBER.fullmatch(run)
    return found[1] if found else ""
