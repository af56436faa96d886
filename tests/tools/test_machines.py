"""The cells of other machines: faults in reports are detected, and skipped cells are reported."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import bits
import crossing
import emulated
import machine_report
import machines
import numpy as np
import packages
import portable_matrix
import pytest
import wasm
from machine_report import FINGERPRINTS, Report, Request
from machines import Cell
from numpy.typing import NDArray
from packages import NotTriedError

import funcnet as fn
from funcnet.runs.selftest import reference_run

LAST = "b453eba178c4364c56a1ed74dd223ba86add44516df9afea552fd4d620f8bbc2"
CELL = Cell("aarch64", kernel="NEOVERSEV1", numpy="2.4.6", without=("SVE",))
GOOD = Report(
    machine="aarch64",
    byteorder="little",
    python="3.11.2",
    numpy="2.4.6",
    blas="openblas 0.3.31 neoversev1",
    threads="1",
    simd="NEON ASIMD",
    guide=machines.guide()[1],
    portable=FINGERPRINTS[2],
    native="a",
    hashes=3000,
    differing=[],
    crossed=LAST,
)


def but(**fields: object) -> Report:
    """Return the good report with other fields."""
    return cast("Report", {**GOOD, **fields})


HERE = but(machine="x86_64", native="b")


def this_machine(_: Path) -> Report:
    """Return this machine's report at once."""
    return HERE


def skipped(*_: object, **__: object) -> str:
    """Compute nothing."""
    return ""


def nowhere(_: str) -> None:
    """Find no program."""


# ------------------------------------------------------------------------------------------------ what is seen


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ({"machine": "x86_64"}, "no effect: machine 'aarch64', got 'x86_64'"),
        ({"byteorder": "big"}, "no effect: byte order 'little', got 'big'"),
        ({"blas": "openblas 0.3.31 armv8"}, "no effect: kernel 'NEOVERSEV1', got 'openblas 0.3.31 armv8'"),
        ({"blas": "not checked"}, "no effect: kernel 'NEOVERSEV1', got 'not checked'"),
        ({"numpy": "1.26.4"}, "no effect: NumPy '2.4.6', got '1.26.4'"),
        ({"threads": "2"}, "no effect: threads '1', got '2'"),
        ({"threads": "not checked"}, "no effect: threads '1', got 'not checked'"),
        ({"simd": "NEON ASIMD SVE"}, "no effect: without '', got 'SVE'"),
        ({"simd": "not checked"}, "no effect: without '', got 'not checked'"),
        ({"guide": "0"}, f"other bits: the guide's run ends in 0, not in {GOOD['guide']}"),
        ({"portable": "0"}, f"other bits: 40 steps ends in 0, not in {FINGERPRINTS[2]}"),
        ({"differing": ["sums: mean"]}, "other bits: sums: mean"),
        ({"crossed": "0"}, f"other bits: the resumed run ends in 0, not in {LAST}"),
        ({"hashes": 0}, "no hash was compared"),
        ({"native": "b"}, "native bits are equal to this machine's: the cell cannot see a difference"),
    ],
    ids=str,
)
def test_a_fault_of_a_report_is_seen(planted: dict[str, object], message: str) -> None:
    """Each planted fault gives its own message, and a report without a fault gives no message."""
    assert not machines.faults(CELL, GOOD, HERE)
    assert machines.faults(CELL, but(**planted), HERE) == [message]


def test_threads_are_hidden_in_webassembly_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its cell allows threads that are not seen, and no other number of them; every other cell must show them."""
    monkeypatch.setattr(shutil, "which", str)
    cell, _ = next(wasm.trials(tmp_path, quick=True))
    unseen = but(machine="wasm32", threads="not checked", simd="not checked", blas="not checked")
    assert not machines.faults(cell, unseen, HERE)
    seen = machines.faults(cell, but(machine="wasm32", threads="2"), HERE)
    assert seen == ["no effect: threads 'not checked', got '2'"]
    others = [cell for name in emulated.ARCHITECTURES for cell in emulated.cells(name, everything=True)]
    assert not any(cell.hidden for cell in others)


def test_the_fingerprints_are_the_committed_ones() -> None:
    """The guide has one program that prints a fingerprint, and 40 steps of the reference run have theirs."""
    program, fingerprint = machines.guide()
    assert "fn.portable()" in program
    assert len(fingerprint) == 64
    assert reference_run("portable", epochs=2) == FINGERPRINTS[2]


def test_a_subject_that_computes_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report names its hashes, and no hash of a subject that was not requested."""
    for name in ("reference_run", "crossing.write", "crossing.resume"):
        monkeypatch.setattr(f"machine_report.{name}", skipped)
    monkeypatch.setitem(bits.SUBJECTS, "scalars", lambda: iter(()))
    subjects = ["scalars", "schedules"]
    found = machine_report.report({"program": "", "epochs": 2, "subjects": subjects, "received": "", "sent": ""})
    assert found["hashes"]
    assert found["differing"] == [name for name in bits.committed() if name.startswith("scalars: ")]


