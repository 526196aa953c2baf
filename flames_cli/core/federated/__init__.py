"""Federated learning as pure functions: reports, blends, server steps, privacy; no files, no network."""
