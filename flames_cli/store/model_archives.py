"""Zip files with one model folder, to give it to others."""

import zipfile
from pathlib import Path

from flames_cli.store.files.atomic import replacing
from flames_cli.store.models import CARD, INFO, WEIGHTS

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Date of every entry, so that the same model gives the same bytes."""


def pack_model(folder: Path, target: Path) -> None:
    """Write the files of a model folder to a zip file, atomically; the same files give the same bytes.

    Raises:
        NotWritten: the disk is full.
    """
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (INFO, CARD, WEIGHTS):
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", EARLIEST)
            entry.external_attr = 0o644 << 16
            # Deflate takes a minute for the weights of a large model, and saves a tenth of them.
            entry.compress_type = zipfile.ZIP_STORED if name == WEIGHTS else zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                while block := source.read(2**20):
                    sink.write(block)
