//! The path of a file, relative to the root, from the path of a request.

use std::borrow::Cow;
use std::fmt::{self, Display};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// All but the unreserved characters (RFC 3986 2.3): a colon would begin a scheme, a slash another segment.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where to look beneath the root: no empty segment, no `.` or `..`, no NUL, and no `/` at either end.
///
/// It is the first line of defence; `openat2(2)` with `RESOLVE_BENEATH` is the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelativePath<'p> {
    bytes: Cow<'p, [u8]>,
    is_directory: bool,
}

/// Whether names that begin with a dot are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DotFiles {
    /// They are not there: `.git`, `.env` and `.htpasswd` are no content. `.well-known` at the root is (RFC 8615).
    #[default]
    Hidden,
    /// They are as others.
    Served,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// `%` without two hexadecimal digits, or NUL.
    Malformed,
    /// `..` beyond the root.
    BeyondRoot,
    /// A name that no file has, or that is hidden.
    NoSuchName,
}

impl PathError {
    /// The status to answer with.
    ///
    /// Nginx and Apache answer 400 to `..` beyond the root as well; RFC 3986 5.2.4 would drop it, and so make a probe
    /// look like any other request. What is hidden must look like what is not there.
    pub(crate) fn status(self) -> u16 {
        match self {
            PathError::Malformed | PathError::BeyondRoot => 400,
            PathError::NoSuchName => 404,
        }
    }
}

impl Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::Malformed => "the path has a broken escape, or one of a zero byte",
            PathError::BeyondRoot => "the path leads out of the site",
            PathError::NoSuchName => "not found",
        })
    }
}

