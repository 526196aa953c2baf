"""Raw data sets: one file a layout, all with the same names. A new reader is its file and one line here."""

from flames_cli.errors import FlamesError
from flames_cli.readers import (
    brats,
    brats2020,
    brats2021,
    busi,
    cvc,
    kits23,
    kvasir,
    lgg,
    lits,
    lits_slices,
    manifest,
    msd_liver,
    msd_lung,
    msd_pancreas,
    otu2d,
    polypgen,
)
from flames_cli.readers.base import Reader

READERS: dict[str, Reader] = {
    brats.NAME: brats,
    busi.NAME: busi,
    otu2d.NAME: otu2d,
    brats2020.NAME: brats2020,
    brats2021.NAME: brats2021,
    msd_liver.NAME: msd_liver,
    msd_lung.NAME: msd_lung,
    msd_pancreas.NAME: msd_pancreas,
    lits.NAME: lits,
    kits23.NAME: kits23,
    polypgen.NAME: polypgen,
    lits_slices.NAME: lits_slices,
    kvasir.NAME: kvasir,
    cvc.NAME: cvc,
    lgg.NAME: lgg,
    manifest.NAME: manifest,
}


def find_reader(name: str) -> Reader | None:
    """The reader called `name` in any case, or one of whose aliases it is, where there is one."""
    known = (reader for reader in READERS.values() if name.lower() in (reader.NAME, *reader.ALIASES))
    return next(known, None)


def get_reader(name: str) -> Reader:
    """The reader called `name`, or one of whose aliases it is; unknown names list the known ones."""
    if reader := find_reader(name):
        return reader
    raise FlamesError(f"data set '{name}' is not known; choose one of {', '.join(READERS)}")
