"""Secure aggregation in a federation's rounds: the server's side (`sums`, `round`) and the client's."""
