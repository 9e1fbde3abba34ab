//! The dashboard: one page that holds all it needs, and the policy that lets it do no more.
//!
//! Its parts are files of the folder `page`, put together at compile time. The policy trusts the page's
//! one script and one style by their digests, so that nothing else ever runs in it.

use std::sync::LazyLock;

use super::digest::sha256_base64;

macro_rules! style {
    () => {
        include_str!("page/style.css")
    };
}

macro_rules! script {
    () => {
        concat!(
            include_str!("page/draw.js"),
            include_str!("page/guesses.js"),
            include_str!("page/page.js")
        )
    };
}

/// The page.
pub const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    style!(),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>",
    script!(),
    "</script>\n</body>\n</html>\n"
);

/// What the page may do, as the field `Content-Security-Policy` says it: run its own script, look as it
/// says itself, and ask this listener; nothing else. The first look at it digests the page.
pub static POLICY: LazyLock<String> = LazyLock::new(policy);

fn policy() -> String {
    let script = sha256_base64(script!().as_bytes());
    let style = sha256_base64(style!().as_bytes());
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else() {
        for elsewhere in [
            "https://",
            "src=",
            "@import",
            "url(",
            "WebSocket",
            "import(",
        ] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
        // Only the names of XML's languages are written so.
        let rest = PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains("http://"));
    }

    #[test]
    fn what_peers_wrote_only_becomes_text() {
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
        ] {
            assert!(!PAGE.contains(markup), "{markup}");
        }
    }

    #[test]
    fn the_page_has_one_style_and_one_script_and_nothing_inline() {
        for (tag, count) in [
            ("<style", 1),
            ("<script", 1),
            (" style=", 0),
            (" onclick=", 0),
        ] {
            assert_eq!(PAGE.matches(tag).count(), count, "{tag}");
        }
        assert!(PAGE.starts_with("<!doctype html>\n"));
    }
}
