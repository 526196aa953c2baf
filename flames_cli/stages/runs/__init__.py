"""Parts of `flames runs`: the list of all runs, and their removal."""
