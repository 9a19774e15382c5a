"""The group of all commands: start, help, errors, secrets."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.command_line import PASSWORD, TEXT, Run, numbers

import qxt_async
from qxt_async import cli
from qxt_async.cli import program
from qxt_async.cli.program import qxt
from qxt_async.runtime.words import missing_extra
from qxt_async.simulator import SimulatedGateway

HEAVY = ("httpx", "rich", "uvicorn", "aiohttp", "anyio._backends", "qxt_async.simulator", "qxt_async.cli.bulk")


def test_help_loads_nothing_heavy() -> None:
    """`qxt --help` starts fast: no HTTP library, no rich, no server, no command's module."""
    script = (
        "import sys; sys.argv = ['qxt', '--help']\n"
        "from qxt_async.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


@pytest.mark.parametrize("name", sorted(qxt.list_commands(None)))  # type: ignore[arg-type]
def test_a_command_loads_no_other(name: str) -> None:
    """No command pays for the imports of another."""
    modules = {each: place.partition(":")[0] for each, (place, _) in program.COMMANDS.items()}
    others = {f"qxt_async.cli.{module}" for module in modules.values() if module != modules[name]}
    script = (
        f"import sys; sys.argv = ['qxt', {name!r}, '--help']\n"
        "from qxt_async.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        f"others = {others!r} & set(sys.modules)\n"
        "assert not others, others\n"
        "assert 'rich' not in sys.modules and 'httpx' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(qxt.list_commands(None)))  # type: ignore[arg-type]
def test_the_list_says_what_the_command_says(name: str) -> None:
    """The sentence in the list of commands is the first one of the command's own help."""
    command = qxt.get_command(click.Context(qxt), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == program.COMMANDS[name][1]


def test_python_m_is_qxt() -> None:
    """`python -m qxt_async` says the version."""
    done = subprocess.run([sys.executable, "-m", "qxt_async", "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"qxt, version {qxt_async.__version__}\n"


def test_importing_main_runs_nothing() -> None:
    """Whoever walks all modules starts no command."""
    importlib.import_module("qxt_async.__main__")


def test_without_click_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the command names it instead of failing with an import."""
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "qxt_async.cli.program")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == missing_extra("cli", "the command qxt")


def test_another_missing_module_is_no_matter_of_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else cannot be imported is told as it is."""
    monkeypatch.setitem(sys.modules, "qxt_async.cli.program", None)
    with pytest.raises(ModuleNotFoundError, match=r"qxt_async\.cli\.program"):
        cli.main()


def test_main_runs_the_group(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The entry point takes the process's arguments and exits with the command's code."""
    monkeypatch.setattr(sys, "argv", ["qxt", "nothing"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "No such command 'nothing'" in capsys.readouterr().err


def test_ctrl_c_anywhere_ends_with_130(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C while nothing is under way yet ends the command quietly."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qxt_async.files.readers.file_format", interrupted)
    ended = run("check", tmp_path / "numbers.txt", "--text", TEXT)
    assert (ended.exit_code, ended.stdout, ended.stderr.strip()) == (130, "", "")


class TestAccount:
    """Where the account comes from."""

    @pytest.mark.parametrize(
        ("environment", "hint"),
        [
            ({}, "no user: set QXT_USER"),
            ({"QXT_USER": "user"}, "no gateway: set QXT_BASE_URL"),
            (
                {"QXT_USER": "user", "QXT_BASE_URL": "http://gateway.test/qxt"},
                "no password: set QXT_PASSWORD, or QXT_PASSWORD_MD5",
            ),
            (
                {"QXT_USER": "user", "QXT_BASE_URL": "gateway.test", "QXT_PASSWORD": "x"},
                "base_url has to be like http://HOST:PORT/qxt",
            ),
        ],
        ids=["user", "address", "password", "bad-address"],
    )
    @pytest.mark.parametrize(
        "command", [("balance",), ("send", "13800138000", "--text", TEXT)], ids=["balance", "send"]
    )
    def test_what_is_missing_is_named(
        self,
        run: Run,
        monkeypatch: pytest.MonkeyPatch,
        command: tuple[str, ...],
        environment: dict[str, str],
        hint: str,
    ) -> None:
        """A missing or broken part of the account is a usage error that says what to set."""
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        ended = run(*command)
        assert ended.exit_code == 2
        assert hint in ended.stderr
        assert ended.stdout == ""

    def test_no_command_takes_a_password(self) -> None:
        """A password in an argument would be in the list of processes."""
        for name in qxt.list_commands(None):  # type: ignore[arg-type]
            command = qxt.get_command(click.Context(qxt), name)
            assert command is not None
            assert not [option for parameter in command.params for option in parameter.opts if "pass" in option]

    def test_the_digest_will_do(self, run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """QXT_PASSWORD_MD5 stands for the password; --user and --base-url for their variables."""
        monkeypatch.setenv("QXT_PASSWORD_MD5", hashlib.md5(PASSWORD.encode()).hexdigest())
        ended = run("balance", "--user", "user", "--base-url", url)
        assert (ended.exit_code, ended.stdout) == (0, "sms 10,000,000\nmms 0\n")

    def test_on_a_terminal_the_password_is_asked_for(
        self, url: str, start: Callable[..., subprocess.Popen[str]]
    ) -> None:
        """The prompt is on the terminal, and what is typed does not show."""
        controller, terminal = pty.openpty()
        try:
            process = start(
                "balance", "--user", "user", "--base-url", url, "--json", stdin=terminal, start_new_session=True
            )
            assert process.stderr is not None
            assert process.stdout is not None
            prompt = process.stderr.read(len("Password of user: "))
            os.write(controller, f"{PASSWORD}\n".encode())
            assert process.wait(120) == 0
            os.set_blocking(controller, False)
            with pytest.raises(BlockingIOError):  # nothing was echoed
                os.read(controller, 1)
            assert process.stdout.read() == '{"sms": 10000000, "mms": 0}\n'
            assert prompt == "Password of user: "
            assert PASSWORD not in process.stderr.read()
        finally:
            os.close(controller)
            os.close(terminal)


@pytest.mark.usefixtures("account")
class TestSecrets:
    """What may not be seen."""

    def test_verbose_logs_no_secrets(self, run: Run, tmp_path: Path, gateway: SimulatedGateway) -> None:
        """With --verbose the library's log is on stderr; no password, digest, text or whole number is in it."""
        gateway.fail_share("take-then-close", 1.0)
        path = tmp_path / "numbers.txt"
        path.write_text("\n".join(numbers(20)), encoding="utf-8")
        digest = hashlib.md5(PASSWORD.encode()).hexdigest()
        for command in (("send", *numbers(20)), ("bulk", path)):
            ended = run(*command, "--text", TEXT, "--verbose")
            assert ended.exit_code == 3
            assert "INFO batch 0: 20 numbers, unknown" in ended.stderr
            for secret in (PASSWORD, digest, TEXT, *numbers(20)):
                assert secret not in ended.output

    def test_logging_ends_with_the_command(self, run: Run) -> None:
        """--verbose changes nothing for good."""
        logger = logging.getLogger("qxt_async")
        before = (logger.level, list(logger.handlers))
        assert run("balance", "--verbose").exit_code == 0
        assert (logger.level, list(logger.handlers)) == before


@pytest.mark.usefixtures("account")
class TestBalance:
    """`qxt balance`."""

    def test_for_people_and_machines(self, run: Run, gateway: SimulatedGateway) -> None:
        """It prints both balances, or one JSON object."""
        gateway.balance = 1234
        assert run("balance").stdout == "sms 1,234\nmms 0\n"
        assert run("balance", "--json").stdout == '{"sms": 1234, "mms": 0}\n'

    @pytest.mark.parametrize("transport", ["httpx", "httpx2", "aiohttp"])
    def test_transports(self, run: Run, transport: str) -> None:
        """Every HTTP library will do."""
        assert run("balance", "--transport", transport).exit_code == 0

    def test_a_refusal_is_one_line(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """The wrong password is exit code 1 and one clear line, without a traceback."""
        monkeypatch.setenv("QXT_PASSWORD", "wrong")
        ended = run("balance")
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert ended.stderr.startswith("Error: the gateway does not accept the password")
        assert ended.stderr.count("\n") == 1

    def test_an_unreadable_answer_is_a_failure(self, run: Run, gateway: SimulatedGateway) -> None:
        """Nothing was sent, so no answer is exit code 1, not 3."""
        gateway.fail_next("take-then-html", of="balance")
        assert run("balance").exit_code == 1


def test_an_unknown_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mistake of ours is no error line: it has to be seen."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("qxt_async.files.readers.file_format", broken)
    ended = CliRunner().invoke(qxt, ["check", str(tmp_path), "--text", TEXT])
    assert isinstance(ended.exception, ZeroDivisionError)


def _walk(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group, info_name="qxt", parent=click.Context(qxt) if path else None)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))


@pytest.mark.parametrize("path", list(_walk(qxt)), ids=" ".join)
def test_the_help_has_an_example_that_can_be_typed(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example is of that command, and its options and arguments exist."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    help_text = CliRunner().invoke(qxt, [*path, "--help"], terminal_width=200).output
    examples = help_text.partition("Examples:\n")[2].splitlines()
    assert examples
    for example in examples:
        assert " ".join(("qxt", *path)) in example
        words = shlex.split(example.partition("qxt ")[2].partition(" > ")[0])
        context, command = click.Context(qxt, info_name="qxt"), qxt
        while isinstance(command, click.Group):
            _, command, words = command.resolve_command(context, words)
            context = click.Context(command, parent=context)
        with suppress(click.exceptions.Exit):  # of --new-secret, which ends there
            command.make_context(command.name, words, parent=context)
