//! Response heads: whatever is accepted goes on as a head with the same one reading.
//!
//! The first byte of the input chooses the request's method, the client and the pieces; the rest are
//! bytes from a server.
#![no_main]

use bestguess::http::body::{Framing, Reframing};
use bestguess::http::head::{self, Field, Method, Refusal, Version};
use bestguess::http::rewrite::{self, Answering};
use libfuzzer_sys::fuzz_target;

/// What a reader of our own output must find again.
#[derive(Debug, PartialEq)]
struct Reading {
    status: u16,
    reason: Vec<u8>,
    framing: Framing,
    others: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read(head: &[u8], method: Method) -> Result<Reading, Refusal> {
    let mut slots = head::slots();
    let response = head::response(head, method, &mut slots)?;
    let is_other = |kind| matches!(kind, Field::Other | Field::Kept | Field::Via);
    let others = response.fields.iter().filter(|line| is_other(line.kind));
    assert!((100..600).contains(&response.status));
    Ok(Reading {
        status: response.status,
        reason: response.reason.to_vec(),
        framing: response.framing,
        others: others
            .map(|line| (line.name.to_vec(), line.value.to_vec()))
            .collect(),
    })
}

/// What becomes of a server that sends `bytes` in these pieces; none: it is waited for.
fn in_pieces(bytes: &[u8], method: Method, piece: usize) -> Option<Result<Reading, Refusal>> {
    let mut seen = 0;
    while seen < bytes.len() {
        let end = (seen + piece).min(bytes.len());
        let come = &bytes[..end];
        if let Some(length) = head::find_end(come, seen) {
            return Some(read(&come[..length], method));
        }
        if let Err(refusal) = head::response_begun(come, seen) {
            return Some(Err(refusal));
        }
        seen = end;
    }
    None
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let method = [
        Method::Head,
        Method::Idempotent,
        Method::Other,
        Method::Other,
    ][usize::from(choice & 3)];
    let whole = in_pieces(bytes, method, usize::MAX);
    let piece = 1 + usize::from(choice >> 5) * 3;
    assert_eq!(in_pieces(bytes, method, piece), whole, "pieces of {piece}");
    let Some(Ok(reading)) = whole else { return };
    let end = head::find_end(bytes, 0).unwrap();
    let mut slots = head::slots();
    let response = head::response(&bytes[..end], method, &mut slots)
        .ok()
        .unwrap();

    let version = if choice & 4 == 0 {
        Version::Http11
    } else {
        Version::Http10
    };
    let answering = Answering {
        version,
        close: choice & 8 != 0,
        reframing: match (response.framing, version) {
            (Framing::Chunked, Version::Http10) => Reframing::Unchunk,
            (Framing::UntilClose, Version::Http11) => Reframing::Chunk,
            _ => Reframing::None,
        },
        date: (choice & 32 != 0).then_some("Thu, 01 Jan 1970 00:00:00 GMT"),
        switch: choice & 16 != 0 && response.status == 101,
    };
    let mut out = Vec::new();
    rewrite::response(&mut out, &response, answering);
    assert_eq!(head::find_end(&out, 0), Some(out.len()), "one head");

    let mut slots = head::slots();
    let again = match head::response(&out, method, &mut slots) {
        Ok(again) => again,
        // What was added may not fit any more.
        Err(Refusal::HeadTooLong) if out.len() > head::HEAD_MAX => return,
        Err(Refusal::TooManyFields) => return,
        Err(refusal) => panic!("{refusal:?}: {}", String::from_utf8_lossy(&out)),
    };
    let count = |kind| again.fields.iter().filter(|line| line.kind == kind).count();
    for kind in [
        Field::Te,
        Field::Trailer,
        Field::KeepAlive,
        Field::ProxyConnection,
        Field::Named,
    ] {
        assert_eq!(count(kind), 0, "{kind:?}");
    }
    assert!(count(Field::Connection) <= 1);
    assert!(count(Field::Upgrade) == 0 || answering.switch);
    if matches!(again.status, 100..=199 | 204) {
        assert_eq!(
            count(Field::ContentLength) + count(Field::TransferEncoding),
            0
        );
    }
    if again.status >= 200 {
        assert_eq!(again.keep_alive, !answering.close);
    }
    let mut expected = reading;
    match answering.reframing {
        Reframing::Unchunk => expected.framing = Framing::UntilClose,
        Reframing::Chunk => expected.framing = Framing::Chunked,
        Reframing::None => {}
    }
    assert_eq!(read(&out, method).unwrap(), expected);
});
