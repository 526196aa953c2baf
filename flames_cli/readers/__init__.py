"""The registry of data sets. Their names are available without importing what decodes images.

A new data set is a module of this package that defines a `base.Reader`, and one line in READERS.
"""

from typing import TYPE_CHECKING

from flames_cli.plugins import Origin, Registry

if TYPE_CHECKING:
    from flames_cli.readers.base import Reader


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


def _check_reader(found: object) -> str:
    # Imported here, since it imports NumPy.
    from flames_cli.readers.plugged import reader_fault

    return reader_fault(found)


def _adapt_reader(found: "Reader", origin: Origin) -> "Reader":
    from flames_cli.readers.plugged import adapt_reader

    return adapt_reader(found, origin)


READERS: Registry["Reader"] = Registry(
    "readers",
    {
        "brats": "flames_cli.readers.msd:BRATS",
        "busi": "flames_cli.readers.busi:BUSI",
        "otu2d": "flames_cli.readers.otu2d:OTU2D",
        "brats2020": "flames_cli.readers.brats_folders:BRATS2020",
        "brats2021": "flames_cli.readers.brats_folders:BRATS2021",
        "msd-liver": "flames_cli.readers.msd:LIVER",
        "msd-lung": "flames_cli.readers.msd:LUNG",
        "msd-pancreas": "flames_cli.readers.msd:PANCREAS",
        "lits": "flames_cli.readers.lits:LITS",
        "kits23": "flames_cli.readers.kits23:KITS23",
        "polypgen": "flames_cli.readers.polypgen:POLYPGEN",
        "lits-slices": "flames_cli.readers.lits_slices:LITS_SLICES",
        "kvasir": "flames_cli.readers.kvasir:KVASIR",
        "cvc-clinicdb": "flames_cli.readers.cvc:CVC_CLINICDB",
        "lgg": "flames_cli.readers.lgg:LGG",
        "manifest": "flames_cli.readers.manifest:MANIFEST",
    },
    check=_check_reader,
    adapt=_adapt_reader,
    reserved=ALIASES,
)
"""Reader of each data set."""


def find_reader(name: str) -> "Reader | None":
    """Return the reader with this name or alias, in any case of letters; None if there is none."""
    lower = name.lower()
    return READERS.get(ALIASES.get(lower, lower))


def get_reader(name: str) -> "Reader":
    """Return the reader with this name or alias, in any case of letters.

    Raises:
        FlamesError: the name is not known, or its plug-in cannot be used.
    """
    lower = name.lower()
    return READERS.look_up(ALIASES.get(lower, lower))


def names_of(reader: "Reader") -> tuple[str, ...]:
    """Return the name of `reader` and its aliases, in lower case."""
    return (reader.name, *(alias for alias, name in ALIASES.items() if name == reader.name))


def plugin_facts(reader: "Reader") -> dict[str, list[str]]:
    """Return the entry of a report for a plug-in's reader, with package and version; none for a built-in."""
    origin = READERS.origin(reader.name)
    return {"plugins": [origin.fact]} if origin else {}
