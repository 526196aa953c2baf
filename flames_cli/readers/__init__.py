"""Raw data sets: one file a layout, all with the same names. A new reader is its file and one line here."""

from flames_cli.errors import FlamesError
from flames_cli.readers import busi, msd, otu2d
from flames_cli.readers.base import Reader

READERS: dict[str, Reader] = {
    msd.NAME: msd,
    busi.NAME: busi,
    otu2d.NAME: otu2d,
}


def get_reader(name: str) -> Reader:
    """The reader called `name`, or one of whose aliases it is; unknown names list the known ones."""
    for reader in READERS.values():
        if name.lower() in (reader.NAME, *reader.ALIASES):
            return reader
    raise FlamesError(f"data set '{name}' is not known; choose one of {', '.join(READERS)}")
