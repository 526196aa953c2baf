"""Federated learning as arithmetic: reports, blends, server steps, privacy; no files, no network."""
