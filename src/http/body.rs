//! Content: how a message's end is found, byte by byte, whatever the pieces it comes in.
//!
//! A `Meter` reads along as content passes. It judges chunked content strictly and makes it
//! canonical in place: extensions are dropped, and trailers but for a receiver that takes them, so
//! what goes on has one reading.

use super::chunks::Chunked;
pub use super::chunks::{Keep, Passed, trailers};
use super::rules::Refusal;
use crate::mutant::{self, Mutant};

/// How the content of a message ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes, at least one.
    Length(u64),
    /// With the last chunk and its trailer section.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// What is changed of a response's framing, because the client knows another way to see its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reframing {
    /// Nothing.
    #[default]
    None,
    /// Content that ends with the connection is put into chunks: the client sees whether it is
    /// whole, and its connection goes on.
    Chunk,
    /// Chunks are taken off: the client does not know them.
    Unchunk,
}

/// Follows one message's content to its end.
#[derive(Debug, Clone)]
pub enum Meter {
    /// Nothing more belongs to the message.
    Done,
    /// Nothing more belongs to it, but its trailer section has still to go on: its lines as they
    /// came, each with its CR LF.
    Trailed(Vec<u8>),
    /// So many bytes more, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes.
    UntilClose,
}

impl Meter {
    /// The meter for content of `framing`, of which `keep` goes on if it is chunked.
    pub fn new(framing: Framing, keep: Keep) -> Meter {
        match framing {
            Framing::None | Framing::Length(0) => Meter::Done,
            Framing::Length(left) => Meter::Length(left),
            Framing::UntilClose => Meter::UntilClose,
            Framing::Chunked => Meter::Chunked(Chunked::new(keep)),
        }
    }

    /// Whether the message has ended.
    pub fn is_done(&self) -> bool {
        matches!(self, Meter::Done | Meter::Trailed(_))
    }

    /// Whether the message may end with its stream, and so has ended when that does.
    pub fn ends_with_stream(&self) -> bool {
        matches!(self, Meter::Done | Meter::Trailed(_) | Meter::UntilClose)
    }

    /// Counts the next `count` bytes of content whose end needs no reading: of `Length`, at most what
    /// is left, or `UntilClose`.
    pub fn skip(&mut self, count: u64) {
        if let Meter::Length(left) = self {
            debug_assert!(count <= *left || mutant::is(Mutant::SpliceOverruns));
            *left = left.saturating_sub(count);
            if *left == 0 {
                *self = Meter::Done;
            }
        }
    }

    /// Reads along with `bytes`, the next of the stream, and moves to their front what goes on.
    /// Stops behind the message's last byte. O(bytes). What it leaves `Trailed` has gone on as far as
    /// its last chunk: `trailers` writes the rest.
    ///
    /// # Errors
    /// `Chunk` or `Trailer`: the content is malformed; the stream is of no more use.
    pub fn pass(&mut self, bytes: &mut [u8]) -> Result<Passed, Refusal> {
        match self {
            Meter::Done | Meter::Trailed(_) => Ok(Passed { read: 0, kept: 0 }),
            Meter::UntilClose => Ok(Passed {
                read: bytes.len(),
                kept: bytes.len(),
            }),
            Meter::Length(left) => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = Meter::Done;
                }
                Ok(Passed {
                    read: here,
                    kept: here,
                })
            }
            Meter::Chunked(chunked) => {
                let (passed, done) = chunked.pass(bytes)?;
                if done {
                    let section = chunked.take_section();
                    *self = if section.is_empty() {
                        Meter::Done
                    } else {
                        Meter::Trailed(section)
                    };
                }
                Ok(passed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_end_with_its_stream_is_told() {
        for (framing, ends) in [
            (Framing::None, true),
            (Framing::UntilClose, true),
            (Framing::Length(1), false),
            (Framing::Chunked, false),
        ] {
            assert_eq!(
                Meter::new(framing, Keep::Chunks).ends_with_stream(),
                ends,
                "{framing:?}"
            );
        }
        let mut meter = Meter::new(Framing::UntilClose, Keep::Chunks);
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 3, kept: 3 }));
        assert!(!meter.is_done());
    }

    #[test]
    fn a_length_ends_exactly() {
        let mut meter = Meter::new(Framing::Length(5), Keep::Chunks);
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 3, kept: 3 }));
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 2, kept: 2 }));
        assert!(meter.is_done());
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 0, kept: 0 }));
    }

    #[test]
    fn a_length_of_which_a_part_is_not_read_ends_exactly_too() {
        let mut meter = Meter::new(Framing::Length(5), Keep::Chunks);
        meter.skip(3);
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 2, kept: 2 }));
        assert!(meter.is_done());
        let mut meter = Meter::new(Framing::Length(5), Keep::Chunks);
        meter.skip(5);
        assert!(meter.is_done());
    }
}
