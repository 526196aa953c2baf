"""The ClientApp that Flower's own engines load by name, on a node or in a simulation."""

from flames_cli.fed.client import make_client_app

CLIENT_APP = "flames_cli.fed.apps:client_app"
"""Its name; the only one that a FLAMES node accepts."""

client_app = make_client_app()
