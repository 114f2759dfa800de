//! Sparse files: GNU's old format and PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, §Sparse Formats).
//!
//! A map of data segments becomes a list of pieces, checked so that the pieces add up to the
//! file's size and the data among them to what the archive stores.

use std::io::Read;

use super::TarProblem;
use super::number::{parse_decimal, parse_field, unsigned};
use super::pax::{SparseRecords, push_segment};
use super::source::{BLOCK_BYTES, Block, Fault, Source};

/// Data at an offset of the unpacked file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A part of a file's content: so many bytes stored, or so many zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    Data(u64),
    Hole(u64),
}

/// A sparse file's layout.
#[derive(Debug)]
pub(super) struct Layout {
    /// In order; they add up to `size`.
    pub(super) pieces: Vec<Piece>,
    /// Length of the file in bytes.
    pub(super) size: u64,
    /// How much of that is holes.
    pub(super) holes: u64,
}

/// Checks a map against `stored` bytes in the archive and a file of `size` bytes.
fn layout(map: &[Segment], stored: u64, size: u64) -> Result<Layout, TarProblem> {
    let wrong = TarProblem::SparseMap;
    let mut pieces = Vec::with_capacity(map.len().min(1024) * 2);
    let mut position = 0u64;
    let mut data = 0u64;
    for segment in map {
        let hole = segment.offset.checked_sub(position);
        let hole = hole.ok_or(wrong("segments overlap or are out of order"))?;
        let end = segment.offset.checked_add(segment.length);
        position = end
            .filter(|end| *end <= size)
            .ok_or(wrong("a segment lies beyond the end of the file"))?;
        // Cannot overflow: all segments lie apart, below `size`.
        data += segment.length;
        // An empty segment marks where a hole at the end ends; the last piece covers that.
        if segment.length == 0 {
            position = position.saturating_sub(hole);
            continue;
        }
        if hole > 0 {
            pieces.push(Piece::Hole(hole));
        }
        pieces.push(Piece::Data(segment.length));
    }
    if position < size {
        pieces.push(Piece::Hole(size - position));
    }
    if data != stored {
        return Err(wrong("the segments do not add up to the stored size"));
    }
    Ok(Layout {
        pieces,
        size,
        holes: size - data,
    })
}

/// GNU's old format: segments in the header and in blocks that follow it.
pub(super) fn read_old_gnu<R: Read>(
    source: &mut Source<R>,
    header: &tar::Header,
    stored: u64,
) -> Result<Layout, Fault> {
    let gnu = header
        .as_gnu()
        .ok_or_else(|| TarProblem::SparseFormat("S without a GNU header".into()))?;
    let size = unsigned(parse_field(&gnu.realsize, "sparse size")?, "sparse size")?;
    let mut map = Vec::new();
    let fields = header.as_bytes().get(HEADER_SEGMENTS).unwrap_or_default();
    let mut open = push_fields(&mut map, fields)?;
    let mut extended = gnu.isextended[0] != 0;
    while extended {
        let block: Block = source
            .block("a sparse map")?
            .ok_or(TarProblem::Truncated("a sparse map"))?;
        let (fields, flags) = block.split_at(SEGMENTS_PER_BLOCK * SEGMENT_BYTES);
        if open {
            open = push_fields(&mut map, fields)?;
        }
        extended = flags.first().is_some_and(|flag| *flag != 0);
    }
    Ok(layout(&map, stored, size)?)
}

/// Where the header has its four segments.
const HEADER_SEGMENTS: std::ops::Range<usize> = 386..482;
const SEGMENT_BYTES: usize = 24;
const SEGMENTS_PER_BLOCK: usize = 21;

/// Appends segments up to the first unused place; whether there may be more behind them.
fn push_fields(map: &mut Vec<Segment>, fields: &[u8]) -> Result<bool, TarProblem> {
    for field in fields.chunks_exact(SEGMENT_BYTES) {
        let (offset, length) = field.split_at(SEGMENT_BYTES / 2);
        if offset.first() == Some(&0) {
            return Ok(false);
        }
        let offset = unsigned(parse_field(offset, "sparse offset")?, "sparse offset")?;
        let length = unsigned(parse_field(length, "sparse length")?, "sparse length")?;
        push_segment(map, Segment { offset, length })?;
    }
    Ok(true)
}

