"""`flames ARGUMENTS` with a short heartbeat: the server notices a killed node after 20 s, not after 60 s."""

import sys

SECONDS = 10
"""Interval of a node's heartbeat in seconds; the server gives a node up when two are missing."""


def run_node() -> None:
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection

    from flames_cli.flower import supernode

    heartbeat.HEARTBEAT_DEFAULT_INTERVAL = SECONDS
    fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = SECONDS
    supernode.main()


def run_command() -> None:
    from flames_cli.__main__ import main
    from flames_cli.stages.deploy import node

    real = node.node_command
    node.node_command = lambda *given: [sys.executable, __file__, "supernode", *real(*given)[4:]]
    main()


if __name__ == "__main__":
    if sys.argv[1] == "supernode":
        del sys.argv[1]
        run_node()
    else:
        run_command()
