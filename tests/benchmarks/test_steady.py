"""Rounds are chosen by the machine's pace."""

from __future__ import annotations

from collections.abc import Callable

from alm_bench.machine.steady import steady_rounds


def machine(paces: list[float]) -> tuple[list[int], Callable[[int], int], Callable[[], tuple[float, ...]]]:
    """Rounds that were run, one round, and the fixed work, which takes the next of `paces`."""
    run: list[int] = []
    rest = iter(paces)

    def once(number: int) -> int:
        run.append(number)
        return number

    return run, once, lambda: (next(rest),) * 3


def test_a_first_round_does_not_count() -> None:
    run, once, work = machine([1.0, 1.01, 1.02, 1.03])
    assert steady_rounds(3, once, work) == ([1, 2, 3], (1.0,) * 3, (1.03,) * 3)
    assert run == [0, 1, 2, 3]


def test_slow_rounds_are_run_again() -> None:
    # The work was slow before, within and after rounds 2 and 3.
    run, once, work = machine([1.0, 1.0, 1.3, 1.0, 1.01, 1.0])
    assert steady_rounds(3, once, work) == ([1, 4, 5], (1.0,) * 3, (1.0,) * 3)
    assert run == [0, 1, 2, 3, 4, 5]


def test_a_slow_beginning_is_left_behind() -> None:
    _, once, work = machine([1.3, 1.3, 1.0, 1.0, 1.0])
    assert steady_rounds(2, once, work) == ([3, 4], (1.0,) * 3, (1.0,) * 3)


def test_a_machine_that_never_rests_is_measured_as_it_is() -> None:
    run, once, work = machine([1.0, 2.0, 1.5, 3.0, 4.0])
    kept, before, after = steady_rounds(2, once, work)
    # Four rounds at most, of the paces 2, 2, 3 and 4.
    assert run == [0, 1, 2, 3, 4] and kept == [1, 2]
    assert (before, after) == ((1.0,) * 3, (1.5,) * 3)
