// SPDX-License-Identifier: GPL-2.0

//! The commands of the debugfs files, and what came of the last one.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::phys::{
        Bidirectional,
        Cpu,
        Direction,
        FromDevice,
        Mapping,
        Mmio,
        MmioPhys,
        Route,
        ToDevice, //
    },
    fmt,
    prelude::*,
    str::BStr,
    uaccess::UserSliceReader, //
};

use crate::{
    controller::{
        Controller,
        Info,
        NSID, //
    },
    Shared, //
};

/// Longest line the `command` file takes.
const LINE: usize = 128;

/// What a transfer is made from or into. One allocation is one range.
type Buffer = Cpu<KVec<u64>>;

/// What came of the last command.
pub(crate) enum Outcome {
    /// There was none.
    Nothing,
    /// It moved `size` bytes; those the CPU has seen are summed up.
    Moved {
        size: usize,
        sum: Option<u64>,
        route: Route,
    },
    /// It failed.
    Failed(Error),
}

/// Writes to `command`: carries one line out, and keeps what came of it.
pub(crate) fn write(shared: &Shared, reader: &mut UserSliceReader) -> Result {
    let mut line = [0; LINE];
    let outcome = line
        .get_mut(..reader.len())
        .ok_or(EINVAL)
        .and_then(|line| reader.read_slice(line).map(|()| line))
        .and_then(|line| shared.with(|ctrl, dev| run(ctrl, dev, line)));

    let (kept, result) = match outcome {
        Ok(moved) => (moved, Ok(())),
        Err(e) => (Outcome::Failed(e), Err(e)),
    };
    *shared.outcome.lock() = kept;
    result
}

/// Reads of `result`: the last command's outcome.
pub(crate) fn result(shared: &Shared, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match &*shared.outcome.lock() {
        Outcome::Nothing => f.write_str("none\n"),
        Outcome::Failed(e) => writeln!(f, "error {}", e.to_errno()),
        Outcome::Moved { size, sum, route } => match sum {
            Some(sum) => f.write_fmt(fmt!("ok {size} {sum:016x} {route}\n")),
            None => f.write_fmt(fmt!("ok {size} - {route}\n")),
        },
    }
}

/// Reads of `info`: the controller and its namespace.
pub(crate) fn info(shared: &Shared, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // There is nothing to say about a controller that is gone.
    shared
        .with(|ctrl, _| Ok(show(&ctrl.info, f)))
        .unwrap_or(Ok(()))
}

fn show(info: &Info, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // What the device calls itself may be anything: a `BStr` escapes it.
    let model = BStr::from_bytes(info.model.trim_ascii());
    let serial = BStr::from_bytes(info.serial.trim_ascii());

    f.write_fmt(fmt!("model {model}\nserial {serial}\nnsid {NSID}\n"))?;
    writeln!(f, "blocks {}", info.blocks)?;
    writeln!(f, "block_size {}", info.block_size)?;
    writeln!(f, "max_transfer {}", info.max_transfer)?;
    writeln!(f, "cmb {}", info.cmb.map_or(0, |cmb| cmb.size))
}

fn run(ctrl: &mut Controller, dev: &Device<Bound>, line: &[u8]) -> Result<Outcome> {
    let line = core::str::from_utf8(line).map_err(|_| EINVAL)?;
    let mut words = [""; 6];
    let mut count = 0;

    for word in line.strip_suffix('\n').unwrap_or(line).split(' ') {
        *words.get_mut(count).ok_or(EINVAL)? = word;
        count += 1;
    }

    match *words.get(..count).ok_or(EINVAL)? {
        ["read", lba, blocks] => read(ctrl, dev, number(lba)?, count_of(blocks)?),
        ["write", lba, blocks, seed] => {
            write_pattern(ctrl, dev, number(lba)?, count_of(blocks)?, number(seed)?)
        }
        ["verify", lba, blocks, seed] => {
            verify(ctrl, dev, number(lba)?, count_of(blocks)?, number(seed)?)
        }
        ["peer-read", peer, offset, lba, blocks] => {
            let offset = number(offset)?;
            peer_read(ctrl, dev, peer, offset, number(lba)?, count_of(blocks)?)
        }
        ["peer-write", peer, offset, lba, blocks] => {
            let offset = number(offset)?;
            peer_write(ctrl, dev, peer, offset, number(lba)?, count_of(blocks)?)
        }
        _ => Err(EINVAL),
    }
}

/// From the disk to memory.
fn read(ctrl: &mut Controller, dev: &Device<Bound>, lba: u64, blocks: usize) -> Result<Outcome> {
    let memory = allocate(ctrl.size_of(lba, blocks)?)?;
    let map = Mapping::<Buffer, FromDevice>::new(dev, memory)?;
    let map = ctrl.read(dev, lba, blocks, map)?;
    let route = map.route();

    Ok(moved(&map.unmap(), route))
}

