# SPDX-License-Identifier: GPL-2.0
"""Make each mistake of a table, with the raw DMA API and with typed maps.

    ./run hazards          print the outcomes
    ./run hazards --rst    print Documentation/core-api/dma-phys-hazards.rst

The module raw_hazards makes the mistakes, in virtual machines that may crash. If
the kernel reports something, the first report is the outcome.
"""

import concurrent.futures
import dataclasses
import errno
import re
import sys
import tempfile
import textwrap

from harness import kernel as kernels
from harness import vm
from harness.progress import Step, say

MODULE = "raw_hazards"
EDU = "0x1234 0x11e8"
PEER = "0x1af4 0x1110"
# Seconds for one mistake. Most take a second, but the kernel may hang.
TIMEOUT = 60

NAMES = errno.errorcode | {errno.EOPNOTSUPP: "EOPNOTSUPP"}

# Memory that the kernel leaves alone, so that it has no linear map.
RESERVED = 512 << 20

MACHINES = {name: vm.MACHINES[name] for name in (
    "direct", "bounce", "intel-strict", "intel-passthrough", "p2p-bus")}
MACHINES["no-bounce"] = dataclasses.replace(
    vm.MACHINES["direct"], name="no-bounce", text="no IOMMU, no bounce buffers",
    append="swiotlb=noforce")
MACHINES["reserved"] = dataclasses.replace(
    vm.MACHINES["bounce"], name="reserved", text="swiotlb=force, memmap=",
    append=f"swiotlb=force memmap=2M${RESERVED >> 20}M")


@dataclasses.dataclass(frozen=True)
class Case:
    """A mistake on a machine.

    The module knows it by its name. A case with own_boot breaks the kernel, so no
    other case comes after it; if its outcome differs between runs, random_outcome
    describes it. With between the command is sent twice, with this line of shell in
    between. typed_text replaces the outcome with typed maps if there is nothing to
    run.
    """

    name: str
    mistake: str
    machine: str
    own_boot: bool = False
    random_outcome: str = ""
    between: str = ""
    typed_text: str = ""

    @property
    def hazard(self):
        return self.name[:3].upper()


REBIND = f"unbind {{edu}}; bind {MODULE} {{edu}}"
OTHER_DOMAIN = ("unbind {edu}; echo DMA >$PCI/devices/{edu}/iommu_group/type "
                f"&& bind {MODULE} {{edu}}")

CASES = [
    Case("h01", "the direction is DMA_NONE", "direct", own_boot=True),
    Case("h02", "the length is 0", "direct"),
    Case("h02", "the length is 0", "bounce", own_boot=True),
    Case("h02", "the length is 0", "intel-strict", own_boot=True),
    Case("h03", "address and length wrap around", "direct"),
    Case("h04", "the length is 8 TiB", "bounce", own_boot=True),
    Case("h04_more", "the length is 8 TiB and 2 KiB", "bounce", own_boot=True,
         random_outcome="a crash anywhere, or a hang"),
    Case("h05", "the device has no DMA mask", "direct"),
    Case("h06", "beyond the mask, and nothing can bounce", "no-bounce"),
    Case("h07", "memory mapped as MMIO, for an untrusted device",
         "intel-strict"),
    Case("h08", "MMIO mapped as memory", "bounce", own_boot=True),
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
         own_boot=True),
    Case("h18_twice", "IOVA destroyed twice", "intel-strict", own_boot=True),
    Case("h19", "state of the request before", "intel-strict", own_boot=True),
    Case("h20", "dma_need_unmap() remembered", "direct"),
    Case("h21", "two ranges of MMIO, as dma_buf_phys_vec_to_sgt() maps them",
         "intel-strict"),
    Case("h22", "4 GiB in a scatterlist", "direct"),
    Case("h23", "provider of the ROM, taken for that of a BAR", "p2p-bus"),
    Case("h24", "range that leaves its BAR", "p2p-bus"),
    Case("h25", "the peer's driver is unbound while a map is held", "p2p-bus"),
    Case("h26", "the device's driver is unbound while a map is held",
         "intel-strict", between=REBIND,
         typed_text="does not compile in Rust; in C reported at unbind with "
                    "CONFIG_DMA_PHYS_DEBUG"),
    Case("h27", "address on the bus, unmapped as any other", "intel-strict",
         own_boot=True),
    Case("h29", "longer than the device's segments", "direct"),
    Case("h30", "more alignment than the IOMMU has", "intel-strict"),
    Case("h33", "a handle copied and unmapped twice", "intel-strict",
         own_boot=True,
         typed_text="does not compile in Rust; in C refused and reported with "
                    "CONFIG_DMA_PHYS_DEBUG, else as with the raw API"),
    Case("h34", "the peer is reset while its memory is mapped", "p2p-bus"),
    Case("h35", "memory without a linear map has to bounce", "reserved",
         own_boot=True),
    Case("h36", "unmapped with a sync while the CPU owns the data", "bounce"),
]