def test_the_cells() -> None:
    """At least three kernels and the oldest NumPy on aarch64; one cell suffices if quick; s390x is big-endian."""
    usual = emulated.cells("aarch64")
    assert {cell.kernel for cell in usual} >= {"ARMV8", "NEOVERSEV1", "ARMV9SME"}
    assert any(cell.numpy == "1.26.4" for cell in usual)
    assert emulated.cells("aarch64", quick=True) == usual[:1]
    assert usual[0].subjects == tuple(bits.SUBJECTS)
    everything = emulated.cells("aarch64", everything=True)
    assert len({str(cell) for cell in everything}) >= 18
    assert all(cell.subjects == tuple(bits.SUBJECTS) for cell in everything)
    assert [cell.byteorder for name in emulated.ARCHITECTURES for cell in emulated.cells(name, quick=True)].count(
        "big"
    ) == 1


# ------------------------------------------------------------------------------------------------ runs that cross


def answer(request: Request) -> Report:
    """Compute as a cell does, but only the runs that cross."""
    crossing.write(Path(request["sent"]))
    return but(crossed=crossing.resume(Path(request["received"])))


@pytest.mark.slow
def test_runs_cross(tmp_path: Path) -> None:
    """The resumed runs have the last hash of the uninterrupted run, in both directions, on every machine."""
    text, found = machines.attempt((CELL, answer), HERE, tmp_path)
    assert not found
    assert "both ways" in text
    with fn.portable():
        for _ in fn.audited_train(tmp_path / "whole", crossing.STEP, crossing.start(), crossing.data, epochs=range(4)):
            pass
    assert fn.load_run(tmp_path / "whole").rows[-1].results == LAST


@contextmanager
def other_batches(epoch: int) -> Generator[None]:
    """Change the batches of one epoch."""
    own = crossing.data

    def data(number: int) -> Sequence[fn.Batch[NDArray[np.int64]]]:
        return own(number + 10 if number == epoch else number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossing, "data", data)
        yield


def other_last_epoch(request: Request) -> Report:
    """Compute as a machine whose last epoch has other batches."""
    with other_batches(3):
        return answer(request)


def other_first_epoch(request: Request) -> Report:
    """Write a run whose first epoch has other batches."""
    done = answer(request)
    shutil.rmtree(request["sent"])
    with other_batches(0):
        crossing.write(Path(request["sent"]))
    return done


@pytest.mark.slow
@pytest.mark.parametrize("compute", [other_last_epoch, other_first_epoch])
def test_a_run_that_is_another_one_comes_back_with_a_fault(
    compute: Callable[[Request], Report], tmp_path: Path
) -> None:
    """A byte that differs on the other machine is seen, in what it resumed and in what it wrote."""
    text, found = machines.attempt((CELL, compute), HERE, tmp_path)
    assert any(each.startswith("other bits: the run that comes back ends in") for each in found)
    assert "both ways" not in text


# ------------------------------------------------------------------------------------------------ what is not tried


