//! A second reading of HTTP/1.1, to hold the balancer against: written from the grammar of RFC 9110
//! and RFC 9112 in the plainest way, slow, and with nothing of the balancer's in it.
//!
//! | file | what it owns |
//! |---|---|
//! | `grammar` | lines, tokens, hosts, targets, numbers |
//! | `chunks` | the chunked coding and trailers |
//! | `message` | requests and responses: framing, and what a proxy may send |
//! | `fields` | which fields have to go on, and what is added to them |
//! | `relay` | the balancer's own functions, put together as its loop does; all that knows them |
//! | `compare` | what was sent must be what was received, as this reading has both |
//! | `wires` | all that crossed one connection |
//! | `pipes` | the whole balancer between clients and servers made of bytes; its wires are read |
//! | `generate` | messages and mutations of them, from a seed |
//!
//! Everything is read in one of two manners. `Received` is what a careful recipient takes from a
//! stranger: what the grammar allows, and the tolerances that are written at their places. `Sent` is
//! what this proxy may send: canonical, so that no two readers can differ over it.
//!
//! A disagreement is a panic: the fuzz targets and `tests/strict.rs` share all of this.

#[cfg(test)]
mod cases;
pub mod chunks;
pub mod compare;
pub mod fields;
pub mod generate;
pub mod grammar;
pub mod message;
pub mod pipes;
pub mod relay;
pub mod wires;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// What may come from anybody.
    Received,
    /// What a proxy may send.
    Sent,
}

/// Why there is no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// More bytes are needed.
    Open,
    /// This is not HTTP/1.1, whatever follows.
    Bad(&'static str),
    /// Allowed, but longer or rarer than anybody has to bear: refusing it is as right as taking it.
    Either(&'static str),
}

/// What was read, and how many bytes it took.
pub type Read<T> = Result<(T, usize), Stop>;

/// One field line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name as it was written.
    pub name: Vec<u8>,
    /// Its value without the blanks around it.
    pub value: Vec<u8>,
}

impl Field {
    /// Its name in lower case.
    pub fn key(&self) -> String {
        String::from_utf8_lossy(&self.name).to_ascii_lowercase()
    }
}

/// The values of all `fields` with this name, in lower case.
pub fn values<'f>(fields: &'f [Field], name: &str) -> Vec<&'f [u8]> {
    let named = fields.iter().filter(|field| field.key() == name);
    named.map(|field| field.value.as_slice()).collect()
}

/// The elements of a list in all `fields` with this name, in lower case, without the empty ones
/// (RFC 9110 §5.6.1).
pub fn elements(fields: &[Field], name: &str) -> Vec<String> {
    let all = values(fields, name).join(b",".as_slice());
    let text: String = all.iter().map(|byte| char::from(*byte)).collect();
    let elements = text.split(',').map(|one| one.trim_matches([' ', '\t']));
    elements
        .filter(|one| !one.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether there is a field of this name, in lower case.
pub fn has(fields: &[Field], name: &str) -> bool {
    !values(fields, name).is_empty()
}

/// For a person who reads of a disagreement.
pub fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
