"""`flames ARGUMENTS`; but a node that it runs is missed 20 seconds after it is killed, not after a minute."""

import sys

SECONDS = 10
"""Between a node's signs of life; two that fail to come, and the server gives it up."""


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
