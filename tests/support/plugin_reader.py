"""The source of a package that reads a data set of arrays, as a plug-in's author writes it."""

ARRAYS = '''
"""Images as NPY files, with masks in a folder beside them."""

import numpy as np

from flames_cli.readers.base import RawCase, Reader, Source


def list_sources(root):
    return [
        Source(name=path.stem, patient=path.stem, image=path, masks=(root / "masks" / path.name,))
        for path in sorted(root.glob("*.npy"))
    ]


def read_source(source, options):
    print("reading")
    image, (mask,) = np.load(source.image), map(np.load, source.masks)
    return [RawCase(source.patient, source.patient, image, mask)]


ARRAYS = Reader(
    name="arrays", modality="US", organ="thyroid", licence="CC0", folder="arrays",
    layout="1.npy with masks/1.npy",
    list_sources=list_sources, read_source=read_source, patient_unit="image",
)
'''
