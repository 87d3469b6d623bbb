# SPDX-License-Identifier: GPL-2.0
"""On other architectures the NVMe drivers move data by each route, as in ./run demo.

Outside the machine all data is compared with the images, and the kernel's own driver
reads both disks.
"""

import dataclasses
import tempfile

import pytest
from harness import demo, kernel, vm


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot with both drivers."""

    flavour: str
    machine: str

    def __str__(self):
        return self.machine

    def run(self, kernel):
        """(rows of the demo's table, errors)"""
        part = demo.Part(self.machine, cpu=vm.MACHINES[self.machine].text)
        with tempfile.TemporaryDirectory() as directory:
            return demo.run(part, kernel, directory)


BOOTS = [Boot(machine.arch, machine.name) for machine in vm.OTHER_ARCHES
         if kernel.has(machine.arch, "SAMPLE_DMA_PHYS_NVME")]


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_drivers_move_data(booted, boot):
    rows, errors = booted(boot)
    assert errors + [row for row in rows if row.error] == []
    assert [(row.driver, row.direction, row.verified) for row in rows] == \
        [(driver, direction, "yes") for driver in vm.languages(boot.flavour)
         for direction in ("from device", "to device")]
    assert {row.route for row in rows} == {vm.MACHINES[boot.machine].cpu_route}
