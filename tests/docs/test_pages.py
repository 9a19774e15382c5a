"""Every example in the READMEs and the documentation runs, and what they say of commands and files is so."""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

import pytest
from support.pages import LANGUAGES, PAGES, ROOT, Reader, blocks, check_output, runnable

import qxt_async

README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
# What stands behind the other groups and may be longer.
LONG_GROUPS = ("Reference", "Internals")
MOST_WORDS = 900
# What furo shows of a line of code.
WIDTH = 88
SETUP = "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s "


# The code of the Chinese README is the English one's: see test_the_readmes_agree.
READ = [page for page in PAGES if runnable(page) and page != README_ZH]


@pytest.mark.slow
@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_every_example_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """Python blocks run against a simulated gateway, console blocks in a shell, and outputs are as shown."""
    with Reader(page, tmp_path) as reader:
        reader.read()


@pytest.mark.slow
def test_a_broken_example_is_found(tmp_path: Path) -> None:
    """An exception, another output, a failing command and a failing test each fail the page."""
    for text, problem in (
        ("```python\nawait client.send('13800138000', '')\n```\n", qxt_async.InvalidTextError),
        ("```python\nprint(1)\n```\n\n```output\n2\n```\n", AssertionError),
        ("```console\n$ false\n```\n", AssertionError),
        ("```console\n$ echo a\nb\n```\n", AssertionError),
        ("```python\ndef test_it():\n    assert 0\n```\n", AssertionError),
    ):
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        with Reader(page, tmp_path) as reader, pytest.raises(problem):
            reader.read()


def test_outputs_may_leave_out_what_differs() -> None:
    """Three dots stand for anything, and only they do."""
    check_output("batch 0: ... ms", "batch 0: 12 ms")
    with pytest.raises(AssertionError):
        check_output("batch 0: 1 ms", "batch 0: 12 ms")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_escapes(page: Path) -> None:
    """A block is run, or is a directive, or in a language that is not run; setting up needs a network, so it is not."""
    for language, text in blocks(page):
        assert language in LANGUAGES or language.startswith("{") or language in ("sh", "text", "toml", "nginx"), text
        if language == "sh":
            assert re.fullmatch(r"(\. \.venv/bin/activate\n|(\S*python3?|\S*pip|\S*nox) [^|;]*\n)+", text), text


@pytest.mark.parametrize("readme", [README, README_ZH], ids=["en", "zh"])
def test_the_two_commands_of_the_readme(readme: Path) -> None:
    """Both READMEs show the commands that set up and run the demo and the tests; nox knows their sessions."""
    commands = [text.strip() for language, text in blocks(readme) if language == "sh"]
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef)}
    assert [command for command in commands if "-s " in command] == [SETUP + "demo", SETUP + "tests"]
    assert {"demo", "tests"} <= sessions


def test_the_readmes_agree() -> None:
    """The Chinese README shows the same code and commands as the English one."""
    assert blocks(README_ZH) == blocks(README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    """A relative link names a file of the repository."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists() or (page.parent / f"{target}.md").exists(), target


def test_the_readme_is_short() -> None:
    """100 lines at most."""
    for readme in (README, README_ZH):
        assert len(readme.read_text(encoding="utf-8").splitlines()) <= 100


def _groups() -> dict[str, list[str]]:
    """The pages of each group of the sidebar."""
    trees = [text for language, text in blocks(ROOT / "docs" / "index.md") if language == "{toctree}"]
    return {text.split(":caption: ")[1].splitlines()[0]: text.split("\n\n")[1].split() for text in trees}


@pytest.mark.parametrize(
    "name", ["index", *(name for group, names in _groups().items() if group not in LONG_GROUPS for name in names)]
)
def test_a_page_is_short(name: str) -> None:
    """900 words at most, counted as `wc -w` does: everything that blanks separate, code and tables included."""
    assert len((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_every_page_is_in_one_group() -> None:
    """The sidebar has each page once, so none escapes the limit by standing nowhere."""
    names = [name for group in _groups().values() for name in group]
    assert sorted([*names, "index"]) == sorted(page.stem for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_real_address(page: Path) -> None:
    """The only addresses are the loopback and those that are set aside for documentation and private networks."""
    escape_formula = re.compile(r"127\.|0\.0\.0\.0$|10\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.")
    for address in re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", page.read_text(encoding="utf-8")):
        assert escape_formula.match(address), address


def test_every_public_name_is_in_the_reference() -> None:
    """The API page names everything that `qxt_async` exports."""
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in qxt_async.__all__ if not re.search(rf":: {name}$", reference, re.MULTILINE)]
    assert missing == []


def test_every_rule_that_code_cites_is_in_the_protocol() -> None:
    """Each `PROTOCOL 2.1` in the library has its place on the protocol page."""
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    for source in (ROOT / "qxt_async").rglob("*.py"):
        for rule in re.findall(r"PROTOCOL (\d(?:\.\d)?)", source.read_text(encoding="utf-8")):
            assert f"(protocol-{rule})=" in protocol, f"{source.name} cites {rule}"


def test_hooks_before_a_commit_are_what_lint_runs() -> None:
    """`.pre-commit-config.yaml` calls the same commands as the session `lint`, in the same order."""
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    lint = next(node for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.name == "lint")
    calls = [node for node in ast.walk(lint) if isinstance(node, ast.Call) and ast.unparse(node.func) == "session.run"]
    run = [" ".join(ast.literal_eval(argument) for argument in call.args) for call in calls]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE) == run


def _too_wide(lines: list[str]) -> list[str]:
    """The lines that run off the page: a Chinese character is as wide as two others."""
    widths = [sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line) for line in lines]
    return [line for line, width in zip(lines, widths, strict=True) if width > WIDTH]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_code_runs_off_the_page(page: Path) -> None:
    """Code, commands and the files that a page includes fit into the page; outputs may wrap."""
    for language, text in blocks(page):
        lines = text.splitlines()
        if language == "console":
            lines = [line for line in lines if line.startswith(("$ ", "> "))]
        if language != "output" and not language.startswith("{"):
            assert not _too_wide(lines)
    for name in re.findall(r"```\{literalinclude\} (\S+)", page.read_text(encoding="utf-8")):
        assert not _too_wide((page.parent / name).read_text(encoding="utf-8").splitlines())
