"""Runs pytest on some tests and reports each outcome; the agent's code runs in this process, so none of it is trusted.

Started by `watch.py` as `python -s -S -B tests.py`, with its settings on standard input and no variable of Python's but
a seed. pytest and what it needs are loaded before any other code and stand before it on `sys.path`, the import root
comes last: nothing in the repository takes the place of a module of pytest's or of the standard library's. No
configuration file, conftest.py or plug-in of the repository's is read, but the conftest files that the task names.

With an image's own Python (3.6 or later, hence the quoted types) its pytest runs as it is set up there, where it has
one: with the image's plug-ins, and the repository's configuration and conftest files, none of them of the agent's.
"""

import importlib.util
import json
import os
import sys
import warnings
from types import ModuleType
from typing import Any

PLUGINS_OFF = ("cacheprovider", "faulthandler", "junitxml", "pastebin", "unraisableexception", "threadexception")
ISOLATED = ["--no-header", "--capture=sys", "--assert=plain", "--disable-warnings", "-c", os.devnull, "--noconftest"]
ISOLATED += ["--import-mode=importlib", *(word for name in PLUGINS_OFF for word in ("-p", f"no:{name}"))]


def main() -> None:
    """Run what the settings say."""
    settings = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    report = Report(settings["report"], settings["nonce"], settings["ids"])
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path and os.path.abspath(path) != here]
    os.chdir(settings["root"])
    sys.dont_write_bytecode = True
    sys.path.append(settings["packages"])
    import pytest

    root = os.getcwd()
    for folder in (*settings["imports"], *map(base, settings["files"])):
        path = os.path.normpath(os.path.join(root, folder))
        if path not in sys.path:
            sys.path.append(path)
    sys.argv = ["pytest"]
    words = ["-q", "--color=no", "--tb=short", f"--rootdir={root}", "-rfE", "--continue-on-collection-errors"]
    words += ["-p", "no:cacheprovider"] if settings["own_python"] else ISOLATED
    words += [name for name in settings["files"] if os.path.isfile(name)]
    if words[-1] not in settings["files"]:
        report.say("done", 0)
        return
    plugins = [report, *(trusted(number, path) for number, path in enumerate(settings["conftest"]))]
    status = pytest.main(words, plugins=plugins)
    sys.stdout.flush()
    report.say("done", int(status))
    os._exit(0)  # what the agent's code left for the end has nothing more to say


def base(path: str) -> str:
    """Return the folder of a test file, or that of the package that it is in: what pytest would put before all else."""
    folder = os.path.dirname(path)
    while folder and os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder


def trusted(number: int, path: str) -> ModuleType:
    """Return a conftest file as a module, for a plug-in."""
    spec = importlib.util.spec_from_file_location(f"conftest_{number}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


class Report:
    """The plug-in that writes to the pipe: a line a message, behind the nonce."""

    def __init__(self, descriptor: int, nonce: str, ids: "list[str]") -> None:
        """Take the pipe, the nonce and the tests that are wanted."""
        os.set_inheritable(descriptor, False)
        self.descriptor, self.nonce, self.wanted = descriptor, nonce, frozenset(ids)
        self.cut = frozenset(name for name in ids if "[" in name and not name.endswith("]"))

    def say(self, *message: Any) -> None:
        """Write one message."""
        data = f"{self.nonce} {json.dumps(message)}\n".encode()
        while data:
            data = data[os.write(self.descriptor, data) :]

    def pytest_make_collect_report(self, collector: Any) -> None:
        """Tell which file is being collected."""
        if type(collector).__name__ == "Module":
            self.say("at", collector.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        """Tell of a file or class that cannot be collected."""
        if report.outcome != "passed" and report.nodeid:
            self.say("file", report.nodeid, report.outcome)

    def pytest_collection_modifyitems(self, config: Any, items: "list[Any]") -> None:
        """Keep what is wanted, each once."""
        kept = {self.name(item.nodeid): item for item in items}
        items[:] = [item for name, item in kept.items() if name in self.wanted]

    def name(self, nodeid: str) -> str:
        """Return the name under which a test is wanted: SWE-bench's end at the first blank."""
        first = nodeid.split(" ")[0]
        return first if first in self.cut else nodeid

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """Tell which test begins."""
        self.say("at", self.name(nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Tell what became of a test's phase."""
        is_expected = hasattr(report, "wasxfail")
        self.say("test", self.name(report.nodeid), report.when, report.outcome, is_expected, float(report.duration))


if __name__ == "__main__":
    main()