/// The pattern, to the disk.
fn write_pattern(
    ctrl: &mut Controller,
    dev: &Device<Bound>,
    lba: u64,
    blocks: usize,
    seed: u64,
) -> Result<Outcome> {
    let mut memory = allocate(ctrl.size_of(lba, blocks)?)?;
    fill(&mut memory, pattern_start(ctrl, lba, seed));

    let map = Mapping::<Buffer, ToDevice>::new(dev, memory)?;
    let map = ctrl.write(dev, lba, blocks, map)?;
    let route = map.route();

    Ok(moved(&map.unmap(), route))
}

/// The pattern, to the disk and back, with one mapping.
fn verify(
    ctrl: &mut Controller,
    dev: &Device<Bound>,
    lba: u64,
    blocks: usize,
    seed: u64,
) -> Result<Outcome> {
    let memory = allocate(ctrl.size_of(lba, blocks)?)?;
    let mut map = Mapping::<Buffer, Bidirectional>::new(dev, memory)?;

    fill(&mut map.cpu()?, pattern_start(ctrl, lba, seed));
    map = ctrl.write(dev, lba, blocks, map)?;
    // What comes back must come from the disk.
    map.cpu()?.fill(0);
    map = ctrl.read(dev, lba, blocks, map)?;

    let route = map.route();
    let outcome = moved(&map.cpu()?, route);
    Ok(outcome)
}

/// From the disk to another controller's memory, past the CPU's.
fn peer_read(
    ctrl: &mut Controller,
    dev: &Device<Bound>,
    peer: &str,
    offset: u64,
    lba: u64,
    blocks: usize,
) -> Result<Outcome> {
    let size = ctrl.size_of(lba, blocks)?;
    let (owner, bar) = crate::find_peer(peer)?;
    let range = MmioPhys::from_bar(&owner, bar, offset, size)?;
    let map = Mapping::<Mmio<'_>, FromDevice>::new_mmio(dev, range)?;
    let map = ctrl.read(dev, lba, blocks, map)?;

    Ok(moved_past(&map))
}

/// From another controller's memory to the disk, past the CPU's.
fn peer_write(
    ctrl: &mut Controller,
    dev: &Device<Bound>,
    peer: &str,
    offset: u64,
    lba: u64,
    blocks: usize,
) -> Result<Outcome> {
    let size = ctrl.size_of(lba, blocks)?;
    let (owner, bar) = crate::find_peer(peer)?;
    let range = MmioPhys::from_bar(&owner, bar, offset, size)?;
    let map = Mapping::<Mmio<'_>, ToDevice>::new_mmio(dev, range)?;
    let map = ctrl.write(dev, lba, blocks, map)?;

    Ok(moved_past(&map))
}

/// Memory for `size` bytes, which are a whole number of blocks.
fn allocate(size: usize) -> Result<KVec<u64>> {
    Ok(KVec::zeroed(
        size / size_of::<u64>(),
        GFP_KERNEL | __GFP_NOWARN,
    )?)
}

fn pattern_start(ctrl: &Controller, lba: u64, seed: u64) -> u64 {
    let words = (ctrl.info.block_size / size_of::<u64>()) as u64;

    seed.wrapping_add(lba.wrapping_mul(words))
}

/// Fills `memory` with the pattern; neighbouring words and blocks differ, whatever the seed.
fn fill(memory: &mut [u64], start: u64) {
    for (k, word) in memory.iter_mut().enumerate() {
        *word = start
            .wrapping_add(k as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le();
    }
}

/// The outcome of a transfer whose bytes the CPU does not see.
fn moved_past<D: Direction>(map: &Mapping<'_, Mmio<'_>, D>) -> Outcome {
    Outcome::Moved {
        size: map.size(),
        sum: None,
        route: map.route(),
    }
}

/// The outcome of a transfer whose bytes are in `memory`.
fn moved(memory: &[u64], route: Route) -> Outcome {
    Outcome::Moved {
        size: size_of_val(memory),
        sum: Some(fnv1a(memory)),
        route,
    }
}

/// FNV-1a, 64 bits, over the bytes of `memory`.
fn fnv1a(memory: &[u64]) -> u64 {
    memory
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// A decimal number, or one in hexadecimal after `0x`.
fn number(word: &str) -> Result<u64> {
    let (digits, radix) = match word.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (word, 10),
    };

    // The parser would take a sign.
    if digits.starts_with('+') {
        return Err(EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| EINVAL)
}

fn count_of(word: &str) -> Result<usize> {
    Ok(usize::try_from(number(word)?)?)
}
