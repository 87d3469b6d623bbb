#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Make each mistake of a table, with the raw DMA API and with typed maps.

    hazards.py          what came of each
    hazards.py --rst    the same as Documentation/core-api/dma-phys-hazards.rst

The module raw_hazards makes the mistakes, in virtual machines that may crash
over them: the first report of the kernel then is what came of it.
"""

import concurrent.futures
import dataclasses
import errno
import re
import sys
import tempfile
import textwrap

import kernel as kernels
import vm
from progress import Step, say

MODULE = "raw_hazards"
EDU = "0x1234 0x11e8"
LENDER = "0x1af4 0x1110"
# Seconds for one mistake. Most take one; a kernel that it breaks may hang.
PATIENCE = 60

NAMES = errno.errorcode | {errno.EOPNOTSUPP: "EOPNOTSUPP"}

MACHINES = {name: vm.MACHINES[name] for name in (
    "direct", "bounce", "intel-strict", "intel-passthrough", "p2p-bus")}
MACHINES["no-bounce"] = dataclasses.replace(
    vm.MACHINES["direct"], name="no-bounce", text="no IOMMU, no bounce slots",
    append="swiotlb=noforce")


@dataclasses.dataclass(frozen=True)
class Case:
    """A mistake, and where it is made.

    name is what the module knows it by. After one that is alone the kernel is
    gone, or no longer to be trusted; it ends differently each time where wild
    says how. One with something between is made in two orders, and in between
    the guest does that. Where there is nothing to run, ours says why.
    """

    name: str
    held: str
    machine: str
    alone: bool = False
    wild: str = ""
    between: str = ""
    ours: str = ""

    @property
    def hazard(self):
        return self.name[:3].upper()


AGAIN = f"unbind {{edu}}; bind {MODULE} {{edu}}"
OTHER_DOMAIN = ("unbind {edu}; echo DMA >$PCI/devices/{edu}/iommu_group/type "
                f"&& bind {MODULE} {{edu}}")

CASES = [
    Case("h01", "the direction is DMA_NONE", "direct", alone=True),
    Case("h02", "the length is 0", "direct"),
    Case("h02", "the length is 0", "bounce", alone=True),
    Case("h02", "the length is 0", "intel-strict", alone=True),
    Case("h03", "address and length wrap around", "direct"),
    Case("h04", "the length is 8 TiB", "bounce", alone=True),
    Case("h04_more", "the length is 8 TiB and 2 KiB", "bounce", alone=True,
         wild="a crash anywhere, or a hang"),
    Case("h05", "the device has no DMA mask", "direct"),
    Case("h06", "beyond the mask, and nothing can bounce", "no-bounce"),
    Case("h07", "memory mapped as MMIO, for an untrusted device",
         "intel-strict"),
    Case("h08", "MMIO mapped as memory", "bounce", alone=True),
    Case("h09", "unmapped as MMIO, mapped as memory", "bounce"),
    Case("h10_direction", "unmapped in the other direction", "bounce"),
    Case("h10_swapped", "address and length swapped at unmap", "intel-strict"),
    Case("h11", "mapped without translation, unmapped with it",
         "intel-passthrough", between=OTHER_DOMAIN),
    Case("h12", "DMA_ATTR_SKIP_CPU_SYNC at unmap, and no sync", "bounce"),
    Case("h14", "synced beyond the end of the map", "bounce"),
    Case("h14_direction", "synced in the other direction", "bounce"),
    Case("h15", "the sentinel is not checked", "bounce"),
    Case("h16", "physical address 0", "intel-strict"),
    Case("h17", "part of a page of MMIO, for an untrusted device",
         "intel-strict"),
    Case("h18", "linked beyond the end of the IOVA", "intel-strict",
         alone=True),
    Case("h18_twice", "IOVA destroyed twice", "intel-strict", alone=True),
    Case("h19", "state of the request before", "intel-strict", alone=True),
    Case("h20", "dma_need_unmap() remembered", "direct"),
    Case("h21", "two ranges of MMIO, as dma_buf_phys_vec_to_sgt() maps them",
         "intel-strict"),
    Case("h22", "4 GiB in a scatterlist", "direct"),
    Case("h23", "provider of the ROM, as of a BAR", "p2p-bus"),
    Case("h24", "range that leaves its BAR", "p2p-bus"),
    Case("h25", "the peer's driver leaves while a map is held", "p2p-bus"),
    Case("h26", "the device's driver leaves while a map is held",
         "intel-strict", between=AGAIN,
         ours="does not compile in Rust; in C reported and undone with "
              "CONFIG_DMA_PHYS_DEBUG"),
    Case("h27", "address on the bus, unmapped as any other", "intel-strict",
         alone=True),
    Case("h29", "longer than the device's segments", "direct"),
    Case("h30", "more alignment than the IOMMU has", "intel-strict"),
]

# Mistakes that show only where no machine of ours is.
NOT_SHOWN = {
    "H13": "sync of an MMIO map",
    "H28": "two buffers in one cache line",
}
ELSEWHERE = "device that is not coherent"
WHY_NOT = "not shown: x86-64 has no such device"


# --- a boot -----------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """Some mistakes on one machine, with one of the two."""

    side: str
    machine: str
    cases: tuple[Case, ...]
    flavour: str = "base"

    def __str__(self):
        return "-".join([self.side, self.machine, self.cases[0].name])

    def run(self, kernel):
        """{case: what came of it}, and the log's complaints by "log"."""
        found = {}
        machine = MACHINES[self.machine]
        append = "oops=panic" if self.side == "raw" else ""
        with tempfile.NamedTemporaryFile() as rom:
            rom.write(bytes(4096))
            rom.flush()
            devices = vm.edu(machine)
            devices[-1] += f",romfile={rom.name}"
            guest = vm.VM(kernel, machine, devices=devices, append=append,
                          name=f"hazards-{self}")
            try:
                with guest:
                    self._all(guest, found)
            except vm.Failure:
                # It may end over a mistake, and over nothing else.
                if self.side != "raw" or not found:
                    raise
        return {case: self._came(case, said, guest.console())
                for case, said in found.items()} | {"log": guest.reports()}

    def _came(self, case, said, console):
        if case.wild and self.side == "raw" and not said:
            return case.wild
        return outcome(said, log_of(console, self.side, case.name))

    def _all(self, guest, found):
        edu = guest.sh(f"named {EDU}")
        lender = guest.sh(f"named {LENDER}")
        guest.sh(f"load {MODULE} && bind {MODULE} {lender} {edu}")
        for case in self.cases:
            found[case] = ""
            found[case] = self._one(guest, edu, case)

    def _one(self, guest, edu, case):
        order = f"order {MODULE} {edu} '{self.side} {case.name}'"
        if case.between:
            guest.sh(order, PATIENCE)
            guest.sh(case.between.format(edu=edu), PATIENCE)
        return guest.sh(order, PATIENCE)


