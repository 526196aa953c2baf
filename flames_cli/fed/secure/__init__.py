"""Secure aggregation in the rounds of a federation: the server's side (`round`) and the client's (`client`)."""
