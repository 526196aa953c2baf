"""Flower's programs with FLAMES' checks: `python -m flames_cli.flower PROGRAM ARGUMENTS`.

All log to the standard output. `flames deploy server` and `flames deploy node` start the first two, and a
node starts the process that answers its messages, `clientapp`.
"""

import importlib
import sys

from flames_cli.flower.compatibility import missing_name_problem

PROGRAMS = {
    "superlink": "flames_cli.flower.superlink",
    "supernode": "flames_cli.flower.supernode",
    "clientapp": "flames_cli.flower.clientapp_process",
}
"""Module of each program, whose function `main` runs it."""


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
        run = importlib.import_module(PROGRAMS[program]).main
    except ImportError as error:
        raise SystemExit(f"ERROR: {missing_name_problem(error)}") from error
    run()


if __name__ == "__main__":
    main()
