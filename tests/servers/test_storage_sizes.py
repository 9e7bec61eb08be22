"""Sizes: what a person writes is what is meant, and what is shown is no larger than what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.storage.sizes import GIB, MIB, SizeRefused, align_down, align_up, exact, human, human_disk, parse_size

SIZES = st.integers(min_value=1, max_value=1 << 60)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GiB", 20 * GIB),
        ("20GiB", 20 * GIB),
        (" 20 g ", 20 * GIB),
        ("512M", 512 * MIB),
        ("500 GB", 500 * 10**9),
        ("1.5 TB", 1_500_000_000_000),
        ("0.5 GiB", GIB // 2),
        ("1048576", MIB),
        ("7 b", 7),
    ],
)
def test_a_size_is_read_as_it_was_meant(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "20 XB", "-1 GiB", "1e9", "1,5 GB", "20 Gi B", "0", "0 GiB", "0.1 B", "٣ GiB", "9" * 20, "inf"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SizeRefused):
        parse_size(text)


@given(SIZES)
def test_an_exact_size_is_read_back_to_the_byte(size: int) -> None:
    assert parse_size(exact(size)) == size


@given(SIZES)
def test_alignment_stays_within_one_mib(size: int) -> None:
    assert size - MIB < align_down(size) <= size <= align_up(size) < size + MIB
    assert align_down(size) % MIB == align_up(size) % MIB == 0


@pytest.mark.parametrize(
    ("size", "inside", "label"),
    [
        (960_197_124_096, "894 GiB", "960 GB"),
        (1_920_383_410_176, "1.75 TiB", "1.92 TB"),
        (8 * GIB, "8 GiB", "8 GiB"),
        (512 * MIB, "512 MiB", "537 MB"),
        (999_999_999_999, "931 GiB", "1 TB"),
        (1000, "1000 B", "1 kB"),
        (0, "0 B", "0 B"),
    ],
)
def test_sizes_are_written_with_three_digits(size: int, inside: str, label: str) -> None:
    assert human(size) == inside
    assert human_disk(size) == label


@given(SIZES)
def test_a_size_for_a_person_is_right_to_half_a_percent(size: int) -> None:
    number, unit = human(size).split()
    shown = parse_size(f"{number} TiB") * 1024 if unit == "PiB" else parse_size(f"{number} {unit}")
    # a byte more, as parse_size drops the fraction of one
    assert abs(shown - size) <= size / 190 + 1
