//! Chunked content: the meter against a decoder that takes all of it at once.
//!
//! The first byte of the input is the seed of the pieces; the rest is the content and what follows it.
#![no_main]

use bestguess::http::body::{Framing, Keep, Meter};
use libfuzzer_sys::fuzz_target;

/// What the decoder found.
#[derive(Debug, PartialEq)]
enum Decoded {
    /// The data, and where the message ends.
    Whole(Vec<u8>, usize),
    /// More bytes could make it whole.
    Open,
    Bad,
}

/// RFC 9112 §7.1, line by line; `is_strict`: what the meter owes its receiver, no extensions, no
/// padding and no trailers.
fn decode(wire: &[u8], is_strict: bool) -> Decoded {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line(&wire[at..]) else {
            return Decoded::Open;
        };
        let Ok(line) = line else { return Decoded::Bad };
        at += line.len() + 2;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let (size, behind) = line.split_at(digits);
        let Ok(size) = u64::from_str_radix(std::str::from_utf8(size).unwrap(), 16) else {
            return Decoded::Bad;
        };
        if digits > 16
            || size >> 63 != 0
            || !is_extension(behind)
            || (is_strict && !behind.is_empty())
        {
            return Decoded::Bad;
        }
        if size == 0 {
            break;
        }
        let Some(end) = usize::try_from(size)
            .ok()
            .and_then(|size| at.checked_add(size))
        else {
            return Decoded::Open;
        };
        let Some(chunk) = wire.get(at..end) else {
            return Decoded::Open;
        };
        data.extend_from_slice(chunk);
        at = end;
        match wire.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Decoded::Bad,
            None if matches!(&wire[at..], [] | [b'\r']) => return Decoded::Open,
            None => return Decoded::Bad,
        }
    }
    loop {
        let Some(line) = line(&wire[at..]) else {
            return Decoded::Open;
        };
        let Ok(line) = line else { return Decoded::Bad };
        at += line.len() + 2;
        if line.is_empty() {
            return Decoded::Whole(data, at);
        }
        if is_strict || !is_trailer(line) {
            return Decoded::Bad;
        }
    }
}

/// The line that `wire` begins with, if it is whole; an error if it has a control byte.
fn line(wire: &[u8]) -> Option<Result<&[u8], ()>> {
    let end = wire
        .iter()
        .position(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)?;
    match &wire[end..] {
        [b'\r', b'\n', ..] => Some(Ok(&wire[..end])),
        [b'\r'] => None,
        _ => Some(Err(())),
    }
}

fn is_extension(behind: &[u8]) -> bool {
    let text = behind
        .iter()
        .position(|byte| *byte != b' ' && *byte != b'\t')
        .map(|start| &behind[start..]);
    let Some([b';', text @ ..]) = text else {
        return text.is_none();
    };
    let mut bytes = text.iter();
    let mut is_quoted = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted && bytes.next().is_none() => return false,
            _ => {}
        }
    }
    !is_quoted
}

fn is_trailer(line: &[u8]) -> bool {
    const BARRED: &str = "te host date expect cookie upgrade trailer forwarded connection keep-alive content-type \
        authorization cache-control content-length http2-settings x-forwarded-for proxy-connection \
        x-forwarded-host content-encoding transfer-encoding x-forwarded-proto";
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    // With underscores for dashes some read the same name.
    let is_barred = BARRED.split(' ').any(|barred| {
        let is_ours = !["content-type", "cache-control", "content-encoding"].contains(&barred);
        name == barred || (is_ours && name.replace('_', "-") == barred)
    });
    colon > 0 && line[..colon].iter().all(|byte| is_token(*byte)) && !is_barred
}

/// The same content through a meter, in pieces.
fn meter(wire: &[u8], keep: Keep, seed: u8) -> Decoded {
    let mut meter = Meter::new(Framing::Chunked, keep);
    let (mut out, mut read, mut seed) = (Vec::new(), 0, u32::from(seed));
    while read < wire.len() {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = 1 + (seed >> 24) as usize % 37;
        let mut piece = wire[read..wire.len().min(read + size)].to_vec();
        let Ok(passed) = meter.pass(&mut piece) else {
            return Decoded::Bad;
        };
        assert!(passed.kept <= passed.read && passed.read <= piece.len());
        assert!(meter.is_done() || passed.read == piece.len());
        out.extend_from_slice(&piece[..passed.kept]);
        read += passed.read;
        if meter.is_done() {
            return Decoded::Whole(out, read);
        }
    }
    Decoded::Open
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, wire)) = input.split_first() else {
        return;
    };
    // Beyond this the limits on lines and trailers would have to be told too.
    let wire = &wire[..wire.len().min(4000)];
    let expected = decode(wire, false);
    let data = meter(wire, Keep::Data, *seed);
    match (&data, &expected) {
        // The meter sees what is wrong at once, the decoder at the line's end.
        (Decoded::Bad, Decoded::Open) => {}
        _ => assert_eq!(data, expected),
    }
    let chunks = meter(wire, Keep::Chunks, seed.wrapping_add(1));
    match (chunks, data) {
        (Decoded::Whole(out, read), Decoded::Whole(data, end)) => {
            assert_eq!(read, end);
            assert_eq!(
                decode(&out, true),
                Decoded::Whole(data, out.len()),
                "canonical"
            );
        }
        (chunks, data) => assert_eq!(chunks, data),
    }
});
