"""Times between the checks with which a server follows its nodes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times between a server's checks, in seconds."""

    poll_s: float = 0.05
    """Time until the next poll after a reply has come; it doubles after every poll without a reply."""
    longest_poll_s: float = 2.0
    """Longest time between two polls; each poll is a query to the SuperLink's database."""
    presence_s: float = 1.0
    """Time between two checks of which clients are present."""
    restart_s: float = 5.0
    """Time between two checks of which nodes have restarted."""
    query_s: float = 300.0
    """Time until a node that has not sent its profile is asked again; it may be busy with an earlier run."""
    ask_again_s: float = 10.0
    """Time until a rejected node is asked again: its owner may have corrected the problem."""


USUAL_PACE = Pace()
