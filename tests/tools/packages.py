"""Packages for another machine, unpacked into a folder: from Debian by apt, from PyPI by pip. Nothing is installed.

apt checks Debian's signatures. pip takes the wheels that PyPI has at the time; their hashes are not pinned. What an
interrupted download left in a folder is deleted before the next one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

SOURCES: Final = Path("/etc/apt")
_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR: Final = re.compile(r"https?://\S+/debian/?(?=\s|$)")


class NotTriedError(Exception):
    """A cell cannot be tried here: its packages or its programs are not available."""


def wheels(folder: Path, options: Sequence[str], *requirements: str) -> Path:
    """Download wheels by pip, without dependencies, and unpack them into a folder, unless that was done before.

    Args:
        folder: The folder, for ``PYTHONPATH``.
        options: What chooses another machine's wheels, such as ``--platform``.
        requirements: The packages.

    Raises:
        NotTriedError: If pip fails.
    """
    if (folder / "done").exists():
        return folder
    downloads = folder.with_name(f"{folder.name}.wheels")
    _delete(folder, downloads)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    run([*pip, "--disable-pip-version-check", "--dest", str(downloads), *options, *requirements])
    for wheel in downloads.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    (folder / "done").touch()
    return folder


def debian(folder: Path, architecture: str, suite: str, *packages: str) -> Path:
    """Download Debian packages with all that they need, and unpack them into a folder, unless that was done before.

    Args:
        folder: The folder, which becomes the root of a file system.
        architecture: Debian's name of the architecture.
        suite: The release of Debian, such as ``"bookworm"``.
        packages: The packages.

    Raises:
        NotTriedError: If apt has no Debian mirror, or fails.
    """
    if (folder / "done").exists():
        return folder
    _unpack(_apt(folder, architecture, suite, "--yes", "--download-only", "install", *packages), folder)
    for name in ("lib", "lib64"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")
    if not (folder / "usr" / "lib64").exists():
        (folder / "usr" / "lib64").symlink_to("lib")
    (folder / "done").touch()
    return folder


def emulators(folder: Path) -> Path:
    """Return the folder with qemu's emulators of a single process, of this machine's architecture.

    Raises:
        NotTriedError: If apt has no Debian mirror, or fails.
    """
    if not (folder / "done").exists():
        own = run(["dpkg", "--print-architecture"]).strip()
        _unpack(_apt(folder, own, "bookworm", "--yes", "--download-only", "install", "qemu-user-static"), folder)
        (folder / "done").touch()
    return folder / "usr" / "bin"


def _apt(folder: Path, architecture: str, suite: str, *arguments: str) -> Path:
    """Run apt-get for an architecture and a suite with a state of its own, and return the folder of the downloads."""
    state = folder.with_name(f"{folder.name}.apt")
    _delete(folder, state)
    archives = state / "cache" / "archives"
    for each in (state / "lists" / "partial", archives / "partial"):
        each.mkdir(parents=True, exist_ok=True)
    sources = state / "sources.list"
    key = f"[signed-by={_KEYS}] " if _KEYS.exists() else ""
    sources.write_text(f"deb {key}{mirror()} {suite} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(state / "cache"),
        "Dir::Etc::SourceList": str(sources),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": str(state / "lists"),
        "Dir::State::status": "/dev/null",
    }
    command = ["apt-get", "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    run([*command, "update"])
    run([*command, *arguments])
    return archives


def _delete(*folders: Path) -> None:
    """Delete folders that an interrupted download left."""
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _unpack(archives: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for package in archives.glob("*.deb"):
        run(["dpkg", "-x", str(package), str(folder)])


@cache
def mirror(sources: Path = SOURCES) -> str:
    """Return the address of the Debian mirror that this machine's apt uses.

    Raises:
        NotTriedError: If there is none.
    """
    for path in (sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))):
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in lines:
            found = _MIRROR.search(line)
            if found and not line.lstrip().startswith("#"):
                return found.group()
    raise NotTriedError("apt has no Debian mirror")


def run(command: Sequence[str]) -> str:
    """Return the output of a command that gets packages.

    Raises:
        NotTriedError: If the program is not installed, or fails.
    """
    if shutil.which(command[0]) is None:
        raise NotTriedError(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise NotTriedError(f"{Path(command[0]).name} fails: {lines[-1] if lines else done.returncode}")
    return done.stdout
