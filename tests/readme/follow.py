"""Follows README.md and the quick start literally: each command in its order, in a new checkout and a new environment.

    python tests/readme/follow.py [README.md docs/quickstart.md]

``sh`` and ``console`` blocks go to one shell for each page. A command that ends with ``&`` is waited for until it
listens. A Python block after "Save this as `send.py`" is saved; if its output follows, it is run. Outputs have to be as
shown, where ``...`` stands for anything. Left out is the command that runs the tests. Ports 8080 and 8081 become free
ones, so that a machine may follow twice at the same time.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support.ports import free_port

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "_build", "*.egg-info", "dist", "build")
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"^Save this as `(\w+\.py)`.*\n\n\Z", re.MULTILINE)
THE_TESTS = "nox -s tests"
SECONDS = 600


class Shell:
    """One shell in a folder, as a terminal has it; its environment has nothing of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {"8080": str(free_port()), "8081": str(free_port())}
        self._servers = 0
        path = os.pathsep.join([str(Path(sys._base_executable).parent), os.environ.get("PATH", os.defpath)])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("QXT_", "PYTHON", "VIRTUAL"))}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**kept, "PATH": path, "COLUMNS": "100"},
            encoding="utf-8",
        )

    def run(self, command: str, wanted: str) -> None:
        """Give the shell one command; fail if it fails, or if its output is not as shown."""
        print("$", command, flush=True)
        for shown, port in self._ports.items():
            command = command.replace(f":{shown}", f":{port}").replace(f"--port {shown}", f"--port {port}")
        if command.endswith("&"):
            self._servers += 1
            log = f"server-{self._servers}.log"
            until = f"for i in $(seq {SECONDS}); do grep -q 'listening on' {log} && break; sleep 1; done"
            got = self._give(f"{command.removesuffix('&')} >{log} 2>&1 &\n{until}; head -n 1 {log}")
        else:
            got = self._give(command)
        for shown, port in self._ports.items():
            got = got.replace(port, shown)
        if wanted.strip() and not doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS):
            sys.exit(f"the page shows\n{wanted}\nand the output is\n{got}")

    def _give(self, command: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(f"{{ {command}\n}} </dev/null\necho end-of-command $?\n")
        stdin.flush()
        got = ""
        for line in stdout:
            before, end, code = line.rpartition("end-of-command ")
            got += before if end else line
            if not end:
                continue
            if int(code):
                sys.exit(f"$ {command}\nended with {code.strip()}:\n{got}")
            return got
        sys.exit(f"$ {command}\nended the shell:\n{got}")

    def save(self, name: str, source: str) -> None:
        """Save a file as the page says."""
        (self._folder / name).write_text(source, encoding="utf-8")

    def close(self) -> None:
        """End the commands in the background, and the shell."""
        self._process.communicate("kill $(jobs -p) 2>/dev/null; wait\n")


def follow(page: Path, shell: Shell) -> None:
    """Do what a page says, from its first block to its last."""
    text = page.read_text(encoding="utf-8")
    found = list(BLOCKS.finditer(text))
    for block, after in zip(found, [*found[1:], None], strict=True):
        language, code = block[1], block[2]
        if language == "sh":
            for command in code.splitlines():
                if THE_TESTS not in command:
                    shell.run(command, "")
        elif language == "console":
            for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
                command, _, wanted = part.partition("\n")
                shell.run(command, wanted)
        elif language == "python":
            name = SAVED.search(text[: block.start()])
            if not name:
                sys.exit(f"{page.name}: nothing says where to save\n{code}")
            shell.save(name[1], code)
            if after and after[1] == "output":
                shell.run(f"python {name[1]}", after[2])
        elif language != "output":
            sys.exit(f"{page.name}: nobody can follow a block of {language}")


def main() -> None:
    """Follow the pages, each in a copy of the checkout of its own."""
    for name in sys.argv[1:] or ["README.md", "docs/quickstart.md"]:
        print(f"--- {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            checkout = Path(folder) / "qxt_async"
            shutil.copytree(ROOT, checkout, ignore=NOT_COPIED)
            shell = Shell(checkout)
            try:
                follow(checkout / name, shell)
            finally:
                shell.close()


if __name__ == "__main__":
    main()
