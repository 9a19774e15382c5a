"""Every way to run, check and build the project: ``nox -l`` lists them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "tests", "docs", "build"]

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSIONS = ("3.11", "3.12", "3.13")


def _works(candidate: str, version: str) -> bool:
    """Whether a path is a Python of this version that runs; version managers leave shims that do not."""
    try:
        answer = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except OSError:
        return False
    return answer.stdout.strip() == version


def _interpreter(version: str) -> str | None:
    """Find a Python by version: this one, on the PATH, or below pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [sys.executable, shutil.which(f"python{version}"), shutil.which(f"python{version}", path=os.defpath)]
    candidates += [str(path / "bin" / "python") for path in sorted(pyenv.glob(f"versions/{version}.*"))]
    return next((path for path in candidates if path and _works(path, version)), None)


FOUND = {version: path for version in VERSIONS if (path := _interpreter(version))}
PYTHONS = list(FOUND)
# nox looks on the PATH, where a version manager's shims may stand before what works.
os.environ["PATH"] = os.pathsep.join([*(str(Path(path).parent) for path in FOUND.values()), os.environ["PATH"]])


def _group(name: str) -> list[str]:
    return list(PROJECT["dependency-groups"][name])


@nox.session(python=False)
def demo(session: nox.Session) -> None:
    """Send 100,000 made-up numbers to a simulated gateway, through real sockets, and check its books."""
    venv = Path(session.create_tmp()) / "venv"
    session.run(sys.executable, "-m", "venv", str(venv))
    python = str(venv / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", f"{ROOT}[cli,compact]")
    session.run(python, "docs/examples/bulk_demo.py", *session.posargs)


@nox.session(python=False)
def readme(session: nox.Session) -> None:
    """Follow README and the quick start literally, command by command, in a new environment for each."""
    session.run(sys.executable, "tests/readme/follow.py", *session.posargs, env={"PYTHONPATH": str(ROOT / "tests")})


# What needs no socket, no database and no process. A test among it that opens a socket fails.
QUICK = [
    *map(str, sorted(ROOT.glob("tests/test_*.py"))),
    *(f"tests/{name}" for name in ("files", "protocol", "runtime", "sending")),
    *(
        f"tests/client/test_{name}.py"
        for name in ("balance", "limits", "sending_in_bulk", "sending_once", "validation")
    ),
    "tests/docs/test_pages.py",
    "--ignore=tests/sending/test_leaving_early.py",
    "--ignore=tests/sending/test_walk.py",
]


def _quick(session: nox.Session) -> None:
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"))
    workers = ["-n", os.environ.get("QXT_TEST_WORKERS", "2"), "--dist", "worksteal"]
    environment = {"QXT_TEST_QUICK": "1", "QXT_TEST_OFFLINE": "1", **CACHED}
    session.run("pytest", "-q", *workers, "-m", "not slow", *(session.posargs or QUICK), env=environment)


@nox.session(reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Run the tests that need no socket, no database and no process, in an environment that is kept."""
    _quick(session)


@nox.session(python=PYTHONS[1:] or PYTHONS)
def others(session: nox.Session) -> None:
    """Run the quick tests on each Python but the oldest."""
    _quick(session)


@nox.session(name="all", python=False)
def everything(session: nox.Session) -> None:
    """Run all there is: the whole suite on every Python, and everything slow (many hours)."""
    for name in ("lint", "typing", "docs", "readme", "demo", "build"):
        session.notify(name)
    session.notify(f"coverage-{PYTHONS[0]}")
    for version in PYTHONS[1:]:
        session.notify(f"newer-{version}")
    for name in ("lowest", "chaos", "faults", "mutants", "soak", "fuzz", "bench"):
        session.notify(f"{name}-{PYTHONS[0]}")


# Most tests wait for a socket or a process most of the time: more of them run at a time than there are processors.
WORKERS = ["-n", os.environ.get("QXT_TEST_WORKERS", "6"), "--dist", "worksteal"]
# Python's own caches are used whatever the environment says: hundreds of processes would compile the library anew.
CACHED = {"PYTHONDONTWRITEBYTECODE": ""}


def _whole_suite(session: nox.Session, *options: str, coverage: bool = False) -> None:
    session.env.update(CACHED)
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"))
    if session.posargs:
        session.run("pytest", *WORKERS, *options, *session.posargs)
        return
    # Compiles the tests: else each process does it, and measures its own coverage meanwhile.
    session.run("pytest", "-q", "--collect-only", silent=True)
    if not coverage:
        session.run("pytest", *WORKERS, *options)
        return
    # Not create_tmp(): that would move every test's files below the checkout, where tools find its configuration.
    session.env["COVERAGE_FILE"] = str(Path(session.virtualenv.location).resolve() / "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *WORKERS)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite, on the Python that runs nox (two minutes); with QXT_COVERAGE=1, as `coverage` does."""
    _whole_suite(session, coverage=bool(os.environ.get("QXT_COVERAGE")))


@nox.session(python=PYTHONS[:1])
def coverage(session: nox.Session) -> None:
    """Run the whole test suite with 100 % branch coverage, on the oldest Python there is."""
    _whole_suite(session, coverage=True)


@nox.session(python=PYTHONS[1:] or PYTHONS)
def newer(session: nox.Session) -> None:
    """Run the whole test suite on each newer Python, in random order and with random examples."""
    session.env["QXT_TEST_EXAMPLES"] = "random"
    _whole_suite(session, "-p", "randomly")


@nox.session(python=PYTHONS[:1])
def lowest(session: nox.Session) -> None:
    """Run the test suite with the lowest versions that pyproject.toml allows."""
    given = [*PROJECT["project"]["dependencies"]]
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        given += requirements if extra != "all" else []
    exact = sorted({re.sub(r">=([^,]+).*", r"==\1", requirement) for requirement in given})
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"), *exact)
    session.run("pytest", "-n", "2", *session.posargs)


CANCELLING = ("tests/cancellation",)


def _suite(session: nox.Session, *what: str, **environment: str) -> None:
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"))
    session.run("pytest", *what, *session.posargs, env=environment)


@nox.session(python=PYTHONS[:1])
def chaos(session: nox.Session) -> None:
    """Kill campaigns, workers, receivers and databases at random moments: the long forms (half an hour)."""
    _suite(session, "tests/client/test_keyed_service_kill.py", QXT_CHAOS="1")
    _suite(session, "tests/campaign/test_kill.py", "tests/workers", "-m", "slow", QXT_CHAOS="1")
    _suite(session, "tests/receiving/test_processes.py", QXT_TEST_KILLS="20", QXT_TEST_REPORTS="20000")
    _suite(session, "tests/campaign/test_model.py", "tests/client/test_keyed_model.py", QXT_MODEL_EXAMPLES="500")
    _suite(session, "--timeout", "0", "-n", "2", "--dist", "worksteal", *CANCELLING, QXT_CANCEL_MOMENTS="1000")


@nox.session(python=PYTHONS[:1])
def faults(session: nox.Session) -> None:
    """Meet every fault of the matrix 200 times, and print how often each came to what (half an hour).

    That is each row that one answer can show, with `send`, `send_bulk`, GET where that differs, and campaigns, on each
    library: 200 times on one backend, once on the other if the library has one. The other rows have tests of their own,
    which run once.
    """
    results = Path(session.virtualenv.location).resolve() / "fault-results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    environment = {"QXT_FAULT_REPEATS": "200", "QXT_FAULT_RESULTS": str(results)}
    _suite(session, "tests/faults", "--timeout", "0", "-n", "6", "--dist", "worksteal", **environment)
    session.run("python", "tests/support/fault_results.py", str(results))


@nox.session(python=PYTHONS[:1])
def mutants(session: nox.Session) -> None:
    """Change the core one place at a time; the tests must notice 95 % of it. `-- protocol/answers`: some modules."""
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"))
    session.run("python", "tests/mutation/mutate.py", *session.posargs, env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session(python=PYTHONS[:1])
def soak(session: nox.Session) -> None:
    """Send and take pushes for half an hour, with faults, and see that nothing stays behind."""
    _suite(session, "-s", "tests/soak", QXT_SOAK_SECONDS=os.environ.get("QXT_SOAK_SECONDS", "1800"))


@nox.session(python=PYTHONS[:1])
def fuzz(session: nox.Session) -> None:
    """Fuzz each target: 10,000,000 inputs (some hours in all), or `-- -runs=100000`; name targets to run them alone."""
    session.install("-e", ".", *_group("fuzz"))
    options = [given for given in session.posargs if given.startswith("-")]
    targets = [given for given in session.posargs if not given.startswith("-")]
    every = sorted(path.stem.removeprefix("fuzz_") for path in (ROOT / "tests/fuzz").glob("fuzz_*.py"))
    for target in targets or every:
        session.run("python", "tests/fuzz/fuzzing.py", target, "-runs=10000000", *options)


@nox.session(python=PYTHONS[:1])
def bench(session: nox.Session) -> None:
    """Measure against the floor and what one would write; `-- bench_plan --rounds 1`: names, each with its options."""
    session.install("-e", ".[all]", *_group("tests"), *_group("examples"), *_group("bench"))
    every = sorted(path.stem for path in (ROOT / "tests/benchmarks").glob("bench_*.py"))
    chosen: list[list[str]] = []
    for given in session.posargs:
        if given in every:
            chosen.append([given])
        elif chosen:
            chosen[-1].append(given)
        else:
            session.error(f"{given} is none of {', '.join(every)}")
    for name, *options in chosen or [[name] for name in every]:
        session.run("python", f"tests/benchmarks/{name}.py", *options, env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, imports and what bandit looks for; then, if advisories can be had, `audit`."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.notify("audit", posargs=["--if-answered"])


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in all that the extras install; `-- --if-answered` puts up with no answer."""
    session.install(".[all]")
    frozen = str(session.run("python", "-m", "pip", "freeze", silent=True))
    pinned = [line for line in frozen.splitlines() if "==" in line]
    requirements, report = (Path(session.create_tmp()).resolve() / name for name in ("requirements.txt", "audit.json"))
    requirements.write_text("\n".join(pinned), encoding="utf-8")
    report.unlink(missing_ok=True)
    session.install(*_group("audit"))
    # Vulnerabilities and a service that does not answer both end with 1, and what it does not know with 0.
    answered = ("-f", "json", "-o", str(report), "--no-deps", "--disable-pip", "--progress-spinner", "off")
    session.run("pip-audit", "-r", str(requirements), *answered, success_codes=[0, 1], silent=True)
    audited = json.loads(report.read_text(encoding="utf-8"))["dependencies"] if report.exists() else []
    if found := [f"{one['name']} {one['version']}: {bad['id']}" for one in audited for bad in one.get("vulns", ())]:
        session.error("\n".join(["known vulnerabilities:", *found]))
    known = sum("vulns" in one for one in audited)
    session.log(f"{known} of {len(pinned)} packages were audited")
    if known < len(pinned) and "--if-answered" not in session.posargs:
        session.error("the service of advisories does not answer, or not about all of them")
    if known < len(pinned):
        session.warn("NOT AUDITED: the service of advisories does not answer, or not about all of them")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy (strict) and pyright."""
    session.install("-e", ".[all]", *_group("tests"), *_group("typing"), "nox")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[all]", *_group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and try the wheel in an environment of its own."""
    session.install("build")
    dist = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    wheel = next(dist.glob("*.whl"))
    session.install("--force-reinstall", f"{wheel}[all]", *_group("tests"))
    with session.chdir(session.create_tmp()):
        session.run("qxt", "--version")
        session.run("qxt", "check", "--help", silent=True)
        # What a package index shows has no checkout beside it.
        relative = "import re, sys; from importlib.metadata import metadata as of; "
        relative += r"sys.exit(str(re.findall(r'\]\((?!https?:|#).*?\)', of('qxt_async')['Description']) or ''))"
        session.run("python", "-c", relative)
        # From outside the checkout, so that it is the wheel that is imported.
        session.run("python", "-c", "import qxt_async, sys; sys.exit('site-packages' not in qxt_async.__file__)")
        session.run("pytest", "-q", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(ROOT / "tests/cli"))
