//! A listing is a directory as a page of HTML.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

use campanile_protocol::http1::FieldLine;

use super::date::Date;
use super::path::{DotFiles, is_servable, link};

/// Goes with every listing: even if a name got through, it could load and run nothing.
pub(crate) const CONTENT_SECURITY_POLICY: FieldLine = FieldLine::from_static(
    "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
);

/// The entries that a listing shows at most. Each takes about 2.5 KiB of the page at worst, and 200
/// bytes of it in general.
pub(crate) const DEFAULT_MAX_ENTRIES: usize = 10_000;

/// What a directory holds, by one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name: any bytes, without a path.
    pub(crate) name: Vec<u8>,
    /// Whether it is a directory itself.
    pub(crate) is_directory: bool,
    /// Its length in bytes; not shown for a directory.
    pub(crate) len: u64,
    /// When it was last changed.
    pub(crate) modified: SystemTime,
}

/// Writes the page for the directory at `path` (as in [`RelativePath`](super::path::RelativePath), empty for the root).
///
/// Directories come first, then files, both by the bytes of their names. What cannot be asked for is not shown. At most
/// `max_entries` are shown; if there are more the page says so, `entries` is read no further, and which are shown is
/// the file system's choice.
///
/// The links are relative, so the page is right only at an address that ends in a slash. It is to be sent as
/// `text/html; charset=utf-8`, with [`CONTENT_SECURITY_POLICY`].
pub(crate) fn listing(
    path: &[u8],
    dot_files: DotFiles,
    entries: impl IntoIterator<Item = Entry>,
    max_entries: usize,
) -> String {
    let is_at_root = path.is_empty();
    let mut entries = entries.into_iter().filter(|entry| is_servable(&entry.name, is_at_root, dot_files));
    let mut shown: Vec<Entry> = entries.by_ref().take(max_entries).collect();
    let is_cut = entries.next().is_some();
    shown.sort_unstable_by(|a, b| b.is_directory.cmp(&a.is_directory).then_with(|| a.name.cmp(&b.name)));

    let title = shown_as(path);
    let slash = if is_at_root { "" } else { "/" };
    let mut page = String::with_capacity(512 + 192 * shown.len());
    // Writing into a string cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>/{title}{slash}</title>\n</head>\n<body>\n<h1><bdi>/{title}{slash}</bdi></h1>\n<table>\n\
         <tr><th>Name</th><th>Bytes</th><th>Changed</th></tr>\n"
    );
    if !is_at_root {
        page.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
    for entry in &shown {
        write_row(&mut page, entry);
    }
    page.push_str("</table>\n");
    if is_cut {
        let _ = writeln!(page, "<p>There are more: only {max_entries} are shown.</p>");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn write_row(page: &mut String, entry: &Entry) {
    let href = link(&entry.name);
    let name = shown_as(&entry.name);
    let slash = if entry.is_directory { "/" } else { "" };
    // Names that run from right to left stay within their `bdi`.
    let _ = write!(page, "<tr><td><a href=\"{href}{slash}\"><bdi>{name}{slash}</bdi></a></td><td>");
    if !entry.is_directory {
        let _ = write!(page, "{}", entry.len);
    }
    let _ = writeln!(page, "</td><td>{}</td></tr>", Date::of(entry.modified).text());
}

/// A name as text of HTML: escaped, and with a replacement character for each control and whatever is not UTF-8.
fn shown_as(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        let escaped: Cow<'_, str> = match character {
            '&' => "&amp;".into(),
            '<' => "&lt;".into(),
            '>' => "&gt;".into(),
            '"' => "&quot;".into(),
            '\'' => "&#39;".into(),
            character if character.is_control() => "\u{fffd}".into(),
            character => {
                text.push(character);
                continue;
            }
        };
        text.push_str(&escaped);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::super::path::RelativePath;
    use super::*;

    fn entry(name: &[u8], is_directory: bool) -> Entry {
        Entry { name: name.to_vec(), is_directory, len: 7, modified: UNIX_EPOCH }
    }

    fn page(names: &[&[u8]]) -> String {
        listing(b"", DotFiles::Hidden, names.iter().map(|name| entry(name, false)), 100)
    }

    /// The addresses of all links but that to the directory above.
    fn links(page: &str) -> Vec<&str> {
        let addresses = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        addresses.filter(|address| *address != "../").collect()
    }

    #[test]
    fn directories_come_first_each_by_name() {
        let entries = [entry(b"b", false), entry(b"z", true), entry(b"a", false), entry(b"c", true)];
        let page = listing(b"d", DotFiles::Hidden, entries, 100);
        assert_eq!(links(&page), ["./c/", "./z/", "./a", "./b"]);
        let row = "<tr><td><a href=\"./a\"><bdi>a</bdi></a></td><td>7</td>\
                   <td>Thu, 01 Jan 1970 00:00:00 GMT</td></tr>\n";
        assert!(page.contains(row), "{page}");
        let directory = "<a href=\"./c/\"><bdi>c/</bdi></a></td><td></td>";
        assert!(page.contains(directory), "{page}");
    }

    #[test]
    fn only_the_root_has_nothing_above() {
        assert!(!page(&[b"a"]).contains("href=\"../\""));
        let page = listing(b"a/b", DotFiles::Hidden, [], 100);
        assert!(page.contains("href=\"../\"") && page.contains("<title>/a/b/</title>"));
    }

    #[test]
    fn names_stay_text() {
        let script = page(&[b"<script>alert('1')<script>"]);
        assert!(!script.contains("<script"), "{script}");
        assert!(script.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;script&gt;"));
        assert_eq!(links(&page(&[b"\" onclick=\"alert(1)"])), ["./%22%20onclick%3D%22alert%281%29"]);
        assert!(page(&[b"\" onclick=\"x"]).contains("&quot; onclick=&quot;x"));
        assert_eq!(links(&page(&[b"javascript:alert(1)"])), ["./javascript%3Aalert%281%29"]);
        assert_eq!(links(&page(&[b"a\r\nb?c#d&amp;"])), ["./a%0D%0Ab%3Fc%23d%26amp%3B"]);
        assert!(page(&[b"a\nb&amp;"]).contains("<bdi>a\u{fffd}b&amp;amp;</bdi>"));
        assert_eq!(links(&page(&[b"\xff"])), ["./%FF"]);
        let title = listing(b"</title><script>", DotFiles::Hidden, [], 1);
        assert!(!title.contains("<script"), "{title}");
    }

    #[test]
    fn what_cannot_be_asked_for_is_not_shown() {
        let names: [&[u8]; 6] = [b".git", b"a\\b", b".", b"..", b"ok", b".well-known"];
        assert_eq!(links(&page(&names)), ["./.well-known", "./ok"]);
        let below = listing(b"d", DotFiles::Hidden, names.iter().map(|name| entry(name, false)), 100);
        assert_eq!(links(&below), ["./ok"]);
        let all = listing(b"d", DotFiles::Served, names.iter().map(|name| entry(name, false)), 100);
        assert_eq!(links(&all), ["./.git", "./.well-known", "./ok"]);
    }

    #[test]
    fn a_long_listing_is_cut_and_says_so() {
        let entries = |count: u8| (0..count).map(|at| entry(&[b'a' + at], false));
        let whole = listing(b"", DotFiles::Hidden, entries(5), 5);
        assert!(links(&whole).len() == 5 && !whole.contains("There are more"));
        let cut = listing(b"", DotFiles::Hidden, entries(6), 5);
        assert!(links(&cut).len() == 5 && cut.contains("There are more: only 5 are shown."));
        // Hidden ones do not count.
        let hidden = [entry(b"a", false), entry(b".b", false)];
        assert!(!listing(b"", DotFiles::Hidden, hidden, 1).contains("There are more"));
        // An endless directory is read only so far.
        let endless = std::iter::repeat_with(|| entry(b"a", false));
        assert_eq!(links(&listing(b"", DotFiles::Hidden, endless, 3)).len(), 3);
    }

    proptest! {
        #[test]
        fn any_name_is_linked_to_itself_and_adds_no_markup(name in proptest::collection::vec(any::<u8>(), 1..20)) {
            prop_assume!(is_servable(&name, true, DotFiles::Served));
            let page = listing(b"", DotFiles::Served, [entry(&name, false)], 10);
            let links = links(&page);
            prop_assert_eq!(links.len(), 1);
            let path = RelativePath::resolve(links[0].as_bytes(), DotFiles::Served).unwrap();
            prop_assert_eq!(path.as_bytes(), &name[..]);
            let harmless = listing(b"", DotFiles::Served, [entry(b"a", false)], 10);
            for mark in ['<', '>', '"', '\'', '\n'] {
                prop_assert_eq!(page.matches(mark).count(), harmless.matches(mark).count(), "{}", mark);
            }
        }
    }
}
