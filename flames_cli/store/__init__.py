"""Every file format: versioned, checked on reading, written to a temporary name and moved."""
