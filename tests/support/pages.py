"""Reads a page of the documentation the way its reader would: every block of code is run.

- ``python``: run as it stands; ``await`` may stand outside of a function, then it runs in the page's event loop. A
  block with test functions goes into a file instead, and pytest runs those files when the page ends. A block after
  "Save this as `send.py`" is also that file.
- ``console``: lines after ``$`` are given to a shell, or, if they are ``qxt`` and its arguments only, to the function
  that is ``qxt``, because a process takes ten times as long; what follows is the output that they must have. A command
  that serves (``qxt simulate``, with or without ``&``) goes on until the page ends, in a process.
- ``output``: what the ``python`` block before it must have printed.

In outputs ``...`` stands for anything. ``127.0.0.1:8080`` in a page becomes the address of a simulated gateway on a
free port; the environment points to it, and ``client`` is a client of it. 8081 becomes another free port.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import CodeType
from typing import Self

import anyio.from_thread
import anyio.to_thread
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser as MarkdownBlocks
from sybil.parsers.myst import CodeBlockParser as MystBlocks

from qxt_async import QxtClient
from qxt_async.cli.program import qxt
from qxt_async.simulator import SimulatedGateway, serve
from support.ports import free_port

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = ("python", "console", "output")

_PORT = re.compile(r"(127\.0\.0\.1:|--port )(8080|8081)\b")
_SERVES = re.compile(r"qxt (simulate|receive)\b")
_PLAIN = re.compile(r"qxt [^|&;<>$`(){}*?!]+")
_LISTENS = re.compile(r"listening on|running on", re.IGNORECASE)
_SAVED = re.compile(r"^Save this as `(\w+\.py)`.*\n\n\Z", re.MULTILINE)
_TESTS = re.compile(r"^(async )?def test_|^@pytest\.fixture", re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block of a page."""
    return re.findall(r"^```([\w{}-]*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def runnable(page: Path) -> bool:
    """Whether a page has anything to run."""
    return any(language in LANGUAGES for language, _ in blocks(page))


def check_output(wanted: str, got: str) -> None:
    """Compare an output with what the page shows, where ``...`` stands for anything."""
    if not doctest.OutputChecker().check_output(wanted.rstrip() + "\n", got.rstrip() + "\n", doctest.ELLIPSIS):
        raise AssertionError(f"the page shows\n{wanted}\nand the output is\n{got}")


class Reader:
    """Runs the examples of one page, in order, in a folder of their own.

    Args:
        page: to read.
        folder: empty; the current folder of everything that runs.
    """

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._stack = ExitStack()
        self._printed = ""
        self._exit_code = 0
        self._test_files = 0
        self._environ: dict[str, str] = {}
        self.gateway = SimulatedGateway()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._stack = stack
            self._portal = stack.enter_context(anyio.from_thread.start_blocking_portal("asyncio"))
            if any(_SERVES.search(text) and _PORT.search(text) for _, text in blocks(self._page)):
                ports = free_port(), free_port()
            else:
                base_url = stack.enter_context(serve(self.gateway))
                ports = int(base_url.split(":")[2].split("/")[0]), free_port()
            self._ports = dict(zip(("8080", "8081"), map(str, ports), strict=True))
            stack.enter_context(contextlib.chdir(self._folder))
            self._set_environment()
            # Entered and left in one task, whatever the examples do.
            async_stack = stack.enter_context(self._portal.wrap_async_context_manager(AsyncExitStack()))
            self._client = self._portal.call(async_stack.enter_async_context, QxtClient.from_env())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _set_environment(self) -> None:
        before = dict(os.environ)

        def restore() -> None:
            os.environ.clear()
            os.environ.update(before)

        self._stack.callback(restore)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ.update(
            QXT_USER="user",
            QXT_PASSWORD="password",
            QXT_BASE_URL=self._here("http://127.0.0.1:8080/qxt"),
            COLUMNS="100",
        )
        for name in ("QXT_PASSWORD_MD5", "QXT_JOURNAL", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
            os.environ.pop(name, None)

    def read(self) -> None:
        """Run every example of the page; raises what an example raises, with the page's line in the traceback."""
        parsers = MystBlocks if self._page.parent.name == "docs" else MarkdownBlocks
        run = {"python": self.run_python, "console": self.run_console, "output": self.run_output}
        sybil = Sybil(parsers=[parsers(language, run[language]) for language in LANGUAGES])
        for example in sybil.parse(self._page).examples():
            example.namespace["client"] = self._client
            example.namespace["gateway"] = self.gateway
            try:
                example.evaluate()
            except AssertionError as error:
                raise AssertionError(f"{self._page.name}, line {example.line}: {error}") from error
        if self._test_files:
            self._run_test_files()

    def _here(self, text: str) -> str:
        return _PORT.sub(lambda found: found[1] + self._ports[found[2]], text)

    def _there(self, text: str) -> str:
        for shown, port in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{shown}")
        return text

    def run_python(self, example: Example) -> None:
        """Run a block, or put it aside if it holds tests."""
        source = self._here(example.parsed)
        if name := _SAVED.search(example.document.text[: example.start]):
            Path(name[1]).write_text(source, encoding="utf-8")
        if _TESTS.search(source):
            self._test_files += 1
            Path(f"test_page_{self._test_files}.py").write_text(source, encoding="utf-8")
            return
        # Moved down to the page's own line, for tracebacks.
        code = compile(
            "\n" * example.line + source,
            example.path,
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                self._portal.call(self._await, code, example.namespace)
            else:
                exec(code, example.namespace)
        self._printed = printed.getvalue()

    @staticmethod
    async def _await(code: CodeType, namespace: dict[str, object]) -> None:
        await eval(code, namespace)

    def run_output(self, example: Example) -> None:
        """Compare what the last Python block printed."""
        check_output(example.parsed, self._there(self._printed))

    def run_console(self, example: Example) -> None:
        """Give each command to a shell and compare its output, if one is shown."""
        parts = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)
        if parts[0].strip():
            raise AssertionError("a console block begins with a command: $ …")
        commands = [self._command_and_output(part) for part in parts[1:]]
        for place, (command, output) in enumerate(commands):
            if variables := re.fullmatch(r"export (\w+=\S+)( \w+=\S+)*", command):
                for variable in variables[0].split()[1:]:
                    name, _, value = variable.partition("=")
                    os.environ[name] = value
            elif _SERVES.match(command):
                self._serve(command, output)
            else:
                expects_failure = place + 1 < len(commands) and commands[place + 1][0] == "echo $?"
                self._run(command, output, may_fail=expects_failure)

    def _command_and_output(self, part: str) -> tuple[str, str]:
        lines = part.split("\n")
        command = [lines.pop(0)]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0).removeprefix("> "))
        return self._here("\n".join(command)), "\n".join(lines)

    def _run(self, command: str, output: str, *, may_fail: bool) -> None:
        run = self._run_here if _PLAIN.fullmatch(command) else self._run_in_a_shell
        self._exit_code, printed = run(command)
        if self._exit_code and not may_fail:
            raise AssertionError(f"$ {command}\nended with {self._exit_code}:\n{printed}")
        if output.strip():
            check_output(output, self._there(printed))

    def _run_in_a_shell(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", f"(exit {self._exit_code}); {command}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    @staticmethod
    def _run_here(command: str) -> tuple[int, str]:
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        arguments = shlex.split(command.replace("\\\n", " "))[1:]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                qxt(arguments, prog_name="qxt")
            except SystemExit as ended:
                return int(ended.code or 0), printed.buffer.getvalue().decode()
        raise AssertionError(f"$ {command}\ndid not end with an exit code")

    def _serve(self, command: str, output: str) -> None:
        process = self._stack.enter_context(
            subprocess.Popen(
                ["bash", "-c", f"exec {command.removesuffix('&')}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                encoding="utf-8",
            )
        )
        self._stack.callback(process.terminate)
        said = ""
        for line in process.stdout or ():
            said += line
            if _LISTENS.search(line):
                break
        else:
            raise AssertionError(f"$ {command}\nended with {process.wait()}:\n{said}")
        if output.strip():
            check_output(output, self._there(said))

    def _run_test_files(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", "."],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            # What looks for secrets would import us before pytest does.
            env={name: value for name, value in os.environ.items() if name != "QXT_CANARIES"},
            timeout=90,
            check=False,
        )
        if done.returncode or "passed" not in done.stdout:
            raise AssertionError(f"the page's tests do not pass:\n{done.stdout}")
