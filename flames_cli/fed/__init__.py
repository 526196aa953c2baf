"""The federation on Flower's Message API: server, client, messages, engines."""
