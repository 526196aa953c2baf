"""The place of the clients' models during and between rounds: the memory, or another one with the same
interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from flames_cli.arrays import Weights

Load = Callable[[], Weights]
"""Function that returns a stored model. The model may be read-only."""


class Shelf:
    """Stores clients' models in the memory."""

    def keep_report(self, weights: Weights) -> Load:
        """Store reported weights until the result is no longer used: at most to the end of the round."""
        return lambda: weights

    def keep_model(self, weights: Weights) -> Load:
        """Store a client's model until the result is no longer used."""
        return lambda: weights

    def wait(self) -> None:
        """Wait until everything that was handed over is stored."""

    def close(self) -> None:
        """Do the same as `wait`, and remove what is needed for this run of the program only."""


IN_MEMORY = Shelf()


class StoredModels(Sequence[Weights]):
    """Stored models in order; each is loaded when it is used, so that not all are in the memory."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self._loads = loads

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Load the model with this index."""
        return self._loads[index]()

    def __len__(self) -> int:
        return len(self._loads)


class ClientModels(Mapping[str, Weights]):
    """Stored models by client; each is loaded when it is used."""

    def __init__(self, loads: Mapping[str, Load] | None = None) -> None:
        self._loads = dict(loads or {})

    @classmethod
    def of(cls, models: Mapping[str, Weights]) -> "ClientModels":
        """Return `models` with this type."""
        return (
            models if isinstance(models, cls) else cls({name: _holding(one) for name, one in models.items()})
        )

    def replaced_by(self, newer: Mapping[str, Weights]) -> "ClientModels":
        """Return these models, with those of `newer` in place of older ones."""
        return ClientModels(self._loads | ClientModels.of(newer)._loads)

    def load_of(self, client: str) -> Load:
        """Return the function that loads a client's model."""
        return self._loads[client]

    def __getitem__(self, client: str) -> Weights:
        return self._loads[client]()

    def __contains__(self, client: object) -> bool:
        return client in self._loads  # the default would load the model

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)


def _holding(weights: Weights) -> Load:
    return lambda: weights
