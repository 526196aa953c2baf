"""Images and masks as arrays: geometry, intensity, lesions, near duplicates; no files."""
