from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.client_state import client_state_folder
from flames_cli.fed.node import NodeSettings

RUN = "0123456789abcdef"


def settings(memory: Path | None = Path("memory")) -> NodeSettings:
    return NodeSettings((Path("shard.h5"),), client_state=memory)


def test_a_client_has_a_folder_of_its_own_for_every_run():
    assert client_state_folder(settings(), RUN, "hospital-a") == Path("memory") / RUN / "hospital-a"


NAMES = ["..", ".", "../../out", "a/b", "a\\b", "/etc", ".hidden", "PET CT", "Ödem"]


@pytest.mark.parametrize("client", NAMES)
def test_any_name_of_a_client_stays_within_its_run(client):
    folder = client_state_folder(settings(), RUN, client)
    assert folder.parent == Path("memory") / RUN
    assert folder.name not in ("", ".", "..")


TOKENS = ["", "..", "../../../etc", "/etc", RUN.upper(), RUN[:-1], f"{RUN}0", f"{RUN}\n", "not hexadecimal!"]


@pytest.mark.parametrize("run", TOKENS)
def test_a_token_of_another_form_names_no_folder(run):
    with pytest.raises(FlamesError, match=r"run's token is .*expected 16 hex digits"):
        client_state_folder(settings(), run, "hospital-a")


def test_a_node_without_a_folder_says_how_to_give_one():
    with pytest.raises(FlamesError, match="names none; pass --node-config 'client-state=\"FOLDER\"'"):
        client_state_folder(settings(None), RUN, "hospital-a")
