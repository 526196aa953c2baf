"""The clients that have joined a federation, saved and compared with each other."""

from collections.abc import Callable, Sequence

from flames_cli.core.imaging.preparation import describe_differences
from flames_cli.fed.events import Noted, OnEvent
from flames_cli.fed.messages import Profile

SaveClients = Callable[[Sequence[Profile]], None]
"""save_clients(profiles), called with all clients that have joined so far when another one has joined."""


def no_clients_to_save(profiles: Sequence[Profile]) -> None:
    """Save nothing."""


class JoinedClients:
    """The clients that have joined: new ones are saved, and their images' preparation is compared."""

    def __init__(self, save: SaveClients, on_event: OnEvent) -> None:
        self._save = save
        self._on_event = on_event
        self._known: Sequence[Profile] = ()
        self._noted: set[str] = set()

    def note(self, profiles: Sequence[Profile]) -> None:
        """Save `profiles`, all clients that have joined so far, if they differ from those of the last call.

        Each note about a difference in preparation is given once.
        """
        if profiles == self._known:
            return
        self._known = profiles
        self._save(profiles)
        for note in describe_differences((one.client, one.modality, one.preparation) for one in profiles):
            if note not in self._noted:
                self._noted.add(note)
                self._on_event(Noted(note))