def boots(side):
    """Every boot of one side."""
    if side == "ours":
        return [Boot(side, name, cases) for name in MACHINES
                if (cases := tuple(case for case in CASES
                                   if case.machine == name and not case.ours))]
    alone = [Boot(side, case.machine, (case,)) for case in CASES if case.alone]
    return alone + [
        Boot(side, name, cases) for name in MACHINES
        if (cases := tuple(case for case in CASES
                           if case.machine == name and not case.alone))]


# --- what came of it --------------------------------------------------------

def log_of(console, side, name):
    """What the kernel said from the order (its last half) to the next."""
    parts = re.split(rf"{MODULE} \S+ (?=raw |ours )", console)
    own = [part for part in parts if part.split()[:2] == [side, name]]
    return own[-1] if own else ""


def outcome(said, log):
    """One cell of the table, without anything that differs from run to run."""
    said = re.sub(r"error -(\d+)",
                  lambda found: f"-{NAMES[int(found[1])]}", said)
    said = said.replace("error 0", "no error")
    return "; ".join(filter(None, [said, first_report(log)])) or "a hang"


def first_report(log):
    """The first thing that the kernel complains about, in short."""
    lines = vm.reports(log)
    if not lines:
        return ""
    line = re.sub(r"^\[.*?\] ", "", lines[0])
    if found := re.search(r"\b(BUG|WARNING:)( \S+)? at (\w+)\+", line):
        return f"{found[1].rstrip(':')} in {found[3]}()"
    if "unable to handle page fault" in line or "NULL pointer" in line:
        at = re.search(r"RIP: \w+:(\w+)", log)
        return "page fault in " + (f"{at[1]}()" if at else "the kernel")
    return line