/// The PAX formats. Also gives how many stored bytes were the map (format 1.0 keeps it there).
pub(super) fn read_pax<R: Read>(
    source: &mut Source<R>,
    records: SparseRecords,
    stored: u64,
) -> Result<(Layout, u64), Fault> {
    let size = records
        .real_size
        .ok_or(TarProblem::SparseMap("it does not say the file's size"))?;
    match (records.major, records.minor) {
        (None | Some(0), None | Some(0 | 1)) => {
            if records.offset.is_some() {
                return Err(TarProblem::SparseMap("an offset has no length").into());
            }
            let map = records.map.unwrap_or_default();
            if records
                .segment_count
                .is_some_and(|count| count != map.len() as u64)
            {
                return Err(TarProblem::SparseMap("it has another number of segments").into());
            }
            Ok((layout(&map, stored, size)?, 0))
        }
        (Some(1), Some(0)) if records.map.is_none() => {
            let (map, used) = read_map(source, stored)?;
            Ok((layout(&map, stored - used, size)?, used))
        }
        (major, minor) => {
            let part = |number: Option<u64>| number.map_or("?".into(), |n| n.to_string());
            let version = format!("{}.{}", part(major), part(minor));
            Err(TarProblem::SparseFormat(version).into())
        }
    }
}

/// Format 1.0: lines of decimal numbers in front of the data, filled up to a block. Gives the map
/// and how many bytes it took.
fn read_map<R: Read>(source: &mut Source<R>, stored: u64) -> Result<(Vec<Segment>, u64), Fault> {
    let mut lines = Lines {
        source,
        block: [0; BLOCK_BYTES],
        position: BLOCK_BYTES,
        used: 0,
        stored,
    };
    let count = lines.number()?;
    let mut map = Vec::new();
    for _ in 0..count {
        let offset = lines.number()?;
        let length = lines.number()?;
        push_segment(&mut map, Segment { offset, length })?;
    }
    Ok((map, lines.used))
}

struct Lines<'a, R> {
    source: &'a mut Source<R>,
    block: Block,
    position: usize,
    used: u64,
    stored: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, Fault> {
        // 20 digits hold every 64-bit number.
        let mut digits = Vec::with_capacity(20);
        loop {
            match self.byte()? {
                b'\n' => return Ok(parse_decimal(&digits, "sparse map")?),
                _ if digits.len() == 20 => return Err(TarProblem::Number("sparse map").into()),
                byte => digits.push(byte),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        if self.position == BLOCK_BYTES {
            if self.stored - self.used < BLOCK_BYTES as u64 {
                return Err(TarProblem::SparseMap("it does not fit into the stored size").into());
            }
            self.block = self
                .source
                .block("a sparse map")?
                .ok_or(TarProblem::Truncated("a sparse map"))?;
            self.used += BLOCK_BYTES as u64;
            self.position = 0;
        }
        let byte = self.block.get(self.position).copied().unwrap_or_default();
        self.position += 1;
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn maps_become_pieces_that_add_up() {
        use Piece::{Data, Hole};
        let cases: [(&[Segment], u64, u64, &[Piece]); 6] = [
            (&[], 0, 0, &[]),
            (&[], 0, 9, &[Hole(9)]),
            (&[segment(0, 9)], 9, 9, &[Data(9)]),
            (
                &[segment(4, 2), segment(9, 0)],
                2,
                9,
                &[Hole(4), Data(2), Hole(3)],
            ),
            (&[segment(0, 2), segment(2, 2)], 4, 4, &[Data(2), Data(2)]),
            (
                &[segment(0, 0), segment(5, 0), segment(5, 4)],
                4,
                9,
                &[Hole(5), Data(4)],
            ),
        ];
        for (map, stored, size, pieces) in cases {
            let layout = layout(map, stored, size).unwrap();
            assert_eq!(layout.pieces, pieces, "{map:?}");
            assert_eq!(layout.holes, size - stored);
        }
    }

    #[test]
    fn maps_that_lie_are_refused() {
        let cases: [(&[Segment], u64, u64); 5] = [
            (&[segment(4, 4), segment(0, 4)], 8, 8),
            (&[segment(0, 4), segment(3, 4)], 8, 8),
            (&[segment(0, 9)], 9, 8),
            (&[segment(u64::MAX, 2)], 2, 8),
            (&[segment(0, 4)], 5, 8),
        ];
        for (map, stored, size) in cases {
            assert!(layout(map, stored, size).is_err(), "{map:?}");
        }
    }
}
