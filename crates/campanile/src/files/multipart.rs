//! A multipart body: several ranges of a file in one response, with a head before each.

use std::fmt::Write;

use arrayvec::ArrayString;
use campanile_protocol::{Full, Sink};

use super::range::ByteRange;

/// The value of Content-Type of the whole response.
pub(crate) type MultipartType = ArrayString<64>;

/// A body of `multipart/byteranges` (RFC 9110 14.6, RFC 2046 5.1): for each part its head, then its bytes, then the
/// end.
///
/// ```text
///   head(0)  bytes of ranges[0]  head(1)  bytes of ranges[1]  ...  end
/// ```
///
/// The response has no Content-Range of its own (RFC 9110 15.3.7.2).
#[derive(Debug, Clone)]
pub(crate) struct Multipart {
    boundary: ArrayString<32>,
    ranges: Vec<ByteRange>,
    /// The length of the file.
    len: u64,
    /// The type of the file.
    content_type: &'static str,
}

impl Multipart {
    /// The body for these ranges of a file of `len` bytes.
    ///
    /// The boundary is `random` in hexadecimal. Whoever wrote the file cannot have known it, so the file is not
    /// searched for it: that one of 128 random bits is in it by chance is less likely than any fault of the disk. So
    /// `random` has to be new for each response.
    pub(crate) fn new(
        ranges: Vec<ByteRange>,
        len: u64,
        content_type: &'static str,
        random: u128,
    ) -> Multipart {
        let mut boundary = ArrayString::new();
        // 32 digits, always.
        let _ = write!(boundary, "{random:032x}");
        Multipart { boundary, ranges, len, content_type }
    }

    /// The parts, in the order they are sent.
    pub(crate) fn ranges(&self) -> &[ByteRange] {
        &self.ranges
    }

    /// The value of Content-Type of the response.
    pub(crate) fn content_type(&self) -> MultipartType {
        let mut text = MultipartType::new();
        let _ = write!(text, "multipart/byteranges; boundary={}", self.boundary);
        text
    }

    /// The length of the body in bytes, all heads included; `None` if 64 bits do not hold it.
    ///
    /// Ranges that were [selected](super::range::select) do not overlap, so it is at most the length of the file and of
    /// the heads.
    pub(crate) fn content_length(&self) -> Option<u64> {
        let mut heads = Counter(0);
        for part in 0..self.ranges.len() {
            // A counter takes anything.
            let _ = self.write_head(part, &mut heads);
        }
        let _ = self.write_end(&mut heads);
        self.ranges.iter().try_fold(heads.0 as u64, |sum, range| sum.checked_add(range.len()))
    }

    /// Writes what stands before the bytes of `ranges()[part]`.
    ///
    /// # Errors
    /// [`Full`] when there is no room for all of it; nothing was written.
    ///
    /// # Panics
    /// If there is no such part.
    pub(crate) fn write_head(&self, part: usize, sink: &mut (impl Sink + ?Sized)) -> Result<(), Full> {
        // The line break before a boundary belongs to it (RFC 2046 5.1.1); before the first there is nothing to break.
        let before: &[u8] = if part == 0 { b"--" } else { b"\r\n--" };
        sink.write_pieces(&[
            before,
            self.boundary.as_bytes(),
            b"\r\nContent-Type: ",
            self.content_type.as_bytes(),
            b"\r\nContent-Range: ",
            self.ranges[part].content_range(self.len).as_bytes(),
            b"\r\n\r\n",
        ])
    }

    /// Writes what stands behind the last part.
    ///
    /// # Errors
    /// [`Full`] when there is no room for all of it; nothing was written.
    pub(crate) fn write_end(&self, sink: &mut (impl Sink + ?Sized)) -> Result<(), Full> {
        sink.write_pieces(&[b"\r\n--", self.boundary.as_bytes(), b"--\r\n"])
    }
}

/// A sink that counts.
struct Counter(usize);

impl Sink for Counter {
    fn room(&self) -> usize {
        usize::MAX - self.0
    }

    fn len(&self) -> usize {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0 += bytes.len();
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.0 = self.0.min(len);
    }
}

