"""The bits of portable arithmetic are those of ``bits.json`` on every machine, function by function."""

from __future__ import annotations

import subprocess
import sys
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Final

import bits
import bits_data
import numpy as np
import pytest
from bits_data import hashed
from networks import CASES
from optimizer_table import OPTIMIZERS

import funcnet as fn
from funcnet import arithmetic
from funcnet.arithmetic import elementary, scalars


def check(subject: str) -> None:
    """Fail with a line for each computation of a subject whose bits are not the committed ones."""
    lines = bits.differences(bits.bits_of(subject), [subject])
    if lines:
        more = [f"and {len(lines) - 50} more"] if len(lines) > 50 else []
        pytest.fail("\n".join([f"{len(lines)} hashes differ:", *lines[:50], *more, bits.MEANING]), pytrace=False)


@pytest.mark.parametrize("subject", bits.SUBJECTS)
def test_the_bits_are_the_committed_ones(subject: str) -> None:
    """Every computation has the hash in the file, which has no other one."""
    check(subject)


def public(place: str) -> set[str]:
    """Return the names of the public functions and records that a file or folder of the package defines."""
    return {name for name in fn.__all__ if getattr(getattr(fn, name), "__module__", "").startswith(f"funcnet.{place}")}


def functions_in(module: ModuleType) -> set[str]:
    """Return the names of the functions that a module defines for other modules."""
    return {
        name
        for name, value in vars(module).items()
        if isfunction(value) and name[0] != "_" and value.__module__ == module.__name__
    }


SCHEDULES: Final = public("optimizers.schedules")
NAMES: Final[dict[str, set[str]]] = {
    "draws": set(fn.random.__all__),
    "initializers": set(fn.initializers.__all__) - {"Constant", "Initializer", "fans"},
    "functions": {f"elementary.{name}" for name in functions_in(elementary)} - {"elementary.polynomial"},
    "scalars": functions_in(scalars),
    "functions products sums": set(arithmetic.__all__) - {"in_force", "portable_bits", "using"},
    "layers": {case.name for case in CASES},
    "losses": public("losses"),
    "optimizers": {*OPTIMIZERS, *public("optimizers")} - {"Moments", "Optimizer", "learning_rates", *SCHEDULES},
    "schedules": SCHEDULES - {"Schedule"},
    "data": public("data") - {"Minibatches", "Table"},
    "metrics": set(fn.metrics.__all__),
}
"""The names that subjects must have: those of public functions, and the rows of the tables of layers and optimizers."""


@pytest.mark.parametrize("subjects", NAMES)
def test_everything_has_a_hash(subjects: str) -> None:
    """Each name of a table and of a public function begins the name of a hash."""
    names = [name.split(": ", 1) for name in bits.committed()]
    have = {rest for subject, rest in names if subject in subjects.split()}
    missing = sorted(
        name for name in NAMES[subjects] if not any(f"{each},".startswith((f"{name},", f"{name} ")) for each in have)
    )
    wanted = f"compute them in tests/tools/bits_*.py if a table there is incomplete, and run {bits.COMMAND}"
    assert not missing, f"tests/bits.json has no hash of these {subjects}: {missing}; {wanted}"
    assert len(NAMES[subjects]) > 2


def test_no_hash_is_of_nan() -> None:
    """The bits of NaN are not promised, and few computations are refused."""
    values = list(bits.committed().values())
    assert "NaN" not in values
    assert sum(value.endswith("Error") for value in values) < len(values) / 50


def test_a_changed_unit_in_the_last_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure names the function with the planted fault and no other, and the command."""
    erf = arithmetic.erf

    def wrong(x: fn.Array) -> fn.Array:
        y = erf(x)
        y[-1] = np.nextafter(y[-1], np.float32(2))
        return y

    monkeypatch.setattr(arithmetic, "erf", wrong)
    with pytest.raises(pytest.fail.Exception) as failure:
        check("functions")
    first, *lines = str(failure.value).split("\n\n")[0].splitlines()
    assert first == f"{len(lines)} hashes differ:"
    assert {line.split(", ")[0] for line in lines} == {"functions: erf"}
    assert len(lines) == 4
    assert bits.COMMAND in str(failure.value)


def test_a_missing_and_a_superfluous_hash_are_named() -> None:
    """A computation that only the file has differs, and so does one that only the code has."""
    found = bits.committed()
    del found["scalars: power"]
    found["layers: Soon, plain"] = "0123456789abcdef"
    assert bits.differing(found) == ["scalars: power", "layers: Soon, plain"]
    assert bits.differing(bits.committed()) == []
    assert list(dict.fromkeys(name.split(": ")[0] for name in bits.committed())) == list(bits.SUBJECTS)


def test_a_subject_that_computes_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its hashes in the file differ, also where nothing else was computed."""
    monkeypatch.setitem(bits.SUBJECTS, "scalars", lambda: iter(()))
    with pytest.raises(pytest.fail.Exception, match=r"^3 hashes differ:\nscalars: .*: none instead of "):
        check("scalars")
    assert bits.differing({}) == list(bits.committed())
    assert bits.differing({}, ["losses"]) == [name for name in bits.committed() if name.startswith("losses: ")]


