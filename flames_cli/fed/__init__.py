"""The federation on Flower's Message API: algorithms, server, client, engines."""
