//! The media type of a file, by the end of its name.

use campanile_protocol::http1::FieldLine;

/// Goes into every response with a file: the type is what the name says, and the content does not change it.
///
/// Without it a browser may take what somebody uploaded as an image for a script (WHATWG Fetch,
/// "X-Content-Type-Options").
pub(crate) const NOSNIFF: FieldLine = FieldLine::from_static("X-Content-Type-Options: nosniff\r\n");

/// The type of what has no known extension (RFC 9110 8.3): something to save.
pub(crate) const UNKNOWN: &str = "application/octet-stream";

/// The value of Content-Type for a file of this name, or path.
///
/// The name is that of the file itself: what is in `a.css.br` is a style sheet, in a coding.
///
/// Text is said to be UTF-8, JavaScript included (RFC 9239 4.2), since a browser guesses otherwise. XML is not, since
/// it says so itself and would be overruled (RFC 7303 3); nor JSON, which has no such parameter (RFC 8259 11).
pub(crate) fn content_type(name: &[u8]) -> &'static str {
    let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0) else {
        return UNKNOWN;
    };
    let Ok(extension) = std::str::from_utf8(&name[dot + 1..]) else {
        return UNKNOWN;
    };
    let essence = mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN);
    match corrected(extension).unwrap_or(essence) {
        essence if essence.starts_with("text/") => in_utf8(essence),
        essence => essence,
    }
}

/// Where the table is behind the registry of IANA, and it matters to browsers.
fn corrected(extension: &str) -> Option<&'static str> {
    let corrections = [
        // RFC 9239 6: the one type of JavaScript.
        ("mjs", "text/javascript"),
        // Segments of streams (RFC 8216 3.2), where the table has a type of one vendor's.
        ("ts", "video/mp2t"),
        // Source maps are JSON (ECMA-426).
        ("map", "application/json"),
        // RFC 8081
        ("otf", "font/otf"),
    ];
    corrections.into_iter().find(|(of, _)| extension.eq_ignore_ascii_case(of)).map(|(_, essence)| essence)
}

macro_rules! in_utf8 {
    ($essence:ident: $($text:literal),* $(,)?) => {
        match $essence {
            $($text => concat!($text, "; charset=utf-8"),)*
            other => other,
        }
    };
}

/// The type with its charset. All text types of the table are listed, so that none has to be put together at run time.
fn in_utf8(essence: &'static str) -> &'static str {
    in_utf8!(
        essence:
        "text/cache-manifest", "text/calendar", "text/coffeescript", "text/css", "text/csv", "text/dlm",
        "text/gemini", "text/h323", "text/html", "text/iuls", "text/jade", "text/javascript", "text/less",
        "text/markdown", "text/mathml", "text/n3", "text/plain", "text/prs.lines.tag", "text/richtext",
        "text/scriptlet", "text/sgml", "text/shex", "text/slim", "text/stylus",
        "text/tab-separated-values", "text/turtle", "text/uri-list", "text/vbscript", "text/vcard",
        "text/vnd.curl", "text/vnd.curl.dcurl", "text/vnd.curl.mcurl", "text/vnd.curl.scurl",
        "text/vnd.dvb.subtitle", "text/vnd.fly", "text/vnd.fmi.flexstor", "text/vnd.graphviz",
        "text/vnd.in3d.3dml", "text/vnd.in3d.spot", "text/vnd.sun.j2me.app-descriptor", "text/vnd.wap.wml",
        "text/vnd.wap.wmlscript", "text/vtt", "text/webviewhtml", "text/x-c", "text/x-component",
        "text/x-fortran", "text/x-gherkin", "text/x-handlebars-template", "text/x-hdml",
        "text/x-html-insertion", "text/x-lua", "text/x-markdown", "text/x-ms-contact", "text/x-ms-group",
        "text/x-ms-iqy", "text/x-ms-rqy", "text/x-nfo", "text/x-opml", "text/x-pascal",
        "text/x-processing", "text/x-rust", "text/x-sass", "text/x-scss", "text/x-setext", "text/x-sfv",
        "text/x-suse-ymp", "text/x-toml", "text/x-uuencode", "text/x-vcard", "text/x-yaml",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_that_browsers_care_about() {
        let rows = [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.d/index.HTM", "text/html; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("APP.MJS", "text/javascript; charset=utf-8"),
            ("app.js.map", "application/json"),
            ("a.json", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.xml", "text/xml"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.vtt", "text/vtt; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.avif", "image/avif"),
            ("a.woff2", "font/woff2"),
            ("a.otf", "font/otf"),
            ("a.mp4", "video/mp4"),
            ("a.ts", "video/mp2t"),
            ("a.pdf", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
        ];
        for (name, expected) in rows {
            assert_eq!(content_type(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn what_is_unknown_is_bytes() {
        for name in
            [&b"a"[..], b"", b"a.", b"a.unheard-of", b".html", b"x/.css", b"a.html/b", b"a.\xff", b"html"]
        {
            assert_eq!(content_type(name), UNKNOWN, "{name:?}");
        }
    }

    /// Every text type in the table, by asking for every extension of up to four letters and digits.
    #[test]
    fn all_text_but_xml_is_utf8() {
        let letters: Vec<u8> = (b'a'..=b'z').chain(b'0'..=b'9').collect();
        let mut names = vec![b"x.".to_vec()];
        let mut found = 0;
        for _ in 0..4 {
            let longer = |name: &Vec<u8>| {
                let name = name.clone();
                letters.clone().into_iter().map(move |letter| [&name[..], &[letter]].concat())
            };
            names = names.iter().flat_map(longer).collect();
            for name in &names {
                let content_type = content_type(name);
                if content_type.starts_with("text/") && content_type != "text/xml" {
                    found += 1;
                    assert!(content_type.ends_with("; charset=utf-8"), "{content_type}");
                }
            }
        }
        assert!(found > 100, "only {found} extensions have a text type");
    }

    proptest! {
        #[test]
        fn any_name_has_a_type(name: Vec<u8>) {
            prop_assert!(content_type(&name).contains('/'));
        }
    }
}