def rows(found):
    """(hazard, what is held wrong, where, raw, ours) of each mistake."""
    table = [(case.hazard, case.held, MACHINES[case.machine].text,
              found["raw"][case], case.ours or found["ours"][case])
             for case in CASES]
    table += [(hazard, held, ELSEWHERE, WHY_NOT, WHY_NOT)
              for hazard, held in NOT_SHOWN.items()]
    return sorted(table, key=lambda row: row[0])


def text(table):
    """The table for a terminal."""
    for hazard, held, where, raw, ours in table:
        yield f"{hazard}  {held} ({where})"
        for side, said in (("raw", raw), ("ours", ours)):
            yield from textwrap.wrap(said, 78, initial_indent=f"     {side:4}  ",
                                     subsequent_indent=" " * 11)


HEAD = """\
.. SPDX-License-Identifier: GPL-2.0

==============================================
Mistakes in DMA mapping, and what came of them
==============================================

Mistakes that a driver can make when it maps physical addresses, what the raw
DMA API of Linux {release} made of each, and what typed maps
(Documentation/core-api/dma-phys.rst) made of the same. Tests are named after
the number in the first column.

``samples/dma-phys/raw_hazards.c`` makes them, in virtual machines, where the
device is QEMU's ``edu`` and MMIO is the memory of ``ivshmem-plain``. The device
moves {length} bytes at a time. Leaked is what is missing when all bounce slots,
or all IOVA space, are taken and counted. A BUG or a page fault ended the
machine. ``./run hazards --rst`` prints this page.

.. list-table::
   :header-rows: 1
   :widths: 6 24 16 27 27
"""
COLUMNS = ("", "held wrong", "where", "raw API", "typed maps")
LENGTH = 512


def rst(table, release):
    """The same as a page of the kernel's documentation."""
    yield HEAD.format(release=release, length=LENGTH)
    for row in [COLUMNS, *table]:
        for at, cell in enumerate(row):
            cell = re.sub(r"(?<!\S)(-E\w+)", r"``\1``", cell)
            yield from (line.rstrip() for line in textwrap.wrap(
                cell, 79, break_on_hyphens=False,
                initial_indent="     - " if at else "   * - ",
                subsequent_indent=" " * 7) or ["   * -"])


def parse(page):
    """The rows of such a page, without its markup."""
    body = page.split(":widths:")[1].replace("``", "")
    body = re.sub(r"\n {7}(?=\S)", " ", body)
    table = re.findall(r"^   \* - (H\d\d)\n" + r"     - (.*)\n" * 4, body, re.M)
    return [tuple(row) for row in table]


def version(release):
    """A release without what is ours in its name."""
    return re.match(r"[\d.]+\d", release)[0]


# --- all of it --------------------------------------------------------------

def boot_all(kernel):
    """{side: {case: what came of it}}, and what must not have been."""
    found = {"raw": {}, "ours": {}}
    wrong = []
    todo = boots("raw") + boots("ours")
    with Step("holding it wrong") as step, \
            concurrent.futures.ThreadPoolExecutor(vm.AT_ONCE) as pool:
        futures = {pool.submit(boot.run, kernel): boot for boot in todo}
        try:
            for done, future in enumerate(
                    concurrent.futures.as_completed(futures)):
                boot, result = futures[future], future.result()
                log = result.pop("log")
                found[boot.side] |= result
                if boot.side == "ours":
                    wrong += [f"{boot}: {line}" for line in log]
                step.now(f"{done + 1} of {len(todo)} machines done")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    return found, wrong


def main(form=None):
    """See the top of this file."""
    kernels.stop_in_order()
    try:
        kernel = vm.kernel()
        found, wrong = boot_all(kernel)
    except (vm.Failure, vm.Refusal) as failure:
        say(f"stopped: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    release = version(kernel.release)
    if form == "--rst":
        print("\n".join(rst(rows(found), release)))
    else:
        print(f"Linux {release}, {vm.accelerator(kernel).upper()}")
        print("\n".join(text(rows(found))))
    if wrong:
        say("\n".join(["", "with typed maps nothing may complain:", *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
