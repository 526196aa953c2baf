"""A blend of a plug-in: its results are checked, and its errors name the plug-in, the group and the round."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.reports import Entries, Report, find_negative_variance, find_not_finite
from flames_cli.core.federated.running_sum import cast
from flames_cli.core.federated.shelf import IN_MEMORY, ClientModels, Load, Shelf
from flames_cli.errors import FlamesError
from flames_cli.plugins import RAISED, describe_error


@dataclass(frozen=True, slots=True)
class Place:
    """Model group and round of a blend, and what the server stored for it."""

    group: str = ""
    round: int = 0
    state: Weights = field(default_factory=dict)
    """Arrays of `Blend.state` after the group's last round with a report."""


class PluginBlend(Blend):
    """A blend of a plug-in's class; FlamesError if it fails or gives other arrays than a model has."""

    def __init__(
        self,
        algorithm: Algorithm,
        start: Weights,
        entries: Entries,
        place: Place = Place(),
        shelf: Shelf = IN_MEMORY,
    ) -> None:
        if isinstance(algorithm.blend, str):
            raise ValueError(f"blend {algorithm.blend} is not a class of a plug-in")
        self._label = algorithm.label
        self._shared, self._variances = entries.shared_of(start), entries.variances
        self._clients: set[str] = set()
        self.group, self.round, self.shelf = place.group, place.round, shelf
        kind: Any = algorithm.blend
        with self._named("__init__()"):
            self._blend: Blend = kind(read_only(start), entries, algorithm.weight)
            self._blend.group, self._blend.round, self._blend.shelf = place.group, place.round, shelf
            if place.state:
                self._blend.load_state(read_only(place.state))

    def rejection_reason(self, report: Report) -> str | None:
        """Return the reason of the plug-in, as text."""
        with self._named("rejection_reason()"):
            reason = self._blend.rejection_reason(_read_only_report(report))
        return None if reason is None else str(reason)[:500]

    def add(self, report: Report) -> None:
        """Add a report."""
        self._clients.add(report.client)
        with self._named("add()"):
            self._blend.add(_read_only_report(report))

    def shortage(self) -> str | None:
        """Return the reason of the plug-in, as text."""
        with self._named("shortage()"):
            reason = self._blend.shortage()
        return None if reason is None else str(reason)[:500]

    def server(self) -> Weights:
        """Return the group's new model, each entry in its own dtype."""
        self._blend.n_clients = self.n_clients
        with self._named("server()"):
            found = self._blend.server()
        if missing := [name for name in self._shared if name not in self._entries("server()", found)]:
            raise self._wrong("server()", f"no entry '{missing[0]}'", "every entry that clients report")
        return self._checked("server()", found)

    def personal(self) -> Mapping[str, Weights]:
        """Return the clients' own entries; they are checked one client at a time, and go to the shelf."""
        with self._named("personal()"):
            found = self._blend.personal()
        if unknown := [name for name in self._entries("personal()", found) if name not in self._clients]:
            raise self._wrong("personal()", f"a client '{unknown[0]!s:.80}'", "clients that reported")
        own: dict[str, Load] = {}
        for client in found:
            with self._named("personal()"):
                entries = found[client]
            own[client] = self.shelf.keep_model(self._checked(f"personal()['{client}']", entries))
        return ClientModels(own)

    def state(self) -> Weights:
        """Return the arrays of the plug-in, which are finite."""
        with self._named("state()"):
            found = self._blend.state()
        arrays = {
            self._name_of("state()", name): self._array("state()", name, value)
            for name, value in self._entries("state()", found).items()
        }
        if fault := find_not_finite(arrays):
            raise self._wrong("state()", fault, "numbers")
        return arrays

    def _checked(self, call: str, found: object) -> Weights:
        """Return entries of the model in their own dtypes and in the model's order.

        Raises:
            FlamesError: an entry is not one that clients report, has another shape, or is not finite.
        """
        entries = self._entries(call, found)
        if extra := [name for name in entries if name not in self._shared]:
            raise self._wrong(call, f"an entry '{extra[0]!s:.80}'", "entries that clients report")
        checked: Weights = {}
        for name, like in self._shared.items():
            if name not in entries:
                continue
            array = self._array(call, name, entries[name])
            if array.shape != like.shape:
                raise self._wrong(call, f"'{name}' of shape {array.shape}", f"shape {like.shape}")
            checked[name] = array if array.dtype == like.dtype else cast(array, like.dtype)
        if fault := find_not_finite(checked) or find_negative_variance(checked, self._variances):
            raise self._wrong(call, fault, "numbers of a model")
        return checked

    def _entries(self, call: str, found: object) -> Mapping[Any, Any]:
        if not isinstance(found, Mapping):
            raise self._wrong(call, f"a {type(found).__name__}", "a dict")
        return found

    def _name_of(self, call: str, name: object) -> str:
        if type(name) is not str or not name:
            raise self._wrong(call, f"an array called {name!r:.80}", "names")
        return name

    def _array(self, call: str, name: object, value: object) -> NDArray[Any]:
        """Return an array of numbers that can be written to."""
        with self._named(call):
            array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:  # a long double, which no file has
            raise self._wrong(call, f"'{name}' of type {array.dtype}", "an array of numbers")
        return array if array.flags.writeable else array.copy()

    @contextmanager
    def _named(self, call: str) -> Iterator[None]:
        """Raise FlamesError with the names of plug-in, group and round in place of a plug-in's error."""
        try:
            yield
        except FlamesError:
            raise
        except RAISED as error:
            raise FlamesError(
                f"{self._label}: {call} of its blend fails in round {self.round} for model group "
                f"'{self.group}' ({describe_error(error)}); correct the plug-in, then run the same command "
                "again to continue"
            ) from error

    def _wrong(self, call: str, found: str, expected: str) -> FlamesError:
        return FlamesError(
            f"{self._label}: {call} of its blend gives {found} in round {self.round} for model group "
            f"'{self.group}', expected {expected}; correct the plug-in, then run the same command again to "
            "continue"
        )


def read_only(weights: Weights) -> Weights:
    """Return views of the same arrays that cannot be written to."""
    views = {name: array.view() for name, array in weights.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def _read_only_report(report: Report) -> Report:
    return replace(report, weights=read_only(report.weights))
