//! How bytes are cut into the pieces in which they are sent.

use std::fmt;

/// One way to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cutting {
    Whole,
    SingleBytes,
    /// Behind each CR LF.
    Lines,
    /// Between CR and LF, and behind each LF.
    InLineEnds,
    /// Anywhere, by this seed, on an unkind network.
    Random(u64),
}

impl Cutting {
    /// The pieces of `bytes`; `chance` tells a number below its argument.
    pub(crate) fn pieces(self, bytes: &[u8], mut chance: impl FnMut(u64) -> u64) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let line_end = |rest: &[u8]| memchr::memmem::find(rest, b"\r\n");
            let length = match self {
                Cutting::Whole => rest.len(),
                Cutting::SingleBytes => 1,
                Cutting::Lines => line_end(rest).map_or(rest.len(), |end| end + 2),
                Cutting::InLineEnds => line_end(rest).map_or(rest.len(), |end| end + 1),
                // Small and large pieces are as likely.
                Cutting::Random(_) => {
                    let most = 1 << chance(15);
                    1 + chance(most) as usize
                }
            };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            pieces.push(piece.to_vec());
            rest = behind;
        }
        pieces
    }
}

impl fmt::Display for Cutting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cutting::Whole => out.write_str("in one piece"),
            Cutting::SingleBytes => out.write_str("in single bytes"),
            Cutting::Lines => out.write_str("cut behind line ends"),
            Cutting::InLineEnds => out.write_str("cut inside line ends"),
            Cutting::Random(seed) => write!(out, "cut at random by seed {seed}"),
        }
    }
}
