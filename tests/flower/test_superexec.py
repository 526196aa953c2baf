"""What a server or a node does once its SuperExec has died: stand-ins of both, as processes."""

import subprocess
import sys

import psutil
import pytest

OWNER = """
import subprocess, sys, time
from flames_cli.flower import superexec
superexec.POLL_SECONDS, superexec.GRACE_SECONDS = 0.05, float(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "flower-superexec"])
print(child.pid, flush=True)
superexec.end_with_superexec()
time.sleep(60)
"""


@pytest.fixture
def owner():
    """owner(grace): a process with a SuperExec; it and that one's number."""
    started = []

    def start(grace):
        command = [sys.executable, "-c", OWNER, str(grace)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        return process, psutil.Process(int(process.stdout.readline()))

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()
        process.communicate()


def test_who_lost_its_superexec_ends_after_a_while(owner):
    process, superexec = owner(0.0)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    superexec.kill()
    assert process.wait(30) == -15
