//! Glob: the patterns of KEYS and SCAN.

/// Whether all of `text` is what `pattern` says: `*` is anything, `?` any byte, `[a-z]` one of these, `[^a-z]` none of
/// these, and `\` takes the meaning from what follows.
///
/// It takes time in proportion to the product of both lengths at worst: of several `*` only the last is tried anew.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        match (text.split_first(), one(pattern)) {
            (None, _) if pattern.is_empty() => return true,
            (Some((&byte, after)), Some((is_it, rest))) if is_it(byte) => (pattern, text) = (rest, after),
            _ => {
                let Some((after_star, [_, from @ ..])) = star else { return false };
                star = Some((after_star, from));
                (pattern, text) = (after_star, from);
            }
        }
    }
}

/// What the next byte has to be, and the pattern of those that follow.
fn one(pattern: &[u8]) -> Option<(impl Fn(u8) -> bool, &[u8])> {
    let (class, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (Class::Any, rest),
        [b'\\', byte, rest @ ..] => (Class::Byte(*byte), rest),
        [b'[', rest @ ..] => match rest.iter().skip(1).position(|&byte| byte == b']') {
            Some(at) => (Class::Set(&rest[..=at]), &rest[at + 2..]),
            None => (Class::Byte(b'['), rest),
        },
        [byte, rest @ ..] => (Class::Byte(*byte), rest),
    };
    Some((move |byte| class.has(byte), rest))
}

#[derive(Clone, Copy)]
enum Class<'a> {
    Any,
    Byte(u8),
    /// What stands between brackets.
    Set(&'a [u8]),
}

impl Class<'_> {
    fn has(self, byte: u8) -> bool {
        let (mut set, is_without) = match self {
            Class::Any => return true,
            Class::Byte(wanted) => return byte == wanted,
            Class::Set([b'^', set @ ..]) => (set, true),
            Class::Set(set) => (set, false),
        };
        let mut is_in = false;
        while let [first, rest @ ..] = set {
            (is_in, set) = match rest {
                [b'-', last, rest @ ..] => (is_in || (*first..=*last).contains(&byte), rest),
                _ => (is_in || byte == *first, rest),
            };
        }
        is_in != is_without
    }
}