def test_what_cannot_be_had_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without apt and node, the command says so and succeeds; with --required, it fails."""
    monkeypatch.setattr(shutil, "which", nowhere)
    monkeypatch.setattr(machines, "this_machine", this_machine)
    command = ["portable_matrix.py", "--emulate", "aarch64", "s390x", "--wasm", "--folder", str(tmp_path)]
    for required in ([], ["--required"]):
        monkeypatch.setattr(sys, "argv", command + required)
        assert portable_matrix.main() == len(required)
        output = capsys.readouterr().out
        for name, program in (("aarch64", "dpkg"), ("s390x", "dpkg"), ("wasm32", "node")):
            assert f"not tried: {name}: {program} is not installed" in output


@pytest.mark.parametrize(
    "content", ["", "# deb http://example.org/debian trixie main", "URIs: http://example.org/ubuntu"]
)
def test_apt_without_a_debian_mirror(content: str, tmp_path: Path) -> None:
    """It is not tried."""
    (tmp_path / "sources.list").write_text(content)
    with pytest.raises(NotTriedError, match="apt has no Debian mirror"):
        packages.mirror(tmp_path)


def test_the_debian_mirror(tmp_path: Path) -> None:
    """It is found in both forms of apt's sources."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text("Types: deb\n# a\nURIs: http://example.org/debian\n")
    assert packages.mirror(tmp_path) == "http://example.org/debian"
    (tmp_path / "sources.list").write_text("deb http://example.org/a/debian/ trixie main\n")
    packages.mirror.cache_clear()
    assert packages.mirror(tmp_path) == "http://example.org/a/debian/"


@pytest.mark.slow
def test_a_program_that_fails(tmp_path: Path) -> None:
    """Its last line is the reason, whether it gets packages or is a cell."""
    failing = [sys.executable, "-c", "import sys; sys.exit('first\\nno route')"]
    with pytest.raises(NotTriedError, match="fails: no route"):
        packages.run(failing)

    def fails(request: Request) -> Report:
        return machines.read(failing, request, {})

    assert machines.attempt((CELL, fails), HERE, tmp_path)[1] == ["the program fails (1): no route"]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["", "\n", "killed", "[1]", '{"machine": "aarch64"}'])
def test_a_program_without_a_report(output: str, tmp_path: Path) -> None:
    """The exit code 0 is not enough."""
    program = [sys.executable, "-c", f"print({output!r})"]

    def silent(request: Request) -> Report:
        return machines.read(program, request, {})

    last = (output.splitlines() or [""])[-1]
    assert machines.attempt((CELL, silent), HERE, tmp_path)[1] == [f"the program must print a report, got {last!r}"]


@pytest.mark.slow
def test_a_cell_without_a_run_or_a_program(tmp_path: Path) -> None:
    """Both are faults of the cell, and the other cells run."""

    def nothing_sent(request: Request) -> Report:
        return but(crossed=crossing.resume(Path(request["received"])))

    def no_program(request: Request) -> Report:
        return machines.read([str(tmp_path / "python")], request, {})

    assert "No such file" in machines.attempt((CELL, nothing_sent), HERE, tmp_path)[1][0]
    assert "No such file" in machines.attempt((CELL, no_program), HERE, tmp_path)[1][0]


def test_a_fault_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The exit code is 1 if bits differ in one of the cells, and the others run all the same."""
    monkeypatch.setattr(machines, "this_machine", this_machine)
    for planted, code in ({0: ["other bits: sums: mean"]}, 1), ({}, 0):
        results = iter([(f"| {number} |", planted.get(number, [])) for number in range(2)])

        def attempt(*_: object, results: Iterator[tuple[str, list[str]]] = results) -> tuple[str, list[str]]:
            return next(results)

        monkeypatch.setattr(machines, "attempt", attempt)
        assert portable_matrix.other_machines({"aarch64": iter([(CELL, answer)] * 2)}, tmp_path) == code
        output = capsys.readouterr().out
        assert "| 1 |" in output
        assert output.count("other bits: sums: mean") == code


def broken() -> Iterator[machines.Trial]:
    """Fail before the first cell."""
    raise OSError(28, "No space left on device")
    yield CELL, answer


def test_a_machine_that_cannot_be_prepared_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The exit code is 1, and the next machine is tried."""
    monkeypatch.setattr(machines, "this_machine", this_machine)
    monkeypatch.setattr(shutil, "which", nowhere)
    sets = {"aarch64": broken(), "wasm32": wasm.trials(tmp_path)}
    assert portable_matrix.other_machines(sets, tmp_path) == 1
    output = capsys.readouterr().out
    assert "fails: aarch64: [Errno 28] No space left on device" in output
    assert "not tried: wasm32" in output


