"""In which pieces a reduce-scatter goes, beside what libtpu 0.0.42 compiled of programs of that one collective."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passes.hardware.pieces import TILE, Pieces, comes_out, fills_up

SCRATCH = 16 * 2**20
BF16 = TILE // 2
"""Bytes of a tile of bfloat16 as libtpu counts them, of 8 rows."""
EVEN = [
    *[(4, beside) for beside in (1, 48, 77, 100, 150)],
    *[(8, beside) for beside in (3, 7, 51)],
    *[(12, beside) for beside in (7, 31, 77, 97, 100, 150)],
    *[(16, beside) for beside in (1, 31, 51, 61, 235)],
    *[(24, beside) for beside in (3, 11, 23, 47, 48, 97, 101, 113, 150, 194, 196, 198, 201, 203, 205)],
    *[(40, beside) for beside in (7, 51)],
    (56, 32),
    (60, 32),
]
FILLED = [(12, 51, 16), (32, 32, 36), (64, 32, 70), (96, 32, 98), (128, 32, 140), (2032, 1, 2040)]
REDUCED = [
    *[(4, beside) for beside in (121, 139, 211, 235)],
    *[(12, beside) for beside in (121, 139)],
    *[(16, beside) for beside in (121, 139, 197)],
    *[(24, beside) for beside in (127, 131, 193, 197, 257)],
    *[(32, 197), (8, 197), (40, 211)],
]


def square(rows: int, beside: int, tile: int = BF16) -> Pieces:
    return Pieces(rows, beside, 4 * rows * beside * tile, 4, True, SCRATCH)


def ring(devices: int, rows: int, beside: int, tile: int = BF16) -> Pieces:
    return Pieces(rows, beside, devices * rows * beside * tile, devices, False, SCRATCH)


@pytest.mark.parametrize(("rows", "beside"), EVEN)
def test_what_comes_out_even_over_a_square(rows: int, beside: int) -> None:
    assert comes_out(square(rows, beside)) and not fills_up(square(rows, beside))


@pytest.mark.parametrize(("rows", "beside", "filled"), FILLED)
def test_what_is_filled_up_over_a_square(rows: int, beside: int, filled: int) -> None:
    pieces = square(rows, beside)
    assert comes_out(pieces) and fills_up(pieces)
    assert pieces.filled() == filled


@pytest.mark.parametrize(("rows", "beside"), REDUCED)
def test_what_is_reduced_over_a_square(rows: int, beside: int) -> None:
    assert not comes_out(square(rows, beside))


@pytest.mark.parametrize(
    ("rows", "beside"), [(4, 61), (4, 75), (4, 101), (4, 113), (8, 61), (8, 91), (12, 97), (16, 47)]
)
def test_a_piece_of_float32_may_have_an_odd_number_of_tiles(rows: int, beside: int) -> None:
    assert comes_out(square(rows, beside, TILE)) and not fills_up(square(rows, beside, TILE))
    assert not comes_out(square(4, 127, TILE)) and not comes_out(square(4, 131, TILE))


@pytest.mark.parametrize(
    ("devices", "rows", "beside", "filled"),
    [
        *[(4, rows, 32, filled) for rows, filled in ((32, 33), (64, 65), (96, 98), (128, 130), (60, 60))],
        *[(4, 64, 16, 66), (4, 64, 8, 64), (8, 96, 32, 99)],
        *[(4, rows, 1, filled) for rows, filled in ((509, 512), (521, 524), (1009, 1014), (1303, 1308), (1601, 1608))],
        *[(8, rows, 1, filled) for rows, filled in ((509, 512), (613, 618), (907, 912), (1103, 1104))],
    ],
)
def test_what_is_filled_up_around_a_ring(devices: int, rows: int, beside: int, filled: int) -> None:
    pieces = ring(devices, rows, beside)
    assert fills_up(pieces) == (rows != filled)
    assert pieces.filled() == filled


def test_a_chip_that_gives_an_operation_more_room_takes_larger_pieces() -> None:
    """As on a v6e, and on a v5e with --xla_tpu_scoped_vmem_limit_kib=32768."""
    pieces = replace(ring(4, 64, 32), scratch=2 * SCRATCH)
    assert (pieces.least, pieces.filled()) == (3, 66)


def test_a_stack_of_shards_goes_in_pieces_of_any_tiles() -> None:
    for rows, beside, divides in ((64, 32, True), (61, 32, True), (67, 32, True), (509, 32, False), (521, 32, False)):
        assert ring(4, rows * beside, 1).divides() == divides
