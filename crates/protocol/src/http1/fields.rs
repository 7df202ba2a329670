//! Fields are the lines of a head behind its start line.

use core::fmt;
use core::iter::{self, FusedIterator};

use memchr::memchr;

use super::grammar::trim;
use super::tokens::{self, Line};

/// One field line: a name, which is a token, and a value without the white space around it (RFC 9112 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as the sender wrote it: compare it without regard to case.
    pub name: &'a str,
    /// The value: any bytes but controls, with tabs among them.
    pub value: &'a [u8],
}

/// The field lines of a head in the order they came in.
///
/// They were checked when the head was read, and are taken apart when somebody asks for them: most are asked for by
/// nobody.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    lines: &'a [u8],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Cuts off the field lines that `lines` begin with, `most` of them at most, and the empty line behind them. Each
    /// is shown.
    #[inline]
    pub(super) fn read(
        lines: &'a [u8],
        most: usize,
        mut show: impl FnMut(Line<'a>),
    ) -> Option<(Fields<'a>, &'a [u8])> {
        let (mut rest, mut count) = (lines, 0);
        loop {
            if let [b'\r', b'\n', body @ ..] = rest {
                let lines = &lines[..lines.len() - rest.len()];
                return Some((Fields { lines, count }, body));
            }
            if count == most {
                return None;
            }
            let line;
            (line, rest) = tokens::field(rest)?;
            show(line);
            count += 1;
        }
    }

    /// The fields of a copy of their [lines](Self::lines): `count` of them. Of other bytes they are none, or wrong.
    pub fn over(lines: &'a [u8], count: usize) -> Self {
        Fields { lines, count }
    }

    /// The lines as they were sent, each with its CRLF: for who keeps a copy.
    pub fn lines(&self) -> &'a [u8] {
        self.lines
    }

    /// The values of all fields called `name`, in any case.
    pub(super) fn values<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'n, 'a> {
        let mut lines = self.lines;
        // They were checked: so the next LF ends a line, and only a line of that name is taken apart.
        iter::from_fn(move || {
            loop {
                let line;
                (line, lines) = lines.split_at(memchr(b'\n', lines)? + 1);
                if let Some((found, [b':', value @ .., b'\r', b'\n'])) = line.split_at_checked(name.len())
                    && found.eq_ignore_ascii_case(name.as_bytes())
                {
                    return Some(trim(value));
                }
            }
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        self.count = self.count.checked_sub(1)?;
        let line;
        (line, self.lines) = tokens::field(self.lines)?;
        Some(Field { name: core::str::from_utf8(line.name).ok()?, value: line.value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl FusedIterator for Fields<'_> {}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
