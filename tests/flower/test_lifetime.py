"""A server or a node whose SuperExec has ended: stand-ins of both, as processes."""

import subprocess
import sys
import time

import psutil
import pytest

OWNER = """
import subprocess, sys, time
from flames_cli.flower.lifetime import end_with_superexec
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "flower-superexec"])
print(child.pid, flush=True)
end_with_superexec(poll_seconds=0.05, grace_seconds=float(sys.argv[1]))
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


def test_a_process_ends_after_its_superexec(owner):
    process, superexec = owner(0.0)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    superexec.kill()
    assert process.wait(30) == -15


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    watching = (
        "import os, time; from flames_cli.flower.lifetime import end_with_parent; end_with_parent();"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    starting = (
        "import os, pathlib, sys, time; from flames_cli.flower.processes import start;"
        f"log = pathlib.Path({str(tmp_path / 'log')!r});"
        f"start([sys.executable, '-c', {watching!r}], log, dict(os.environ));\n"
        "while not log.read_text().endswith('\\n'): time.sleep(0.02)\n"
        "os.kill(os.getpid(), 9)"
    )

    subprocess.run([sys.executable, "-c", starting], check=False, timeout=60)

    child = int((tmp_path / "log").read_text())
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
