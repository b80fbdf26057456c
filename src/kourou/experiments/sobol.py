"""Points that fill a cube evenly: the Sobol sequence, with the direction numbers of Joe and Kuo (2008)."""

from __future__ import annotations

import functools

from kourou.experiments.failures import DescriptionError

__all__ = ["MAX_DIMENSIONS", "sobol_point"]

_BITS = 32
# One row for each dimension from the second: the degree and coefficients of a primitive polynomial over GF(2), then its
# first direction numbers. Table new-joe-kuo-6; more rows are more dimensions.
_TABLE: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)
MAX_DIMENSIONS = len(_TABLE) + 1


def sobol_point(index: int, shifts: tuple[int, ...]) -> tuple[float, ...]:
    """One point of the sequence, in the cube from 0 to 1 (exclusive), in Gray code order.

    Args:
        index: which point, from 0.
        shifts: one number of 32 bits for each dimension, which is added to its digits (a random digital shift): other
            numbers give another sequence that is as even. All 0 is the plain sequence.

    Raises:
        DescriptionError: more dimensions than there are direction numbers, or more points than bits.
    """
    if len(shifts) > MAX_DIMENSIONS:
        raise DescriptionError(f"a Sobol search has at most {MAX_DIMENSIONS} parameters, got {len(shifts)}: use random")
    if not 0 <= index < 2**_BITS:
        raise DescriptionError(f"a Sobol sequence has 2**{_BITS} points, there is no point {index}")
    gray = index ^ (index >> 1)
    point = []
    for dimension, shift in enumerate(shifts):
        digits = shift
        for bit, direction in enumerate(_directions(dimension)):
            if gray >> bit & 1:
                digits ^= direction
        point.append(digits / 2**_BITS)
    return tuple(point)


@functools.cache
def _directions(dimension: int) -> tuple[int, ...]:
    if dimension == 0:
        return tuple(1 << (_BITS - 1 - bit) for bit in range(_BITS))
    degree, coefficients, first = _TABLE[dimension - 1]
    numbers = list(first)
    for i in range(degree, _BITS):
        number = numbers[i - degree] ^ (numbers[i - degree] << degree)
        for k in range(1, degree):
            if coefficients >> (degree - 1 - k) & 1:
                number ^= numbers[i - k] << k
        numbers.append(number)
    return tuple(number << (_BITS - 1 - bit) for bit, number in enumerate(numbers))
