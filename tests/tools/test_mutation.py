"""The command for mutation testing: what it counts, what it accepts, and its result on a small package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import mutation
import pytest
from mutation import Mutant

pytestmark = pytest.mark.slow

MUTATED = '''
def x_half__mutmut_orig(x: float) -> float:
    """Half of it."""
    return cast("float", x) / 2


def x_half__mutmut_1(x: float) -> float:
    """Half of it."""
    return cast("float", x) * 2


def x_half__mutmut_2(x: float) -> float:
    """Half of it."""
    return cast("XXfloatXX", x) / 2


class Pair:
    def xǁPairǁswap__mutmut_orig(self) -> tuple[int, int]:
        return self.b, self.a

    def xǁPairǁswap__mutmut_1(self) -> tuple[int, int]:
        return None
'''


FOUND = (("x_half__mutmut_1", "noticed"), ("x_half__mutmut_2", "survived"), ("xǁPairǁswap__mutmut_1", "no test"))


@pytest.fixture
def found() -> list[Mutant]:
    """Return the three mutants of a file: a noticed one, one that changes only a type, and one that no test reaches."""
    changes = dict(mutation.changed(MUTATED, [name for name, _ in FOUND]))
    return [Mutant(f"funcnet.numbers.{name}", outcome, *changes[name]) for name, outcome in FOUND]


def test_mutants_are_read(found: list[Mutant]) -> None:
    """A mutant has its place, the removed code and the added code."""
    assert [mutant.line for mutant in found] == [
        'numbers.half: `return cast("float", x) / 2` -> `return cast("float", x) * 2`',
        'numbers.half: `return cast("float", x) / 2` -> `return cast("XXfloatXX", x) / 2`',
        "numbers.Pair.swap: `return self.b, self.a` -> `return None`",
    ]
    assert [mutant.survived for mutant in found] == [False, True, True]
    assert [mutant.is_same for mutant in found] == [False, True, False]


def test_only_a_failed_test_notices() -> None:
    """A mutant whose tests all pass, that no test reaches, or whose tests time out is a survivor."""
    assert all(Mutant("a.x_b__mutmut_1", outcome, "", "").survived for outcome in ("survived", "no test", "too slow"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('float("inf")', 'float("INF")'),
        ("x.astype(np.float64)", "x.astype(None)"),
        ("y = np.empty((2, len(x)), np.float64), 0", "y = np.empty((2, len(x)), ), 0"),
        ("np.zeros(3, np.float64)", "np.zeros(3, None)"),
        ("np.add.reduce(x, axis=0, out=y)", "np.add.reduce(x, out=y)"),
        ("np.add.reduce(x, axis=0)", "np.add.reduce(x, )"),
        ("np.sum(x, keepdims=False)", "np.sum(x, keepdims=None)"),
        ("x.flags.writeable = False", "x.flags.writeable = None"),
        ("x.reshape(-1, 2)", "x.reshape(-2, 2)"),
        ("x.reshape(len(x), -1)", "x.reshape(len(x), -2)"),
        ("(x << 52).view(np.float64)", "(x << 52).view(None)"),
        ("np.maximum.reduce(np.abs(a), axis=0, initial=0.0)", "np.maximum.reduce(np.abs(a), initial=0.0)"),
    ],
)
def test_another_spelling_is_no_fault(old: str, new: str) -> None:
    """Spellings that Python or NumPy treats as equal are not faults."""
    assert Mutant("a.x_b__mutmut_1", "survived", old, new).is_same


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('float("inf")', 'float("XXinfXX")'),
        ("x.astype(np.float32)", "x.astype(None)"),
        ("np.empty(3, np.float32)", "np.empty(3, )"),
        ("np.add.reduce(x, axis=-1)", "np.add.reduce(x, )"),
        ("np.add.reduce(x, axis=0)", "np.add.reduce(x, axis=None)"),
        ("x.flags.writeable = False", "x.flags.writeable = True"),
        ("x.reshape(-1, 2)", "x.reshape(1, 2)"),
    ],
)
def test_another_value_is_a_fault(old: str, new: str) -> None:
    """A different value is a fault, however similar the spelling."""
    assert not Mutant("a.x_b__mutmut_1", "survived", old, new).is_same


def test_a_survivor_must_be_listed(found: list[Mutant], capsys: pytest.CaptureFixture[str]) -> None:
    """An unlisted survivor is a failure, even if enough mutants are noticed; listed mutants noticed now are named."""
    killed = [Mutant("funcnet.numbers.x_half__mutmut_1", "noticed", str(number), "b") for number in range(17)]
    assert not mutation.report("numbers", found + killed, "")
    assert "not listed: numbers.Pair.swap: `return self.b, self.a` -> `return None`" in capsys.readouterr().out
    assert mutation.report("numbers", found + killed, found[2].line)
    assert "19 mutants,    1 survived, 94.7% noticed" in capsys.readouterr().out
    assert mutation.report("numbers", found + killed, f"{found[2].line} {found[0].line}")
    assert f"listed, and noticed now: {found[0].line}" in capsys.readouterr().out
    assert not mutation.report("numbers", found, found[2].line)  # one survivor of two mutants is too many


@pytest.mark.skipif(not (mutation.SOURCE / "funcnet").exists(), reason="the source is not beside the tests")
def test_every_part_has_files_and_tests() -> None:
    """No name in the table is misspelled."""
    for part in (*mutation.CHOSEN, "layers/dense", "arithmetic/portable"):
        assert mutation.files_of(part), part
        assert mutation.tests_of(part), part


SMALL = {
    "pyproject.toml": '[tool.mutmut]\nsource_paths = ["funcnet"]\n',
    "funcnet/__init__.py": "",
    "funcnet/numbers.py": """
        def read(x):
            return x + 1

        def called(x):
            return x + 2

        def alone(x):
            return x + 3

        def down(x):
            while x > 1:
                x -= 1
    """,
    "tests/test_numbers.py": """
        from funcnet.numbers import called, down, read

        def test_numbers():
            assert read(1) == 2
            assert called(2)

        def test_down():
            down(2)
    """,
}
"""A package with a tested function, two functions that are only called, one with a loop, and one never called."""


@pytest.mark.skipif(find_spec("mutmut") is None, reason="install funcnet[mutation]")
@pytest.mark.parametrize("broken", [False, True])
def test_faults_are_planted_and_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, broken: bool) -> None:
    """Each fault runs in its own fork; nothing is tried if the tests fail without a fault."""
    planted = (mutation.SOURCE / "tests" / "tools" / "planted.py").read_text().replace("5 + 20 *", "1 + 20 *")
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(dedent(text).replace("== 2", "== 3" if broken else "== 2"))
    (tmp_path / "tests" / "tools").mkdir()
    (tmp_path / "tests" / "tools" / "planted.py").write_text(planted)
    monkeypatch.setattr(mutation, "SOURCE", tmp_path)
    monkeypatch.setattr(mutation, "CHOSEN", {"numbers": ["numbers"]})
    monkeypatch.setattr(mutation, "BRIEF", ["-q", "--tb=native", "-p", "no:cacheprovider"])
    if broken:
        with pytest.raises(SystemExit, match=r"(?s)a test fails without a fault:.*tests/test_numbers.py::test_numbers"):
            list(mutation.mutants("numbers", 2))
        return
    assert [f"{mutant.outcome}: {mutant.line}" for mutant in mutation.mutants("numbers", 2)] == [
        "noticed: numbers.read: `return x + 1` -> `return x - 1`",
        "noticed: numbers.read: `return x + 1` -> `return x + 2`",
        "noticed: numbers.called: `return x + 2` -> `return x - 2`",
        "survived: numbers.called: `return x + 2` -> `return x + 3`",
        "no test: numbers.alone: `return x + 3` -> `return x - 3`",
        "no test: numbers.alone: `return x + 3` -> `return x + 4`",
        "survived: numbers.down: `while x > 1:` -> `while x >= 1:`",
        "survived: numbers.down: `while x > 1:` -> `while x > 2:`",
        "survived: numbers.down: `x -= 1` -> `x = 1`",
        "too slow: numbers.down: `x -= 1` -> `x += 1`",
        "survived: numbers.down: `x -= 1` -> `x -= 2`",
    ]