def test_an_interrupted_download_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Old wheels and packages are deleted, and are not unpacked; a finished download is used again."""

    def run(command: Sequence[str]) -> str:
        if "download" in command:
            place = Path(command[command.index("--dest") + 1])
            place.mkdir()
            with zipfile.ZipFile(place / "new.whl", "w") as archive:
                archive.writestr("new", "")
        elif "install" in command:
            (tmp_path / "root.apt" / "cache" / "archives" / "new.deb").touch()
        elif command[0] == "dpkg":
            (Path(command[3]) / Path(command[2]).stem).touch()
            (Path(command[3]) / "usr").mkdir()
        return ""

    monkeypatch.setattr(packages, "run", run)
    monkeypatch.setattr(packages, "mirror", lambda: "http://example.org/debian")
    wheels, root = tmp_path / "numpy1.26.4", tmp_path / "root"
    for left in (wheels, tmp_path / "numpy1.26.4.wheels", root, tmp_path / "root.apt" / "cache" / "archives"):
        left.mkdir(parents=True)
        (left / f"old{left.suffix.replace('.wheels', '.whl')}").touch()
        (left / "old.deb").touch()
    for _ in range(2):
        assert packages.wheels(wheels, (), "numpy") == wheels
        assert packages.debian(root, "arm64", "bookworm", "python3") == root
        assert {each.name for each in wheels.iterdir()} == {"new", "done"}
        assert {each.name for each in root.iterdir()} == {"new", "done", "usr", "lib", "lib64"}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("portable_matrix.py --quick", "--quick needs --emulate or --wasm"),
        ("portable_matrix.py --all", "--all needs --emulate or --wasm"),
        ("portable_matrix.py --folder {folder}", "--folder needs --emulate or --wasm"),
        ("portable_matrix.py --here --required", "--required needs --emulate or --wasm"),
        ("portable_matrix.py --here --wasm", "--here does not go with --emulate or --wasm"),
        ("portable_matrix.py --here --emulate s390x", "--here does not go with --emulate or --wasm"),
        ("portable_matrix.py --wasm --quick --all", "not allowed with argument --quick"),
        ("portable_matrix.py --wasm --folder {file}", "--folder must be a folder, got the file"),
        ("crossing.py", "the following arguments are required: command, folder"),
        ("crossing.py foo {folder}", "invalid choice: 'foo'"),
        ("crossing.py resume {folder}", "there is no folder"),
        ("machine_report.py", "the following arguments are required: request"),
        ("machine_report.py 3", "a request must be an object with program, epochs, subjects, received, sent"),
        ("machine_report.py {{", "a request must be JSON"),
        ("machine_report.py {request}", "subjects must be among"),
    ],
)
def test_wrong_arguments_are_refused(
    command: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The exit code is 2, with a reason and without a traceback, before anything runs or is written."""
    (tmp_path / "file").touch()
    request = Request(program="", epochs=2, subjects=["?"], received="", sent="")
    values = {"folder": tmp_path / "new", "file": tmp_path / "file", "request": json.dumps(request)}
    name, *arguments = (part.format(**values) for part in command.split())
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    modules = {"portable_matrix.py": portable_matrix, "crossing.py": crossing, "machine_report.py": machine_report}
    with pytest.raises(SystemExit) as end:
        modules[name].main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_command_of_the_runs_that_cross(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It writes, resumes and rechecks; a folder without a run is an error in one line."""
    for command, code, text in (
        *(("recheck", 1, ""), ("write", 0, "written\n"), ("resume", 0, f"{LAST}\n")),
        ("recheck", 0, "every state and every batch has the bytes of its row\n"),
    ):
        monkeypatch.setattr(sys, "argv", ["crossing.py", command, str(tmp_path)])
        assert crossing.main() == code
        captured = capsys.readouterr()
        assert captured.out.endswith(text)
        assert len(captured.err.splitlines()) == code


def test_a_cell_without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is not tried, before anything is downloaded."""
    monkeypatch.setattr(shutil, "which", nowhere)
    with pytest.raises(NotTriedError, match="node is not installed"):
        next(wasm.trials(tmp_path))
