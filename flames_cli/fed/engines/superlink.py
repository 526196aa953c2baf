"""The superlink engine: a federation of real nodes, by the SuperLink that `flames deploy server` runs."""

from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.deployed.flower_cli import FlowerCli, find_superlink


def require_superlink(home: Path, port: int, root_certificates: Path) -> FlowerCli:
    """The SuperLink that listens on `port` of this machine.

    Raises:
        FlamesError: none answers.
    """
    cli = find_superlink(home, port, root_certificates)
    if cli is None:
        raise FlamesError(
            f"no server answers at port {port} of this machine; start it with `flames deploy server` here, "
            "and look with `flames deploy status`"
        )
    return cli
