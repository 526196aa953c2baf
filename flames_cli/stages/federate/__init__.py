"""A federation's parts: what is run, by which engine, and what is written."""
