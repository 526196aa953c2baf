"""Times between the checks with which a server follows its nodes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times between a server's checks, in seconds."""

    poll_s: float = 0.05
    """Shortest time between two polls, each of which is a query to the SuperLink's database."""
    longest_poll_s: float = 2.0
    """Longest time between two polls."""
    poll_share: float = 0.1
    """Time until the next poll, as a share of the time since the last reply: the delay is small in proportion
    to a round of a second and to one of an hour."""
    presence_s: float = 1.0
    """Time between two checks of which clients are present."""
    restart_s: float = 5.0
    """Time between two checks of which nodes have restarted."""
    query_s: float = 300.0
    """Time until a node that has not sent its profile is asked again; it may be busy with an earlier run."""
    ask_again_s: float = 10.0
    """Time until a rejected node is asked again: its owner may have corrected the problem."""

    def pause(self, waited: float) -> float:
        """Return the seconds until the next poll, `waited` seconds after the last reply."""
        return min(max(self.poll_share * waited, self.poll_s), self.longest_poll_s)


USUAL_PACE = Pace()
