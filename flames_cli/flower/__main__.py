"""Flower's server or node with FLAMES' checks: `python -m flames_cli.flower superlink|supernode ARGUMENTS`.

Both log to the standard output; `flames deploy server` and `flames deploy node` start them.
"""

import sys
from importlib import import_module

from flames_cli.flower.compatibility import missing_name_problem

PROGRAMS = ("superlink", "supernode")


def main() -> None:
    """Run the program that the first argument names, until a signal ends it.

    Raises:
        SystemExit: a part of Flower that the program needs does not exist, as in a release that was not
            tested.
    """
    program = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if program not in PROGRAMS:
        raise SystemExit(f"the program is {program!r}, expected {' or '.join(PROGRAMS)}")
    try:
        module = import_module(f"flames_cli.flower.{program}")
    except ImportError as error:
        raise SystemExit(f"ERROR: {missing_name_problem(error)}") from error
    module.main()


if __name__ == "__main__":
    main()
