"""The command for mutation testing: what it counts, what it lets pass, what it reads; mutmut itself is not run here."""

from __future__ import annotations

import json
from pathlib import Path

import mutation
import pytest
from mutation import Mutant

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


@pytest.fixture
def found(tmp_path: Path) -> list[Mutant]:
    """The three mutants of a file: one noticed, one of a type alone, one that survived."""
    path = tmp_path / "numbers.py"
    path.write_text(MUTATED)
    codes = {
        "funcnet.numbers.x_half__mutmut_1": 1,
        "funcnet.numbers.x_half__mutmut_2": 0,
        "funcnet.numbers.xǁPairǁswap__mutmut_1": 0,
    }
    path.with_name("numbers.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    return list(mutation.tried(path))


def test_mutants_are_read(found: list[Mutant]) -> None:
    """Where each is, and what it takes away and puts there."""
    assert [mutant.line for mutant in found] == [
        'numbers.half: `return cast("float", x) / 2` -> `return cast("float", x) * 2`',
        'numbers.half: `return cast("float", x) / 2` -> `return cast("XXfloatXX", x) / 2`',
        "numbers.Pair.swap: `return self.b, self.a` -> `return None`",
    ]
    assert [mutant.survived for mutant in found] == [False, True, True]
    assert [mutant.is_same for mutant in found] == [False, True, False]


@pytest.mark.parametrize("code", [0, 5, 33, -24, None])
def test_only_a_failed_test_notices(code: int | None) -> None:
    """All passed, none found, none chosen, too slow, not tried: each is a survivor."""
    assert Mutant("funcnet.numbers.x_half__mutmut_1", code, "a", "b").survived


def test_another_spelling_is_no_fault() -> None:
    """Infinity in capitals; another number is one."""
    assert Mutant("a.x_b__mutmut_1", 0, 'float("inf")', 'float("INF")').is_same
    assert not Mutant("a.x_b__mutmut_1", 0, 'float("inf")', 'float("XXinfXX")').is_same


def test_a_survivor_must_be_listed(found: list[Mutant], capsys: pytest.CaptureFixture[str]) -> None:
    """With enough of the others noticed; a listed one that is noticed by now is named."""
    killed = [Mutant("funcnet.numbers.x_half__mutmut_1", 1, str(number), "b") for number in range(17)]
    assert not mutation.report("numbers", found + killed, "")
    assert "not listed: numbers.Pair.swap: `return self.b, self.a` -> `return None`" in capsys.readouterr().out
    assert mutation.report("numbers", found + killed, found[2].line)
    assert "19 mutants,    1 survived, 94.7% noticed" in capsys.readouterr().out
    assert mutation.report("numbers", found + killed, f"{found[2].line} {found[0].line}")
    assert f"listed, and noticed now: {found[0].line}" in capsys.readouterr().out


def test_too_many_survivors_fail_though_listed(found: list[Mutant]) -> None:
    """One of two is too many."""
    assert not mutation.report("numbers", found, found[2].line)


@pytest.mark.skipif(not (mutation.SOURCE / "funcnet").exists(), reason="the source is not beside the tests")
def test_every_part_has_files_and_tests() -> None:
    """No name in the table is misspelt."""
    for part in (*mutation.CHOSEN, "layers/dense", "arithmetic/portable"):
        assert mutation.files_of(part), part
        assert mutation.tests_of(part), part
