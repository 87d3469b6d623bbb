# SPDX-License-Identifier: GPL-2.0
"""A queue of the C driver meets its target of memory at rest."""

import dataclasses

import pytest

from harness import bench
from harness import bench_memory as memory


@dataclasses.dataclass(frozen=True)
class Boot:
    """A few rounds."""

    flavour: str = "base"

    def __str__(self):
        return "memory"

    def run(self, kernel):
        return memory.measure(kernel, rounds=3)


boots = pytest.mark.parametrize("boot", [Boot()], ids=str)


@boots
def test_c_queue_meets_the_target(booted, boot):
    assert booted(boot)["C"].median <= memory.MAX_BYTES


@boots
def test_c_driver_states_a_part_of_what_is_measured(booted, boot):
    """Without the requests of the block layer, which are not smaller than 64 bytes."""
    found = booted(boot)["C"]
    assert memory.ENTRIES * 64 < found.stated < found.median


@boots
def test_measurements_repeat(booted, boot):
    spreads = {name: found.spread for name, found in booted(boot).items()}
    assert max(spreads.values()) < 0.25, spreads


def test_rows_of_the_table():
    results = {"kernel": memory.Memory([500 << 10, 510 << 10, 400 << 10]),
               "C": memory.Memory([1 << 20], 260 << 10),
               "Rust": memory.Memory([(1 << 20) + 4096])}
    assert list(memory.table(results)) == [
        ("kernel", "500 KiB", "20%", "", "", ""),
        ("C", "1,024 KiB", "0%", "260 KiB", "1,024 KiB", "yes"),
        ("Rust", "1,028 KiB", "0%", "", "", "")]
    results["C"].measured = [(1 << 20) + 4096]
    assert list(memory.table(results))[1][-1] == "NO"
    assert "\n".join(memory.rst(results, bench.rst_table)).count(
        ".. list-table::") == 1


def test_controllers_differ_in_their_queues():
    arguments = " ".join(memory.devices())
    assert arguments.count("max_ioqpairs=1,") == 1
    assert arguments.count(f"max_ioqpairs={memory.MANY},") == 1
