"""Runs docs/tutorial/django.md block by block, like a reader: with a real service, a real
Django and an empty directory.

It changes only two things. The block that installs, which the page marks, is replaced by
INSTALLED, because there may be no package index. The two ports are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from .conftest import ON_POSTGRES
from .fixtures_client import ROOT, free_port, service_binary  # noqa: F401

pytestmark = pytest.mark.skipif(ON_POSTGRES, reason="the tutorial has its own database")

PAGE = ROOT / "docs" / "tutorial" / "django.md"
MARK = "<!-- The test replaces this block: it has a built program and Python's packages already. -->"
# Replaces the marked block: the packages are on the path already.
INSTALLED = 'export CHECKOUT="$TUTORIAL_CHECKOUT"\n'
PATIENCE = 180  # seconds for all blocks, which take about ten


def fenced(text: str) -> "List[tuple[str, str, str]]":
    """Returns the blocks of the page: the line before, the language and the lines of each."""
    return re.findall(r"^([^\n]*)\n```(\w*)\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> List[str]:
    """Returns the blocks of commands, with the marked one replaced."""
    found = [(before, block) for before, language, block in fenced(text) if language == "sh"]
    assert len(found) == text.count("```sh\n"), "each block has a line before it"
    assert sum(before == MARK for before, _ in found) == 1, "one block of the tutorial is replaced"
    return [INSTALLED if before == MARK else block for before, block in found]


def shown(text: str) -> List[str]:
    """Returns the blocks of output."""
    return [block for _, language, block in fenced(text) if not language]


def without_ids(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", text)


def run(script: str, directory: Path, env: "dict[str, str]") -> "tuple[int, str]":
    """Runs a script in its own session, and kills the session at the end or after a time-out."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script], cwd=directory, env=env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -1, process.communicate()[0] + f"\nnot within {PATIENCE} seconds"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # processes that a failed script left
        except ProcessLookupError:
            pass


def test_the_tutorial_runs_by_copy_and_paste(service_binary: str, tmp_path: Path) -> None:  # noqa: F811
    checkout, here = tmp_path / "checkout", tmp_path / "empty"
    (checkout / "bin").mkdir(parents=True)
    here.mkdir()
    (checkout / "bin" / "messaging").symlink_to(Path(service_binary).resolve())
    python = checkout / "bin" / "python"  # the virtual environment has a program of this name
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)

    text = PAGE.read_text()
    script = "\n".join(f"echo '== block {i}'\n{block}" for i, block in enumerate(commands(text), 1))
    service_port, django_port = str(free_port()), str(free_port())

    def on_free_ports(page: str) -> str:
        return page.replace("8765", service_port).replace("8000", django_port)

    status, output = run(on_free_ports(script), here, {
        "PATH": f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "python"), "PYTHONDONTWRITEBYTECODE": "1",
        "TUTORIAL_CHECKOUT": str(checkout), "HTTP_PORT": service_port, "DISK_MIN_FREE": "1MiB",
    })

    logs = "".join(f"\n== {log.name}\n{log.read_text(errors='replace')}" for log in here.glob("*.log"))
    assert status == 0, output + logs
    assert len(re.findall(r"^\S+ 456 to 789 You are welcome!$", output, re.M)) == 1, output
    # The output matches the page, except for the message's id.
    came = without_ids(output).splitlines()
    for line in without_ids(on_free_ports("".join(shown(text)))).splitlines():
        assert line in came, f"the page shows {line!r}, which is not in the output:\n{output}"
