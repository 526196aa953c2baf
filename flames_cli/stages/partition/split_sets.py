"""Sets of a client: train, validation or test for each of its cases."""

from collections.abc import Sequence
from dataclasses import dataclass

from flames_cli.config import PartitionConfig
from flames_cli.core.patient_units import count_units
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import Share, deal_folds, take_units
from flames_cli.errors import FlamesError
from flames_cli.stages.partition.cases import DataSet, PlacedCase, weigh

ROLES = {"client_train": "train", "client_val": "val", "client_test": "test"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A client whose cases are known, but not yet the sets in which they are."""

    name: str
    dataset: DataSet
    cases: list[PlacedCase]
    site: str = ""


@dataclass(frozen=True, slots=True)
class Roles:
    """Set of each case of a client; the same for all cases of a unit."""

    tested: set[str] | None
    """Units of the fold under test; None: the test sets of preprocess."""
    validation: set[str]
    """Units held out for validation."""

    def of(self, placed: PlacedCase) -> str:
        """Return `train`, `val` or `test`."""
        unit = placed.case.split_unit
        if self.tested is not None and unit in self.tested:
            return "test"
        role = ROLES[placed.set_name] if self.tested is None else "train"
        return "val" if role == "train" and unit in self.validation else role


def draw_roles(config: PartitionConfig, drafts: Sequence[Draft]) -> Roles:
    """Draw the roles of all cases of clients that may share patients.

    Raises:
        FlamesError: a client has no patient for validation.
    """
    roles = Roles(_draw_fold(config, drafts), set())
    for draft in drafts:
        roles.validation.update(_hold_out(config, draft, roles))
    return roles


def _draw_fold(config: PartitionConfig, drafts: Sequence[Draft]) -> set[str] | None:
    """Return the units of all clients that this fold tests; None if the preprocessed sets are used.

    All folds are always dealt, for each client separately, whichever of them is requested.
    """
    if config.fold_numbers is None:
        return None
    k, folds = config.fold_numbers
    datasets_of = _datasets_of(drafts)
    fold_of: dict[str, int] = {}
    for draft in drafts:
        strata = {
            placed.case.split_unit: (
                placed.case.stratum,
                datasets_of[placed.case.split_unit],
                placed.case.site,
            )
            for placed in reversed(draft.cases)
        }
        fold_of |= deal_folds(strata, folds, derive_rng(config.seed, "folds", draft.name), fold_of)
    return {unit for unit, fold in fold_of.items() if fold == k}


def _datasets_of(drafts: Sequence[Draft]) -> dict[str, str]:
    """Return the data sets in which every unit has images."""
    cases_of: dict[str, list[PlacedCase]] = {}
    for draft in drafts:
        cases_of.setdefault(draft.dataset.name, []).extend(draft.cases)
    return {name: " ".join(sorted(unit.datasets)) for name, unit in weigh(cases_of).items()}


def _hold_out(config: PartitionConfig, draft: Draft, roles: Roles) -> set[str]:
    """Return the units on which a client validates: at least one, unless it has some already or
    `val_fraction` is 0."""
    found = [roles.of(placed) for placed in draft.cases]
    weighed = weigh({"": [m for m, role in zip(draft.cases, found, strict=True) if role == "train"]})
    if "val" in found or config.val_fraction == 0:
        return set()
    if len(weighed) == 1:
        raise FlamesError(
            f"client {draft.name} has {count_units(1, draft.dataset.info.patient_unit)} to train on and none "
            f"to validate on; {advise_fewer(draft)} or pass --val-fraction 0"
        )
    patients = Share.fraction(config.val_fraction, weighed).patients
    images = config.val_fraction * sum(unit.images for unit in weighed.values())
    share = Share(images, patients)
    return set(take_units(weighed, share, derive_rng(config.seed, "validation", draft.name)))


def advise_fewer(draft: Draft) -> str:
    """Return advice for a client with too few patients."""
    if draft.site:
        return (
            f"hold the site out (--hold-out-site '{draft.dataset.name}={draft.site}'), "
            f"divide by patient (--split {draft.dataset.name}=N)"
        )
    return "use fewer clients (--split)"
