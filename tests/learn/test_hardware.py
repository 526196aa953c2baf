"""The description of this machine has its facts, and nothing that identifies its owner."""

import getpass
import platform

import tomli_w
import torch

from flames_cli.learn.hardware import describe_machine


def test_the_machine_is_described_by_its_facts():
    found = describe_machine()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    assert found["cpu"]
    assert 0 < found["memory_gib"] < 1e5
    assert found["cores"] >= 1
    assert len(found["gpus"]) >= torch.cuda.device_count()


def test_the_description_names_neither_the_host_nor_the_user(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "host-of-a-hospital")
    text = tomli_w.dumps(describe_machine())
    assert "host-of-a-hospital" not in text
    assert f"/home/{getpass.getuser()}" not in text