# Mistakes without effect on the machines of this module, whose devices are coherent:
# {hazard: (mistake, raw API, typed maps)}. Cases of dma_phys_observe and
# dma_phys_debug, named after the hazard, show them on arm64.
NOT_COHERENT = {
    "H13": ("sync of an MMIO map", "cache maintenance of all bytes of the sync",
            "no cache maintenance"),
    "H28": ("two buffers in one cache line",
            "unmap drops the line from the cache, with what the CPU wrote into it",
            "the same; reported with CONFIG_DMA_PHYS_DEBUG"),
}
ELSEWHERE = "no IOMMU, arm64, not coherent"

# Mistakes in which no call is wrong: (mistake, raw API, typed maps).
ANY_MACHINE = "all"
NO_WRONG_CALL = {
    "H31": ("the CPU accesses memory that the device owns",
            "not shown: the outcome depends on timing",
            "does not compile in Rust without an unsafe promise; in C as with the "
            "raw API"),
    "H32": ("memory freed while the device accesses it",
            "not shown: the outcome depends on timing",
            "in Rust memory and map are leaked together, and that is reported; in C "
            "reported at unbind with CONFIG_DMA_PHYS_DEBUG"),
    "H37": ("driver data freed after the end of DMA ownership",
            "not shown: as H11 if the domain has changed",
            "in Rust it is dropped before; in C reported at unbind with "
            "CONFIG_DMA_PHYS_DEBUG, and the late unmap works"),
}


# --- a boot -----------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """Some mistakes on one machine, on the side "raw" or "typed"."""

    side: str
    machine: str
    cases: tuple[Case, ...]
    flavour: str = "base"

    def __str__(self):
        return "-".join([self.side, self.machine, self.cases[0].name])

    def run(self, kernel):
        """{case: outcome}, and "log": the complaints of the kernel"""
        outputs = {}
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
                    self._run_cases(guest, outputs)
            except vm.MachineError:
                # A mistake with the raw API may crash the machine.
                if self.side != "raw" or not outputs:
                    raise
        return {case: self._outcome(case, output, guest.console())
                for case, output in outputs.items()} | {
                    "log": guest.reports()}

    def _outcome(self, case, output, console):
        if case.random_outcome and self.side == "raw" and not output:
            return case.random_outcome
        return outcome(output, log_of(console, self.side, case.name))

    def _run_cases(self, guest, outputs):
        edu = guest.sh(f"find_pci {EDU}")
        peer = guest.sh(f"find_pci {PEER}")
        guest.sh(f"load {MODULE} reserved={RESERVED} && "
                 f"bind {MODULE} {peer} {edu}")
        for case in self.cases:
            # The output of a case that crashes the machine.
            outputs[case] = ""
            outputs[case] = self._run_case(guest, edu, case)

    def _run_case(self, guest, edu, case):
        command = f"driver_command {MODULE} {edu} '{self.side} {case.name}'"
        if case.between:
            guest.sh(command, TIMEOUT)
            guest.sh(case.between.format(edu=edu), TIMEOUT)
        return guest.sh(command, TIMEOUT)


def boots(side):
    """All boots of a side."""
    if side == "typed":
        return [Boot(side, name, cases) for name in MACHINES
                if (cases := tuple(case for case in CASES
                                   if case.machine == name
                                   and not case.typed_text))]
    own_boots = [Boot(side, case.machine, (case,)) for case in CASES
                 if case.own_boot]
    return own_boots + [
        Boot(side, name, cases) for name in MACHINES
        if (cases := tuple(case for case in CASES
                           if case.machine == name and not case.own_boot))]


# --- outcomes ---------------------------------------------------------------

def log_of(console, side, name):
    """The kernel log of a case: from its last command to the next command."""
    parts = re.split(rf"{MODULE} \S+ (?=raw |typed )", console)
    own = [part for part in parts if part.split()[:2] == [side, name]]
    return own[-1] if own else ""


def outcome(output, log):
    """A cell of the table: the output and the first report, without addresses."""
    output = re.sub(r"error -(\d+)",
                    lambda match: f"-{NAMES[int(match[1])]}", output)
    output = output.replace("error 0", "no error")
    return "; ".join(filter(None, [output, first_report(log)])) or "a hang"


def first_report(log):
    """The first complaint of the kernel, in short."""
    lines = vm.reports(log)
    if not lines:
        return ""
    line = re.sub(r"^\[.*?\] ", "", lines[0])
    if match := re.search(r"\b(BUG|WARNING:)( \S+)? at (\w+)\+", line):
        return f"{match[1].rstrip(':')} in {match[3]}()"
    if match := re.search(r"\[DMA (Read|Write)", line):
        return f"IOMMU fault, {match[1].lower()}"
    if "unable to handle page fault" in line or "NULL pointer" in line:
        function = re.search(r"RIP: \w+:(\w+)", log)
        return "page fault in " + (f"{function[1]}()" if function
                                   else "the kernel")
    return line


