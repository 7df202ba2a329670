//! A head watch decides when a head is worth reading: at once if nothing is known of it, else when its end has come.

use super::limits::Limits;
use super::scan::{Flaw, HeadScan, ScanLimits};
use crate::work;

/// The memory of a head decoder between calls.
#[derive(Debug, Clone)]
pub(super) struct HeadWatch {
    pub(super) limits: Limits,
    scan: HeadScan,
}

/// Checks a start line that arrived apart from the rest of its head.
type CheckStart<E> = fn(&[u8]) -> Result<(), E>;

impl HeadWatch {
    pub(super) fn new(limits: Limits) -> Self {
        HeadWatch { limits, scan: HeadScan::default() }
    }

    /// The part of the input that a head may lie in.
    #[inline]
    pub(super) fn window<'a>(&self, input: &'a [u8]) -> &'a [u8] {
        &input[..input.len().min(self.limits.head)]
    }

    /// Whether the head is known not to be whole yet, after a look at what is new.
    #[inline]
    pub(super) fn is_waiting<E: From<Flaw>>(
        &mut self,
        window: &[u8],
        check: CheckStart<E>,
    ) -> Result<bool, E> {
        Ok(self.scan.has_begun() && !self.scan_further(window, check)?)
    }

    /// The tokenizer found no end of the head, or refused it: from now on it is searched as it arrives, and each line
    /// checked when it is complete. So the same head gives the same error however it was cut.
    #[cold]
    pub(super) fn begin<E: From<Flaw>>(&mut self, window: &[u8], check: CheckStart<E>) -> Result<(), E> {
        work::note(window.len());
        self.scan = HeadScan::default();
        // If the scan sees a good head where the tokenizer sees none, they disagree, and nobody is believed.
        if self.scan_further(window, check)? { Err(Flaw::StartLine.into()) } else { Ok(()) }
    }

    /// A head was read or refused: the next one begins.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.scan = HeadScan::default();
    }

    /// Checks the lengths of the lines of a whole head, which need no look if the head is shorter than a line may be.
    #[inline]
    pub(super) fn check_lengths<E: From<Flaw>>(&self, head: &[u8], check: CheckStart<E>) -> Result<(), E> {
        work::note(head.len());
        if head.len() <= self.limits.request_line.min(self.limits.field_line) {
            return Ok(());
        }
        self.check_lines(head, check)
    }

    /// Names what is wrong: the first flaw in the lines, or else `error`.
    #[cold]
    pub(super) fn explain<E: From<Flaw>>(&mut self, window: &[u8], check: CheckStart<E>, error: E) -> E {
        self.reset();
        self.check_lines(window, check).err().unwrap_or(error)
    }

    #[cold]
    fn check_lines<E: From<Flaw>>(&self, window: &[u8], check: CheckStart<E>) -> Result<(), E> {
        HeadScan::default().advance(window, self.scan_limits(), check).map(|_| ())
    }

    /// Searches what is new, and returns whether the head is whole.
    fn scan_further<E: From<Flaw>>(&mut self, window: &[u8], check: CheckStart<E>) -> Result<bool, E> {
        let limits = self.scan_limits();
        let is_whole = match self.scan.advance(window, limits, check) {
            Ok(None) if window.len() >= self.limits.head => Err(Flaw::HeadTooLong.into()),
            scanned => scanned.map(|end| end.is_some()),
        };
        if is_whole.is_err() {
            self.reset();
        }
        is_whole
    }

    fn scan_limits(&self) -> ScanLimits {
        let Limits { request_line, field_line, fields, .. } = self.limits;
        ScanLimits { start_line: request_line, field_line, fields }
    }
}
