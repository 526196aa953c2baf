"""File formats: stills, NIfTI and DICOM to pixels and volumes, whatever data set they come from."""