def rows(outcomes):
    """The table: [(hazard, mistake, machine, outcome raw, outcome typed)]"""
    table = [(case.hazard, case.mistake, MACHINES[case.machine].text,
              outcomes["raw"][case],
              case.typed_text or outcomes["typed"][case]) for case in CASES]
    table += [(hazard, mistake, ELSEWHERE, raw, typed)
              for hazard, (mistake, raw, typed) in NOT_COHERENT.items()]
    table += [(hazard, mistake, ANY_MACHINE, raw, typed)
              for hazard, (mistake, raw, typed) in NO_WRONG_CALL.items()]
    return sorted(table, key=lambda row: row[0])


def text(table):
    """The table for a terminal."""
    for hazard, mistake, machine, raw, typed in table:
        yield f"{hazard}  {mistake} ({machine})"
        for side, cell in (("raw", raw), ("typed", typed)):
            yield from textwrap.wrap(cell, 78,
                                     initial_indent=f"     {side:5}  ",
                                     subsequent_indent=" " * 12)


HEAD = """\
.. SPDX-License-Identifier: GPL-2.0

==========================================
Mistakes in DMA mapping and their outcomes
==========================================

Mistakes that a driver can make when it maps physical addresses, and their outcomes
with the raw DMA API of Linux {release} and with typed maps
(Documentation/core-api/dma-phys.rst). Tests are named after the number in the first
column.

``samples/dma-phys/raw_hazards.c`` makes the mistakes in virtual machines. The
device is QEMU's ``edu``, and MMIO is the memory of ``ivshmem-plain``. The device
moves {length} bytes at a time. Leaked is the difference between two counts of the
free bounce buffers, or of the free IOVA space. After a BUG or a page fault the
machine was gone. ``./run hazards --rst`` prints this page. What happens on a device
that is not coherent is counted by KUnit cases of that number, on arm64.

.. list-table::
   :header-rows: 1
   :widths: 6 24 16 27 27
"""
COLUMNS = ("", "mistake", "machine", "raw API", "typed maps")
LENGTH = 512


def rst(table, release):
    """The page of the kernel's documentation."""
    yield HEAD.format(release=release, length=LENGTH)
    for row in [COLUMNS, *table]:
        for number, cell in enumerate(row):
            cell = re.sub(r"(?<!\S)(-E\w+)", r"``\1``", cell)
            yield from (line.rstrip() for line in textwrap.wrap(
                cell, 79, break_on_hyphens=False,
                initial_indent="     - " if number else "   * - ",
                subsequent_indent=" " * 7) or ["   * -"])


def parse(page):
    """The rows of the page, without markup."""
    body = page.split(":widths:")[1].replace("``", "")
    body = re.sub(r"\n {7}(?=\S)", " ", body)
    table = re.findall(r"^   \* - (H\d\d)\n" + r"     - (.*)\n" * 4, body, re.M)
    return [tuple(row) for row in table]


def version(release):
    """The kernel version without our suffix."""
    return re.match(r"[\d.]+\d", release)[0]


# --- the command --------------------------------------------------------------

def boot_all(kernel):
    """({side: {case: outcome}}, complaints of the kernel with typed maps)"""
    outcomes = {"raw": {}, "typed": {}}
    complaints = []
    all_boots = boots("raw") + boots("typed")
    with Step("making mistakes") as step, \
            concurrent.futures.ThreadPoolExecutor(
                vm.PARALLEL_MACHINES) as pool:
        futures = {pool.submit(boot.run, kernel): boot for boot in all_boots}
        try:
            for done, future in enumerate(
                    concurrent.futures.as_completed(futures), 1):
                boot, result = futures[future], future.result()
                log = result.pop("log")
                outcomes[boot.side] |= result
                if boot.side == "typed":
                    complaints += [f"{boot}: {line}" for line in log]
                step.now(f"{done} of {len(all_boots)} machines done")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    return outcomes, complaints


def main(option=None):
    kernels.exit_on_signals()
    try:
        kernel = vm.kernel()
        outcomes, complaints = boot_all(kernel)
    except (vm.MachineError, vm.CommandError) as error:
        say(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    release = version(kernel.release)
    if option == "--rst":
        print("\n".join(rst(rows(outcomes), release)))
    else:
        print(f"Linux {release}, {vm.accelerator(kernel).upper()}")
        print("\n".join(text(rows(outcomes))))
    if complaints:
        say("\n".join(["", "complaints of the kernel with typed maps:",
                       *complaints]))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
