"""The server's models of a run, by the names under which users know them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from flames_cli.core.federated.algorithm import ALL, Algorithm
from flames_cli.core.federated.reports import State


class Named(Protocol):
    """A client, wherever it is described."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def modality(self) -> str:
        """Modality of its images."""


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A server model, for use on images of one modality of its clients."""

    label: str
    group: str
    modality: str


def list_server_models(clients: Iterable[Named], algorithm: Algorithm, state: State) -> list[ServerModel]:
    """Return the server models of a run: for each modality of its clients those of the clients' groups."""
    found: dict[ServerModel, None] = {}
    for client in clients:
        modality, group = client.modality, state.group_of(client.name, client.modality, algorithm)
        label = modality if group in (ALL, modality) else f"{modality} by {group}"
        if group in state.server:
            found[ServerModel(label, group, modality)] = None
    return list(found)
