//! Names: what targets mean below the folder, and how names are written in targets and pages.
//!
//! Pure, and strict: what is decoded has one reading, and none of its names leads upwards.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::answer::{HTML, TEXT};

/// Names of unfinished files begin with this; nobody may ask for such a name.
pub(super) const UNFINISHED: &str = ".bestguess-unfinished-";

/// A target's path, decoded: names below the folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) parts: Vec<OsString>,
    /// Whether it ends in a slash, and so means a folder.
    pub(super) is_folder: bool,
}

/// Why a request for a place is refused: a status and what was wrong.
pub(super) type Denied = (u16, &'static str);

/// Decodes the path of a target without its query (RFC 3986 §2.1 and §3.3).
///
/// # Errors
/// An escape is malformed, a name holds a slash or NUL, or a name is `..`: clients resolve those
/// before they send.
pub(super) fn decode(path: &[u8]) -> Result<Names, Denied> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        let name = unescape(part).ok_or((400, "a percent escape in the path is malformed"))?;
        match name.as_slice() {
            b"" | b"." => {}
            b".." => return Err((400, "the path leads upwards")),
            _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => {
                return Err((400, "a name in the path holds a slash or a NUL"));
            }
            _ => parts.push(OsString::from_vec(name)),
        }
    }
    let is_folder = path.ends_with(b"/") || path.ends_with(b"/.") || parts.is_empty();
    Ok(Names { parts, is_folder })
}

/// Resolves percent escapes; none: one is malformed.
fn unescape(part: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let [high, low, behind @ ..] = rest else {
            return None;
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        out.push((digit(high)? << 4 | digit(low)?) as u8);
        rest = behind;
    }
    Some(out)
}

/// Escapes all but unreserved characters.
pub(super) fn escape(name: &OsStr) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// `text` as it may stand in HTML.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(character),
        }
    }
    out
}

impl Names {
    /// Whether one of them is the name of an unfinished file.
    pub(super) fn has_unfinished(&self) -> bool {
        let is_unfinished = |name: &OsString| name.as_bytes().starts_with(UNFINISHED.as_bytes());
        self.parts.iter().any(is_unfinished)
    }

    /// The target of a folder with these names.
    pub(super) fn target(&self) -> String {
        let mut target = String::from("/");
        for part in &self.parts {
            target.push_str(&escape(part));
            target.push('/');
        }
        target
    }
}

/// The type of a file, by the end of its name.
pub(super) fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    match extension.as_bytes() {
        b"html" | b"htm" => HTML,
        b"txt" | b"text" | b"md" | b"log" => TEXT,
        b"css" => "text/css; charset=utf-8",
        b"csv" => "text/csv; charset=utf-8",
        b"js" | b"mjs" => "text/javascript; charset=utf-8",
        b"json" | b"map" => "application/json",
        b"xml" => "application/xml",
        b"pdf" => "application/pdf",
        b"wasm" => "application/wasm",
        b"zip" => "application/zip",
        b"gz" => "application/gzip",
        b"tar" => "application/x-tar",
        b"svg" => "image/svg+xml",
        b"png" => "image/png",
        b"jpg" | b"jpeg" => "image/jpeg",
        b"gif" => "image/gif",
        b"webp" => "image/webp",
        b"avif" => "image/avif",
        b"ico" => "image/vnd.microsoft.icon",
        b"woff2" => "font/woff2",
        b"mp3" => "audio/mpeg",
        b"mp4" => "video/mp4",
        b"webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Names {
        decode(path.as_bytes()).unwrap()
    }

    #[test]
    fn paths_are_decoded_into_names() {
        for (path, parts, is_folder) in [
            ("/", &[][..], true),
            ("", &[], true),
            ("/a", &["a"], false),
            ("//a//b/", &["a", "b"], true),
            ("/./a/.", &["a"], true),
            ("/a%20b/%c3%A9", &["a b", "é"], false),
            ("/...", &["..."], false),
            ("/%252e%252e", &["%2e%2e"], false),
        ] {
            let parts = parts.iter().map(OsString::from).collect();
            assert_eq!(names(path), Names { parts, is_folder }, "{path}");
        }
    }

    #[test]
    fn paths_that_lead_astray_are_refused() {
        for path in [
            "/..",
            "/../a",
            "/a/../../b",
            "/%2e%2e/a",
            "/%2E./a",
            "/a%2fb",
            "/a%2F..%2Fb",
            "/a%00",
            "/%",
            "/%4",
            "/%zz",
            "/a%",
            "/%+1",
        ] {
            assert_eq!(decode(path.as_bytes()).unwrap_err().0, 400, "{path}");
        }
    }

    #[test]
    fn what_is_escaped_decodes_to_itself() {
        let name = OsString::from_vec((1..=255).filter(|byte| *byte != b'/').collect());
        let names = decode(format!("/{}", escape(&name)).as_bytes()).unwrap();
        assert_eq!(names.parts, [name]);
    }

    #[test]
    fn types_go_by_the_end_of_the_name() {
        assert_eq!(content_type(Path::new("/a/b.HTML")), HTML);
        assert_eq!(content_type(Path::new("b.tar.gz")), "application/gzip");
        for unknown in ["b", ".html", "b.", "html"] {
            assert_eq!(
                content_type(Path::new(unknown)),
                "application/octet-stream",
                "{unknown}"
            );
        }
    }
}
