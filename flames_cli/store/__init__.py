"""Files of every format: versioned, checked when read, written to a temporary name and then moved."""