#[cfg(test)]
mod tests {
    use campanile_protocol::SliceSink;
    use proptest::prelude::*;

    use super::*;

    fn body(multipart: &Multipart, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (part, range) in multipart.ranges().iter().enumerate() {
            multipart.write_head(part, &mut body).unwrap();
            body.extend_from_slice(&file[range.first as usize..=range.last as usize]);
        }
        multipart.write_end(&mut body).unwrap();
        body
    }

    #[test]
    fn a_body_is_as_in_the_specification() {
        let ranges = vec![ByteRange { first: 0, last: 1 }, ByteRange { first: 3, last: 3 }];
        let multipart = Multipart::new(ranges, 5, "text/plain", 0xab);
        let boundary = "000000000000000000000000000000ab";
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/5\r\n\r\nhe\
             \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 3-3/5\r\n\r\nl\
             \r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body(&multipart, b"hello")).unwrap(), expected);
        assert_eq!(multipart.content_type().as_str(), format!("multipart/byteranges; boundary={boundary}"));
    }

    #[test]
    fn the_boundary_has_its_room() {
        let multipart = Multipart::new(Vec::new(), 0, "a/b", u128::MAX);
        let expected = format!("multipart/byteranges; boundary={}", "f".repeat(32));
        assert_eq!(multipart.content_type().as_str(), expected);
    }

    #[test]
    fn a_head_that_does_not_fit_is_not_begun() {
        let multipart = Multipart::new(vec![ByteRange { first: 0, last: 0 }], 1, "a/b", 1);
        let mut memory = [0; 60];
        let mut sink = SliceSink::new(&mut memory);
        assert!(multipart.write_head(0, &mut sink).is_err());
        assert!(sink.is_empty());
    }

    #[test]
    fn a_length_beyond_64_bits_is_none() {
        let range = ByteRange { first: 0, last: u64::MAX - 1 };
        assert_eq!(Multipart::new(vec![range, range], u64::MAX, "a/b", 1).content_length(), None);
    }

    proptest! {
        #[test]
        fn the_length_is_known_before_the_body_is_made(
            bounds in proptest::collection::vec((0u64..2000, 0u64..2000), 0..6), random: u128,
        ) {
            let file: Vec<u8> = (0..2000u32).map(|at| at as u8).collect();
            let ranges = bounds.iter().map(|&(a, b)| ByteRange { first: a.min(b), last: a.max(b) }).collect();
            let multipart = Multipart::new(ranges, 2000, "application/octet-stream", random);
            prop_assert_eq!(multipart.content_length(), Some(body(&multipart, &file).len() as u64));
        }

        #[test]
        fn a_reader_finds_the_parts_again(
            bounds in proptest::collection::vec((0u64..50, 0u64..50), 2..6), random: u128,
        ) {
            let file: Vec<u8> = (0..50).collect();
            let ranges = bounds.iter().map(|&(a, b)| ByteRange { first: a.min(b), last: a.max(b) }).collect();
            let multipart = Multipart::new(ranges, 50, "a/b", random);
            let body = body(&multipart, &file);
            // As a client does it: by the boundary from Content-Type, each part's bytes by its Content-Range.
            let content_type = multipart.content_type();
            let delimiter = format!("--{}", content_type.split_once("boundary=").unwrap().1);
            let mut rest = &body[..];
            for range in multipart.ranges() {
                rest = rest.strip_prefix(delimiter.as_bytes()).unwrap();
                let head_end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                let head = std::str::from_utf8(&rest[..head_end]).unwrap();
                let expected = format!("\r\nContent-Range: bytes {}-{}/50\r\n", range.first, range.last);
                prop_assert!(head.contains(&expected));
                let (bytes, after) = rest[head_end..].split_at(range.len() as usize);
                prop_assert_eq!(bytes, &file[range.first as usize..=range.last as usize]);
                rest = after.strip_prefix(b"\r\n").unwrap();
            }
            let end = format!("{delimiter}--\r\n");
            prop_assert_eq!(rest, end.as_bytes());
        }
    }
}
