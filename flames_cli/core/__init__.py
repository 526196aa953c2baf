"""Pure functions over arrays: no files, no torch, no Flower."""
