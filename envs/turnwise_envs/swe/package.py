"""A package's source as tasks are made from it: fetched once, unpacked without trust, its modules and tests found.

`fetch` is the only use of the network. pip is what asks the registry, with whatever index the machine is set up
for; like any installation from source it runs the package's own build once, to learn its metadata. The package's code
and tests run in sandboxes alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from turnwise.errors import UserError

FIELD = "--package"
FETCH_S = 300.0
MAX_ARCHIVE_BYTES, MAX_FILES = 200 * 2**20, 20_000
"""Of an unpacked archive; more is refused before anything is written."""

MAX_FILE_BYTES = 512 * 1024
"""Of one file of a task's repository; larger ones are data that no reader needs."""

LEFT_OUT = {"docs", "doc", "examples", "benchmarks", "node_modules", "__pycache__", "build", "dist"}
COMPILED = {".c", ".cc", ".cpp", ".cxx", ".f90", ".pyx", ".rs", ".so", ".pyd"}
NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)")
TEST_FILE = re.compile(r"test_.*\.py|.*_tests?\.py|tests?\.py")


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A package's files and what they are; all paths are relative to the repository, with `/`."""

    name: str
    version: str  # of the registry, or "local"
    files: dict[str, bytes]  # path to content, sorted: the whole repository of a task
    root: str  # what stands in front of import paths: "." or "src"
    sources: tuple[str, ...]  # modules that may be changed
    tests: tuple[str, ...]  # test files

    @property
    def conftest(self) -> tuple[str, ...]:
        """The files `conftest.py` beside its tests."""
        folders = {path.rpartition("/")[0] for path in self.tests}
        above = {folder[: place.start()] for folder in folders for place in re.finditer("/|$", folder)} | {""}
        return tuple(path for path in self.files if path.endswith("conftest.py") and path.rpartition("/")[0] in above)

    def text(self, path: str) -> str:
        """Return a file as text."""
        return self.files[path].decode("utf-8")

    def module(self, path: str) -> str:
        """Return the import name of a source file."""
        inner = path if self.root == "." else path.removeprefix(f"{self.root}/")
        return inner.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def open_package(wanted: str, cache: Path) -> Package:
    """Return a package, from the registry for `name==version`, else from a local folder.

    UserError for one that is not there, is not pure Python, or has no tests.
    """
    if is_local(wanted):
        folder = Path(wanted).resolve()
        if not folder.is_dir():
            raise UserError(FIELD, wanted, "no such folder", "name a folder with the package's source and tests")
        return read_package(wanted, folder.name, "local", folder)
    name, version = pinned(wanted)
    with tempfile.TemporaryDirectory(prefix="turnwise-package-") as folder_name:
        folder = unpack(wanted, fetch(wanted, name, version, cache), Path(folder_name))
        return read_package(wanted, name, version, folder)


def is_local(wanted: str) -> bool:
    """Whether a package is given as a folder."""
    return wanted.startswith((".", "/", "~")) or "/" in wanted


def pinned(wanted: str) -> tuple[str, str]:
    """Return name and version; UserError for a package without one."""
    match = NAME.fullmatch(wanted)
    if match is None:
        raise UserError(FIELD, wanted, "is not pinned to a version", "write it as name==version, or ./folder")
    return match[1], match[2]


def fetch(wanted: str, name: str, version: str, cache: Path) -> Path:
    """Return the package's source archive, downloaded by pip unless it is in the cache; UserError if it cannot be."""
    folder = cache / f"{name.lower()}-{version}"
    if found := archives(folder):
        return found[0]
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as part:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        said = _ran([*command, "--dest", part, wanted])
        if said is not None or not archives(Path(part)):
            problem = f"pip cannot fetch its source ({said or 'no archive came'})"
            raise UserError(FIELD, wanted, problem, "check name, version and network; or give a local folder")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(part, folder)
    return archives(folder)[0]


def archives(folder: Path) -> list[Path]:
    """Return the source archives in a folder."""
    return sorted(folder.glob("*.tar.gz"))


def _ran(command: list[str]) -> str | None:
    """Run pip; return its last line of complaint, None if it went well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {FETCH_S:g} s"
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
    return (errors or done.stderr.splitlines() or ["it said nothing"])[-1][:200]


def unpack(wanted: str, archive: Path, folder: Path) -> Path:
    """Unpack an archive with the standard library's filter for data; return the one folder in it."""
    try:
        with tarfile.open(archive, mode="r:gz") as packed:
            members = packed.getmembers()
            if len(members) > MAX_FILES or sum(member.size for member in members) > MAX_ARCHIVE_BYTES:
                raise UserError(FIELD, wanted, "its archive is too large", "take another package")
            packed.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        problem = f"its archive cannot be unpacked ({error})"
        raise UserError(FIELD, wanted, problem, f"remove {archive} and try again") from error
    inner = [path for path in folder.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 else folder


def read_package(wanted: str, name: str, version: str, folder: Path) -> Package:
    """Return what is in a source folder; UserError if it is not pure Python, or has no modules or no tests."""
    files = _files(folder)
    compiled = [path for path in files if Path(path).suffix in COMPILED]
    if compiled:
        raise UserError(FIELD, wanted, f"is not pure Python ({compiled[0]})", "take a package without extensions")
    root = import_root(name, files)
    if root is None:
        raise UserError(FIELD, wanted, "no module or package in its source", "take another package")
    tests = tuple(path for path in files if _is_test(path))
    if not tests:
        raise UserError(FIELD, wanted, "its source has no tests", "take another, or a local folder with tests")
    sources = tuple(path for path in files if _is_source(path, root))
    return Package(name=name, version=version, files=files, root=root, sources=sources, tests=tests)


def import_root(name: str, files: dict[str, bytes]) -> str | None:
    """Return the folder that imports begin at: `src` where there are packages in it, else the top."""
    if any(re.fullmatch(r"src/[^/]+(/__init__)?\.py", path) for path in files):
        return "src"
    tops = {path.split("/")[0] for path in files if re.fullmatch(r"[^/]+/__init__\.py", path)} - {"tests", "test"}
    modules = {path for path in files if re.fullmatch(r"[^/]+\.py", path) and not _is_test(path)}
    return "." if tops or modules - {"setup.py", "conftest.py", "noxfile.py"} else None


def _files(folder: Path) -> dict[str, bytes]:
    """Return the files of a repository, without what only its makers need, and without links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        is_left_out = any(part in LEFT_OUT or part.startswith(".") for part in inner.parts)
        if is_left_out or path.is_symlink() or not path.is_file() or path.suffix == ".pyc":
            continue
        if path.stat().st_size <= MAX_FILE_BYTES:
            found[inner.as_posix()] = path.read_bytes()
    return dict(sorted(found.items()))


def _is_test(path: str) -> bool:
    *folders, name = path.split("/")
    is_within = any(folder in ("tests", "test", "testing") for folder in folders) or not folders
    return bool(TEST_FILE.fullmatch(name)) and (is_within or name.startswith("test_"))


def _is_source(path: str, root: str) -> bool:
    """Whether it is a module of the package, neither a test nor a script of its makers."""
    if not path.endswith(".py") or (root != "." and not path.startswith(f"{root}/")):
        return False
    *folders, name = path.split("/")
    is_theirs = name in ("setup.py", "conftest.py", "noxfile.py", "_version.py", "versioneer.py", "__main__.py")
    return not is_theirs and not _is_test(path) and not {"tests", "test", "testing"} & set(folders)
