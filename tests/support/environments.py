"""Virtual environments that hold rscap's wheel and nothing but what it requires."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, wheel: Path, extra: str = "") -> Environment:
        """Installs `wheel` as `pip install "rscap[extra]"` would, but without a network: what the wheel requires is
        linked, file by file, from the environment that runs the tests."""
        venv.create(folder, with_pip=False, symlinks=True)
        [site] = folder.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
        [metadata] = site.glob("rscap-*.dist-info/METADATA")
        lines = metadata.read_text(encoding="utf-8").splitlines()
        declared = [Requirement(line.partition(": ")[2]) for line in lines if line.startswith("Requires-Dist: ")]
        for requirement in _with_theirs(one for one in declared if _applies(one, extra)):
            _link(requirement, site)
        return cls(folder)

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A command of the environment, run in `cwd`; no other environment is on its path."""
        words = [str(self.folder / "bin" / command[0]), *command[1:]]
        clean = {"PATH": str(self.folder / "bin"), "HOME": str(cwd), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        return subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, check=False)

    def python(self, code: str, cwd: Path) -> str:
        """What `code` prints; fails if it raises."""
        done = self.run("python", "-c", code, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _applies(one: Requirement, extra: str) -> bool:
    return one.marker is None or one.marker.evaluate({"extra": extra})


def _with_theirs(names: Iterable[Requirement]) -> list[Requirement]:
    """The requirements and all that they require in turn, each package once."""
    found: dict[tuple[str, str], Requirement] = {}
    waiting = list(names)
    while waiting:
        one = waiting.pop()
        for extra in one.extras or {""}:
            if (one.name, extra) not in found:
                found[one.name, extra] = one
                theirs = map(Requirement, distribution(one.name).requires or [])
                waiting += [each for each in theirs if _applies(each, extra)]
    return list({one.name.lower().replace("_", "-"): one for one in found.values()}.values())


def _link(requirement: Requirement, site: Path) -> None:
    package = distribution(requirement.name)
    assert requirement.specifier.contains(package.version, prereleases=True), (
        f"{requirement}: {package.version} is here"
    )
    for file in package.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            link = site / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(package.locate_file(file))).resolve())
