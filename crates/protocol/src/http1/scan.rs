//! A head scan walks a head line by line, and names the first thing wrong with it.
//!
//! It is the slow path: it runs when a head arrives in pieces, so that each byte is looked at once, and when the
//! tokenizer refused something, to say what. Whole heads come here only to have the lengths of their lines checked, if
//! they are longer than a line may be.

use memchr::memchr;

use super::grammar::{is_token_byte, is_value};
use crate::work;

/// How far the lines of a head were checked.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadScan {
    /// Where the line begins that is not yet complete.
    line: usize,
    /// The first bytes that were searched for the end of that line.
    searched: usize,
    /// Lines that are complete and in order, the start line included.
    lines: usize,
}

/// Bounds of a scan, in bytes and in lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScanLimits {
    pub(super) start_line: usize,
    pub(super) field_line: usize,
    pub(super) fields: usize,
}

/// The first thing wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    BareLf,
    StartLine,
    StartLineTooLong,
    Folded,
    FieldName,
    FieldValue,
    FieldTooLong,
    TooManyFields,
    HeadTooLong,
}

impl HeadScan {
    /// A scan of lines that begin with fields at once, as trailers do.
    pub(super) fn of_fields(start: usize) -> Self {
        HeadScan { line: start, searched: start, lines: 1 }
    }

    /// Whether any byte was looked at.
    pub(super) fn has_begun(&self) -> bool {
        self.searched > 0
    }

    /// Looks at the bytes that are new since the last call, and returns where the head ends, once it does.
    ///
    /// `check_start` is given the start line without its CRLF.
    pub(super) fn advance<E: From<Flaw>>(
        &mut self,
        input: &[u8],
        limits: ScanLimits,
        check_start: impl Fn(&[u8]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        // Whoever goes on after an error may show less than before: wrong, but no reason to panic.
        self.searched = self.searched.min(input.len());
        self.line = self.line.min(self.searched);
        self.check_first_byte(input)?;
        while let Some(offset) = memchr(b'\n', &input[self.searched..]) {
            work::note(offset + 1);
            let end = self.searched + offset + 1;
            let line = &input[self.line..end];
            self.check_length(line.len().saturating_sub(2), limits)?;
            let line = line.strip_suffix(b"\r\n").ok_or(Flaw::BareLf)?;
            self.line = end;
            self.searched = end;
            match (self.lines, line) {
                // RFC 9112 2.2: empty lines before a request are skipped.
                (0, []) => self.check_first_byte(input)?,
                (0, _) => {
                    check_start(line)?;
                    self.lines = 1;
                }
                (_, []) => return Ok(Some(end)),
                (lines, _) if lines > limits.fields => {
                    return Err(Flaw::TooManyFields.into());
                }
                (lines, _) => {
                    check_field(line)?;
                    self.lines = lines + 1;
                }
            }
        }
        work::note(input.len() - self.searched);
        self.searched = input.len();
        // One byte more may be the CR.
        self.check_length((input.len() - self.line).saturating_sub(1), limits)?;
        Ok(None)
    }

    /// A start line begins with a token: what begins otherwise, such as TLS, is refused without waiting for its end.
    fn check_first_byte(&self, input: &[u8]) -> Result<(), Flaw> {
        match input.get(self.line) {
            Some(&byte) if self.lines == 0 && !is_token_byte(byte) && !matches!(byte, b'\r' | b'\n') => {
                Err(Flaw::StartLine)
            }
            _ => Ok(()),
        }
    }

    fn check_length(&self, length: usize, limits: ScanLimits) -> Result<(), Flaw> {
        match self.lines {
            0 if length > limits.start_line => Err(Flaw::StartLineTooLong),
            1.. if length > limits.field_line => Err(Flaw::FieldTooLong),
            _ => Ok(()),
        }
    }
}

/// RFC 9112 5: `field-name ":" OWS field-value OWS`.
fn check_field(line: &[u8]) -> Result<(), Flaw> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Flaw::Folded);
    }
    let colon = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(Flaw::FieldName)?;
    if colon == 0 || line[colon] != b':' {
        return Err(Flaw::FieldName);
    }
    if is_value(&line[colon + 1..]) { Ok(()) } else { Err(Flaw::FieldValue) }
}
