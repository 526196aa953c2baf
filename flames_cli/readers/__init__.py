"""The registry of data sets. Their names are available without importing what decodes images.

A new data set is a module of this package that defines a `base.Reader`, and one line in READERS.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from flames_cli.errors import FlamesError

if TYPE_CHECKING:
    from flames_cli.readers.base import Reader


class _Readers(Mapping[str, "Reader"]):
    """Mapping from names to readers, each of which is imported when it is looked up."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> "Reader":
        module, _, entry = self._places[name].partition(".")
        reader: Reader = getattr(import_module(f"{__name__}.{module}"), entry)
        return reader

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


READERS: Mapping[str, "Reader"] = _Readers(
    {
        "brats": "msd.BRATS",
        "busi": "busi.BUSI",
        "otu2d": "otu2d.OTU2D",
        "brats2020": "brats_folders.BRATS2020",
        "brats2021": "brats_folders.BRATS2021",
        "msd-liver": "msd.LIVER",
        "msd-lung": "msd.LUNG",
        "msd-pancreas": "msd.PANCREAS",
        "lits": "lits.LITS",
        "kits23": "kits23.KITS23",
        "polypgen": "polypgen.POLYPGEN",
        "lits-slices": "lits_slices.LITS_SLICES",
        "kvasir": "kvasir.KVASIR",
        "cvc-clinicdb": "cvc.CVC_CLINICDB",
        "lgg": "lgg.LGG",
        "manifest": "manifest.MANIFEST",
    }
)
"""Reader of each data set; the values here are its module and constant, within this package."""

ALIASES = {
    "task01_braintumour": "brats",
    "otu_2d": "otu2d",
    "mmotu": "otu2d",
    "task03_liver": "msd-liver",
    "task06_lung": "msd-lung",
    "task07_pancreas": "msd-pancreas",
    "lits17": "lits",
    "kits": "kits23",
    "polypgen2021": "polypgen",
    "lits_slices": "lits-slices",
    "data_lits": "lits-slices",
    "kvasir-seg": "kvasir",
    "kvasir_seg": "kvasir",
    "cvc": "cvc-clinicdb",
    "cvc-612": "cvc-clinicdb",
    "cvcclinicdb": "cvc-clinicdb",
    "tcga-lgg": "lgg",
    "lgg-mri-segmentation": "lgg",
    "kaggle_3m": "lgg",
}
"""Names in READERS of other names that users may type, in lower case."""


def find_reader(name: str) -> "Reader | None":
    """Return the reader with this name or alias, in any case of letters; None if there is none."""
    lower = name.lower()
    return READERS.get(ALIASES.get(lower, lower))


def get_reader(name: str) -> "Reader":
    """Return the reader with this name or alias, in any case of letters.

    Raises:
        FlamesError: the name is not known.
    """
    if reader := find_reader(name):
        return reader
    raise FlamesError(f"data set '{name}' is not known; choose one of {', '.join(READERS)}")


def names_of(reader: "Reader") -> tuple[str, ...]:
    """Return the name of `reader` and its aliases, in lower case."""
    return (reader.name, *(alias for alias, name in ALIASES.items() if name == reader.name))
