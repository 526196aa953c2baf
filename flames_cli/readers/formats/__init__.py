"""Decoders of file formats: still images, NIfTI and DICOM become pixels and volumes, for every data set."""
