"""The ClientApp that Flower's own engines load by name, on a node or in a simulation."""

from flames_cli.fed.client import make_client_app

CLIENT_APP = "flames_cli.fed.apps:client_app"
"""Import path of the ClientApp; a FLAMES node accepts no other one."""

client_app = make_client_app()