impl<'p> RelativePath<'p> {
    /// Resolves `raw`, the path of a request beneath a mount: escapes as they were sent, no query.
    ///
    /// The path is cut at its slashes first, and then each segment is decoded and looked at:
    ///
    /// - `.` and `..`, escaped or not, are resolved (RFC 3986 5.2.4, 6.2.2.2), but never beyond the root.
    /// - Empty segments count for nothing, as for the file system, and in nginx and Apache by default.
    /// - An escaped slash is part of a name (RFC 3986 2.2), and no file has such a name: 404, as in Apache. Nginx takes
    ///   it for a separator, so that it and what stands before it can disagree about which file is meant.
    /// - A backslash, escaped or not, gets 404 too: browsers take it for a slash, and no public file needs one.
    /// - A slash, `.` or `..` at the end asks for a directory.
    ///
    /// The bytes need not be UTF-8. Without escapes, dot segments and empty segments they are borrowed.
    ///
    /// # Errors
    /// [`PathError`], which knows its status.
    pub(crate) fn resolve(raw: &'p [u8], dot_files: DotFiles) -> Result<RelativePath<'p>, PathError> {
        let start = raw.iter().take_while(|&&byte| byte == b'/').count();
        let raw = &raw[start..];
        let inner = raw.strip_suffix(b"/").unwrap_or(raw);
        let is_directory = inner.len() < raw.len() || inner.is_empty();
        if inner.is_empty() {
            return Ok(RelativePath { bytes: Cow::Borrowed(b""), is_directory });
        }
        if inner.contains(&b'%') || inner.split(|&byte| byte == b'/').any(is_special) {
            return resolve_segments(raw, dot_files);
        }
        for (depth, name) in inner.split(|&byte| byte == b'/').enumerate() {
            check_name(name, depth == 0, dot_files)?;
        }
        Ok(RelativePath { bytes: Cow::Borrowed(inner), is_directory })
    }

    /// The path; empty for the root itself.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the request asks for a directory.
    ///
    /// If it does and there is a file, that is a 404; if it does not and there is a directory, the client is sent to
    /// the path with a slash, so that relative links hold.
    pub(crate) fn is_directory(&self) -> bool {
        self.is_directory
    }
}

/// Whether a file or directory of this name, at the root or below, can be asked for.
pub(crate) fn is_servable(name: &[u8], is_at_root: bool, dot_files: DotFiles) -> bool {
    !is_special(name) && !name.contains(&b'/') && check_name(name, is_at_root, dot_files).is_ok()
}

/// The Location that sends a client from the directory at `path` without a slash to the same with one (RFC 9110
/// 10.2.2).
///
/// `path` and `query` are as they were sent: absolute, and escaped. A path that begins with two slashes would name
/// another host, so it begins with one.
pub(crate) fn with_slash(path: &str, query: Option<&str>) -> String {
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    format!("/{}/{mark}{query}", path.trim_start_matches('/'))
}

/// The address of what is called `name`, relative to the directory it is in.
///
/// It begins with a dot and a slash, so that no name is taken for a scheme.
pub(crate) fn link(name: &[u8]) -> impl Display {
    fmt::from_fn(move |f| write!(f, "./{}", percent_encode(name, IN_SEGMENT)))
}

/// Goes segment by segment, into memory of its own.
fn resolve_segments(raw: &[u8], dot_files: DotFiles) -> Result<RelativePath<'static>, PathError> {
    let mut path: Vec<u8> = Vec::with_capacity(raw.len());
    let mut is_directory = true;
    for segment in raw.split(|&byte| byte == b'/') {
        if !has_whole_escapes(segment) {
            return Err(PathError::Malformed);
        }
        let name: Cow<'_, [u8]> = percent_decode(segment).into();
        is_directory = is_special(&name);
        match &name[..] {
            b"" | b"." => {}
            b".." if path.is_empty() => return Err(PathError::BeyondRoot),
            b".." => path.truncate(path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            name => {
                check_name(name, path.is_empty(), dot_files)?;
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
            }
        }
    }
    Ok(RelativePath { bytes: Cow::Owned(path), is_directory })
}

/// Segments that name no entry of a directory.
fn is_special(name: &[u8]) -> bool {
    matches!(name, b"" | b"." | b"..")
}

fn check_name(name: &[u8], is_at_root: bool, dot_files: DotFiles) -> Result<(), PathError> {
    let is_hidden =
        name.starts_with(b".") && dot_files == DotFiles::Hidden && !(is_at_root && name == b".well-known");
    if name.contains(&0) {
        Err(PathError::Malformed)
    } else if is_hidden || name.iter().any(|byte| matches!(byte, b'/' | b'\\')) {
        Err(PathError::NoSuchName)
    } else {
        Ok(())
    }
}

/// RFC 3986 2.1: `%` and two hexadecimal digits. The decoder would let others through as they are.
fn has_whole_escapes(segment: &[u8]) -> bool {
    let mut after = segment.split(|&byte| byte == b'%').skip(1);
    after.all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(raw: &str) -> Result<(String, bool), PathError> {
        let path = RelativePath::resolve(raw.as_bytes(), DotFiles::Hidden)?;
        Ok((String::from_utf8_lossy(path.as_bytes()).into_owned(), path.is_directory()))
    }

    #[track_caller]
    fn assert_file(raw: &str, path: &str) {
        assert_eq!(resolve(raw), Ok((path.to_owned(), false)), "{raw}");
    }

    #[track_caller]
    fn assert_directory(raw: &str, path: &str) {
        assert_eq!(resolve(raw), Ok((path.to_owned(), true)), "{raw}");
    }

    #[test]
    fn plain_paths_are_borrowed() {
        for raw in ["/a", "a", "/a/b.css", "//a/b", "/a/", "/a.b/..c../x.", "/"] {
            let path = RelativePath::resolve(raw.as_bytes(), DotFiles::Served).unwrap();
            assert!(matches!(path.bytes, Cow::Borrowed(_)), "{raw}");
        }
        assert_file("/a/b.css", "a/b.css");
        assert_file("a", "a");
        assert_directory("/a/", "a");
        for root in ["", "/", "//", "/./", "/.", "/a/..", "/a/../", "///"] {
            assert_directory(root, "");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_file("/a%20b", "a b");
        assert_file("/%61", "a");
        assert_file("/a%2520b", "a%20b");
        assert_file("/a%3Fb%23c", "a?b#c");
        // Not a second time: this is a file whose name has an escape in it.
        assert_file("/%252e%252e/a", "%2e%2e/a");
        let path = RelativePath::resolve(b"/%ff%FE", DotFiles::Hidden).unwrap();
        assert_eq!(path.as_bytes(), b"\xff\xfe");
    }

    #[test]
    fn bad_escapes_and_nul_are_malformed() {
        for raw in ["/%", "/a%2", "/%zz", "/%2/b", "/%%41", "/a/%g0", "/a%00b", "/%00", "/a/..%00", "/x%"] {
            assert_eq!(resolve(raw), Err(PathError::Malformed), "{raw}");
        }
        assert_eq!(RelativePath::resolve(b"/a\0b", DotFiles::Served), Err(PathError::Malformed));
        assert_eq!(PathError::Malformed.status(), 400);
    }

    #[test]
    fn dot_segments_are_resolved() {
        assert_file("/a/../b", "b");
        assert_file("/a/./b", "a/b");
        assert_file("/a/b/../../c", "c");
        assert_file("/a/%2e%2E/b", "b");
        assert_file("/a/.%2e/b", "b");
        assert_file("/a//../b", "b");
        assert_directory("/a/b/..", "a");
        assert_directory("/a/b/.", "a/b");
        assert_directory("/a/b/%2e", "a/b");
        assert_directory("/a//", "a");
        assert_file("//a///b", "a/b");
    }

    #[test]
    fn nothing_leads_beyond_the_root() {
        for raw in
            ["/..", "/../a", "/a/../..", "/a/../../b", "/%2e%2e/a", "/.%2E/", "..", "/a//../..", "//.."]
        {
            assert_eq!(resolve(raw), Err(PathError::BeyondRoot), "{raw}");
        }
        assert_eq!(PathError::BeyondRoot.status(), 400);
    }

    #[test]
    fn an_escaped_slash_divides_nothing() {
        for raw in ["/a%2Fb", "/a%2f", "/..%2f..%2fetc/passwd", "/a%5Cb", "/..%5c..%5ca", "/a\\b", "/%2f"] {
            assert_eq!(resolve(raw), Err(PathError::NoSuchName), "{raw}");
        }
        assert_eq!(PathError::NoSuchName.status(), 404);
    }

    #[test]
    fn dot_files_are_hidden_but_for_the_well_known() {
        for raw in
            ["/.git", "/.git/config", "/a/.env", "/%2egit", "/...", "/a/.well-known/b", "/.well-known/.x"]
        {
            assert_eq!(resolve(raw), Err(PathError::NoSuchName), "{raw}");
            assert!(RelativePath::resolve(raw.as_bytes(), DotFiles::Served).is_ok(), "{raw}");
        }
        assert_file("/.well-known/security.txt", ".well-known/security.txt");
        assert_file("/a/../.well-known/x", ".well-known/x");
        assert_eq!(resolve("/.well-known-not"), Err(PathError::NoSuchName));
    }

    #[test]
    fn the_way_to_the_slash_leads_to_no_other_host() {
        assert_eq!(with_slash("/a/b", None), "/a/b/");
        assert_eq!(with_slash("//example.com", Some("a=b")), "/example.com/?a=b");
    }

    #[test]
    fn what_is_servable_can_be_asked_for() {
        assert!(is_servable(b"a b", false, DotFiles::Hidden));
        assert!(is_servable(b".well-known", true, DotFiles::Hidden));
        assert!(is_servable(b".git", false, DotFiles::Served));
        for name in [&b".git"[..], b"a\\b", b"a/b", b"", b".", b"..", b"a\0"] {
            assert!(!is_servable(name, true, DotFiles::Hidden), "{name:?}");
        }
    }

    /// The same rules, written without care for memory: decode, then walk.
    fn model(raw: &[u8], dot_files: DotFiles) -> Result<(Vec<u8>, bool), PathError> {
        let is_hidden = |name: &[u8], stack: &[Vec<u8>]| {
            let is_allowed = dot_files == DotFiles::Served || (stack.is_empty() && name == b".well-known");
            name[0] == b'.' && !is_allowed
        };
        let mut stack: Vec<Vec<u8>> = Vec::new();
        let mut is_directory = true;
        for segment in raw.split(|&byte| byte == b'/') {
            let mut name = Vec::new();
            let mut rest = segment;
            while let [first, after @ ..] = rest {
                rest = after;
                if *first != b'%' {
                    name.push(*first);
                    continue;
                }
                let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
                name.push(u8::from_str_radix(digits.ok_or(PathError::Malformed)?, 16).unwrap());
                rest = &after[2..];
            }
            is_directory = false;
            if name.is_empty() || name == b"." {
                is_directory = true;
            } else if name == b".." {
                is_directory = true;
                stack.pop().ok_or(PathError::BeyondRoot)?;
            } else if name.contains(&0) {
                return Err(PathError::Malformed);
            } else if name.contains(&b'/') || name.contains(&b'\\') || is_hidden(&name, &stack) {
                return Err(PathError::NoSuchName);
            } else {
                stack.push(name);
            }
        }
        Ok((stack.join(&b'/'), is_directory))
    }

    fn raw_path() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("/".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%5c".to_owned()),
            Just("%00".to_owned()),
            Just("/.well-known/".to_owned()),
            "[a-c.%/]{1,2}",
            "%[0-9a-f]{2}",
        ];
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_path_resolves_as_the_model_says_and_stays_beneath_the_root(raw in raw_path(), hidden: bool) {
            let dot_files = if hidden { DotFiles::Hidden } else { DotFiles::Served };
            let found = RelativePath::resolve(raw.as_bytes(), dot_files);
            // Which of several errors is found first is of no concern.
            let said = found.clone().map(|path| (path.as_bytes().to_vec(), path.is_directory()));
            match (&said, model(raw.as_bytes(), dot_files)) {
                (Ok(said), model) => prop_assert_eq!(Ok(said.clone()), model),
                (Err(_), model) => prop_assert!(model.is_err()),
            }
            if let Ok(path) = found && !path.as_bytes().is_empty() {
                for name in path.as_bytes().split(|&byte| byte == b'/') {
                    prop_assert!(!is_special(name) && !name.contains(&0));
                }
            }
        }

        #[test]
        fn a_file_is_found_by_its_escaped_name(names in proptest::collection::vec("[^/\\\\\0.][^/\\\\\0]{0,5}", 1..4)) {
            let path = names.join("/");
            let escaped: Vec<String> =
                names.iter().map(|name| percent_encode(name.as_bytes(), NON_ALPHANUMERIC).to_string()).collect();
            let raw = format!("/{}", escaped.join("/"));
            let found = RelativePath::resolve(raw.as_bytes(), DotFiles::Hidden).unwrap();
            prop_assert_eq!(found.as_bytes(), path.as_bytes());
        }
    }
}
