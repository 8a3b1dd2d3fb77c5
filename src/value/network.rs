//! Network addresses.

use std::fmt::Write;

use crate::value::error::DecodeError;
use crate::value::reader::Reader;

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

/// An `inet` or `cidr` cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetAddress {
    /// Whether it is an IPv6 address.
    pub v6: bool,
    /// Bits of the network.
    pub bits: u8,
    /// The address; IPv4 in its lowest 32 bits.
    pub address: u128,
}

impl NetAddress {
    pub(crate) fn new(type_name: &str, cell: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(type_name, cell);
        let family = reader.u8()?;
        let bits = reader.u8()?;
        let _is_cidr = reader.u8()?;
        let length = reader.u8()?;
        let (v6, bits_max, address) = match (family, length) {
            (FAMILY_V4, 4) => (false, 32, u128::from(reader.u32()?)),
            (FAMILY_V6, 16) => (true, 128, reader.u128()?),
            _ => return Err(reader.malformed("the address family is unknown")),
        };
        if bits > bits_max {
            return Err(reader.malformed("the network has too many bits"));
        }
        reader.end()?;
        Ok(Self { v6, bits, address })
    }

    fn is_host(self) -> bool {
        self.bits == if self.v6 { 128 } else { 32 }
    }

    /// `always_bits` is for `cidr`, which shows them for a single host too.
    pub(crate) fn write(self, always_bits: bool, out: &mut String) {
        if self.v6 {
            write_v6(self.address, out);
        } else {
            write_v4(self.address, out);
        }
        if always_bits || !self.is_host() {
            let _ = write!(out, "/{}", self.bits);
        }
    }
}

fn write_v4(address: u128, out: &mut String) {
    let byte = |shift: u32| (address >> shift) & 0xFF;
    let _ = write!(out, "{}.{}.{}.{}", byte(24), byte(16), byte(8), byte(0));
}

/// The longest run of two or more zero words, the first of equals: begin and length.
fn longest_zeros(words: &[u128; 8]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut run = (0, 0);
    for (index, word) in words.iter().enumerate() {
        if *word != 0 {
            run = (0, 0);
            continue;
        }
        run = if run.1 == 0 { (index, 1) } else { (run.0, run.1 + 1) };
        if run.1 > best.1 {
            best = run;
        }
    }
    if best.1 < 2 { (0, 0) } else { best }
}

fn write_v6(address: u128, out: &mut String) {
    let mut words = [0u128; 8];
    for (index, word) in words.iter_mut().enumerate() {
        *word = (address >> (112 - 16 * index)) & 0xFFFF;
    }
    let (begin, length) = longest_zeros(&words);
    let mapped = words.get(5) == Some(&0xFFFF);
    for (index, word) in words.iter().enumerate() {
        if length > 0 && (begin..begin + length).contains(&index) {
            if index == begin {
                out.push(':');
            }
            continue;
        }
        if index > 0 {
            out.push(':');
        }
        // PostgreSQL writes the IPv4 address inside an IPv6 one with dots.
        if index == 6 && begin == 0 && (length == 6 || (length == 5 && mapped)) {
            write_v4(address & 0xFFFF_FFFF, out);
            return;
        }
        let _ = write!(out, "{word:x}");
    }
    if length > 0 && begin + length == words.len() {
        out.push(':');
    }
}

/// `macaddr` (6 bytes) or `macaddr8` (8 bytes).
pub(crate) fn write_mac(
    type_name: &str,
    length: usize,
    cell: &[u8],
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(type_name, cell);
    let bytes = reader.take(length)?;
    reader.end()?;
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push(':');
        }
        let _ = write!(out, "{byte:02x}");
    }
    Ok(())
}