def test_native_arithmetic_has_other_bits() -> None:
    """The hashes can therefore detect a difference."""
    native = bits.bits_of("products", "native")
    assert len(bits.differing(native, ["products"])) > len(native) / 2


def test_a_hash_sees_bits_dtype_and_shape_alone() -> None:
    """Byte order, memory order and the size of integers do not count; a sign of zero, a dtype and a shape do."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = [x.astype(">f4"), x.astype("<f4"), np.asfortranarray(x)]
    assert {hashed([each]) for each in same} == {hashed([x])}
    assert hashed([np.arange(3, dtype=np.int32)]) == hashed([np.arange(3, dtype=np.int64)]) == hashed([[0, 1, 2]])
    different = [x, x.astype(np.float64), x.reshape(3, 2), x.reshape(-1), np.where(x == 0, np.float32(-0.0), x)]
    assert len({hashed([each]) for each in different}) == len(different)
    assert hashed([np.array([1.0, np.nan])]) == hashed([-np.array([1.0, np.nan])]) == "NaN"


def test_every_kind_of_numbers_is_finite_and_what_it_says() -> None:
    """All drawn numbers are float32 and finite, the subnormal ones are subnormal, and zeros have both signs."""
    drawn = {kind: make(fn.Key(0), 100, 20) for kind, make in bits_data.KINDS.items()}
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in drawn.values())
    assert np.abs(drawn["subnormal"]).max() < np.finfo(np.float32).smallest_normal
    assert not drawn["zeros of both signs"].any()
    for kind in ("zeros of both signs", "some zeros of both signs"):
        assert set(np.signbit(drawn[kind][drawn[kind] == 0]).tolist()) == {True, False}


def test_the_command_names_what_differs_and_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 1 if a hash differs, and 0 once the file is regenerated; native bits are never written."""
    text = bits.text_of(bits.bits_of("scalars"))
    file = tmp_path / "bits.json"
    file.write_text(text.replace('"power": "', '"power": "0'))
    monkeypatch.setattr(bits, "FILE", file)
    monkeypatch.setattr(bits, "SUBJECTS", {"scalars": bits.SUBJECTS["scalars"]})
    monkeypatch.setattr(sys, "argv", ["bits.py"])
    assert bits.main() == 1
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("scalars: power: ")
    assert second == "3 hashes, 1 of which differ from bits.json"
    assert "\n".join(rest) == bits.MEANING
    monkeypatch.setattr(sys, "argv", ["bits.py", "--write"])
    assert bits.main() == 0
    assert file.read_bytes() == text.encode()
    monkeypatch.setattr(sys, "argv", ["bits.py", "--native", "--write"])
    with pytest.raises(SystemExit, match="2"):
        bits.main()
    assert "not allowed with argument --native" in capsys.readouterr().err
    assert file.read_bytes() == text.encode()


@pytest.mark.slow
def test_the_command_needs_numpy_and_attrs_alone() -> None:
    """It runs without a test library, and where no thread can start."""
    program = """
import sys, threading
threading.Thread.start = None
sys.modules.update(dict.fromkeys(("pytest", "hypothesis", "threadpoolctl")))
sys.argv = ["bits.py"]
import bits
bits.SUBJECTS = {name: bits.SUBJECTS[name] for name in ("draws", "optimizers", "runs")}
sys.exit(bits.main())
"""
    tools = Path(bits.__file__).parent
    done = subprocess.run([sys.executable, "-c", program], cwd=tools, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" hashes, 0 of which differ from bits.json\n")
