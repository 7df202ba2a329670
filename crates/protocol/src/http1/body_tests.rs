//! The rules for bodies, one line each.

use alloc::vec::Vec;
use std::string::String;

use super::{BodyDecoder, BodyError, BodyLength, BodyPart, Limits};
use crate::{Codec, Decoded};

/// The data of a body and the names of its trailers, with what is left over.
type Body<'a> = (Vec<u8>, Vec<String>, &'a [u8]);

fn read(length: BodyLength, mut input: &[u8]) -> Result<Body<'_>, BodyError> {
    let mut decoder = BodyDecoder::new(length, &Limits { trailers: 40, ..Limits::default() });
    let mut data = Vec::new();
    while let Decoded::Frame { frame, consumed } = decoder.decode(input)? {
        input = &input[consumed..];
        match frame {
            BodyPart::Data(piece) => data.extend_from_slice(piece),
            BodyPart::End(trailers) => {
                assert!(decoder.is_done());
                let names = trailers.fields().map(|field| field.name.into()).collect();
                return Ok((data, names, input));
            }
        }
    }
    Err(BodyError::Truncated)
}

#[test]
fn chunked_bodies() {
    use BodyError::{ChunkEnd, ChunkExtension, ChunkSize, Truncated};
    for (input, expected) in [
        (&b"0\r\n\r\n"[..], Ok(&b""[..])),
        (b"5\r\nhello\r\n0\r\n\r\n", Ok(b"hello")),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", Ok(b"01234567890123456789")),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", Ok(b"hello")),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", Err(ChunkSize)),
        (b"FFFFFFFFFFFFFFFFF\r\n", Err(ChunkSize)),
        (b"\r\n", Err(ChunkSize)),
        (b" 5\r\nhello\r\n", Err(ChunkSize)),
        (b"0x5\r\nhello\r\n", Err(ChunkSize)),
        (b"+5\r\nhello\r\n", Err(ChunkSize)),
        (b"-5\r\nhello\r\n", Err(ChunkSize)),
        (b"5_0\r\nhello\r\n", Err(ChunkSize)),
        (b"5,\r\nhello\r\n", Err(ChunkSize)),
        (b"g\r\n", Err(ChunkSize)),
        (b";a\r\n", Err(ChunkSize)),
        (b"5\0\r\n", Err(ChunkSize)),
        (b"0x0\r\n\r\n", Err(ChunkSize)),
        (b"-0\r\n\r\n", Err(ChunkSize)),
        (b"+0\r\n\r\n", Err(ChunkSize)),
        (b"\t5\r\nhello\r\n", Err(ChunkSize)),
        (b"5h\r\nhello\r\n", Err(ChunkSize)),
        (b"5.\r\nhello\r\n", Err(ChunkSize)),
        (b"\"5\"\r\nhello\r\n", Err(ChunkSize)),
        (b"\xd9\xa5\r\nhello\r\n", Err(ChunkSize)),
        (b"5\x0b\r\nhello\r\n", Err(ChunkSize)),
        (b"10000000000000005\r\nhello\r\n", Err(ChunkSize)),
        (b"5 5\r\nhello\r\n", Err(ChunkExtension)),
        (b"0 \r\n\r\n", Err(ChunkExtension)),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", Err(ChunkSize)),
        (b"5\n\r\nhello\r\n", Err(ChunkEnd)),
        (b"0\n\r\n", Err(ChunkEnd)),
        (b"5\r\nhello\r\r\n", Err(ChunkEnd)),
        (b"5\r\nhello\n\r\n", Err(ChunkEnd)),
        (b"5 \r\nhello\r\n", Err(ChunkExtension)),
        (b"5\t\r\nhello\r\n", Err(ChunkExtension)),
        (b"5\nhello\r\n0\r\n\r\n", Err(ChunkEnd)),
        (b"5\rhello\r\n0\r\n\r\n", Err(ChunkEnd)),
        (b"5\r\r\nhello\r\n", Err(ChunkEnd)),
        (b"5\r\nhello\n0\r\n\r\n", Err(ChunkEnd)),
        (b"5\r\nhello0\r\n\r\n", Err(ChunkEnd)),
        (b"5\r\nhello!!\r\n0\r\n\r\n", Err(ChunkEnd)),
        (b"5\r\nhell\r\n0\r\n\r\n", Err(ChunkEnd)),
        (b"5\r\nhello\r0\r\n", Err(ChunkEnd)),
        (b"5\r\nhello\r\n", Err(Truncated)),
        (b"5\r\nhel", Err(Truncated)),
        (b"0\r\n", Err(Truncated)),
    ] {
        let read = read(BodyLength::Chunked, input).map(|(data, _, _)| data);
        assert_eq!(read, expected.map(<[u8]>::to_vec), "{}", input.escape_ascii());
    }
}

#[test]
fn chunk_extensions() {
    for (extension, is_good) in [
        (&b";a"[..], true),
        (b";a=b", true),
        (b";a=b;c;d=e", true),
        (b" ; a = b ; c", true),
        (b"\t;\ta\t=\tb", true),
        (b";a=\"\"", true),
        (b";a=\"b c;\t\\\"\\\\\x80\" ;d", true),
        (b";", false),
        (b";;", false),
        (b";a;", false),
        (b";=b", false),
        (b";a=", false),
        (b";a=;b", false),
        (b";a ", false),
        (b";a=b ", false),
        (b";a b", false),
        (b";a=b c", false),
        (b";a==b", false),
        (b";a=\"b", false),
        (b";a=\"b\"c", false),
        (b";a=\"b\\", false),
        (b";a=\"\x01\"", false),
        (b";a=\"\\\x00\"", false),
        (b";a\0", false),
        (b";a\rb", false),
        (b";a\nb", false),
        (b";a=\"\n\"", false),
        (b";\x80", false),
        (b" a", false),
    ] {
        let input = [b"1", extension, b"\r\nx\r\n0\r\n\r\n"].concat();
        let result = read(BodyLength::Chunked, &input);
        assert_eq!(result.is_ok(), is_good, "{}: {result:?}", input.escape_ascii());
    }
    let sized = |length: usize| [b"1;", &b"a".repeat(length - 1)[..], b"\r\nx\r\n0\r\n\r\n"].concat();
    assert!(
        read(BodyLength::Chunked, &sized(257)).is_ok(),
        "the semicolon that ends the size is not counted"
    );
    assert_eq!(read(BodyLength::Chunked, &sized(258)), Err(BodyError::ChunkExtensionTooLong));
}

#[test]
fn trailer_sections() {
    for (lines, expected) in [
        (&b"Digest: x\r\n\r\nrest"[..], Ok(&["Digest"][..])),
        (b"A: 1\r\nB:\r\n\r\nrest", Ok(&["A", "B"])),
        (
            b"Host: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n",
            Err(BodyError::TrailersTooLong),
        ),
        (b"Content-Length: 9\r\nA: 1\r\n\r\nrest", Ok(&["A"])),
        (b"TRANSFER-ENCODING: chunked\r\n\r\nrest", Ok(&[])),
        (b"Host: b\r\nAuthorization: c\r\n\r\nrest", Ok(&[])),
        (b"X-Forwarded-For: b\r\nIf-Match: c\r\n\r\nrest", Ok(&[])),
        (b"X-FORWARDED_HOST: b\r\nX_Real_IP: c\r\n\r\nrest", Ok(&[])),
        (b"content_length: 9\r\nproxy: b\r\n\r\nrest", Ok(&[])),
        (b"Sec-WebSocket-Key: b\r\nVia: c\r\n\r\nrest", Ok(&[])),
        (b"X-HTTP-Method-Override: DELETE\r\n\r\nrest", Ok(&[])),
        (b"Securely: b\r\nX-Real: c\r\n\r\nrest", Ok(&["Securely", "X-Real"])),
        (b"A\0: 1\r\n\r\n", Err(BodyError::Trailer)),
        (b": 1\r\n\r\n", Err(BodyError::Trailer)),
        (b"A: 1\r2\r\n\r\n", Err(BodyError::Trailer)),
        (b"A: 1\r\n\r \n", Err(BodyError::Trailer)),
        (b"A : 1\r\n\r\n", Err(BodyError::Trailer)),
        (b"A\r\n\r\n", Err(BodyError::Trailer)),
        (b"A: 1\r\n 2\r\n\r\n", Err(BodyError::Trailer)),
        (b" A: 1\r\n\r\n", Err(BodyError::Trailer)),
        (b"A: 1\n\r\n", Err(BodyError::Trailer)),
        (b"A: 1\r\n\n", Err(BodyError::Trailer)),
        (b"\n", Err(BodyError::Trailer)),
        (b"A: \0\r\n\r\n", Err(BodyError::Trailer)),
        (b"A: 012345678901234567890123456789012345678901234567890", Err(BodyError::TrailersTooLong)),
    ] {
        let input = [b"0\r\n", lines].concat();
        let text = input.escape_ascii();
        match read(BodyLength::Chunked, &input) {
            Ok((_, names, rest)) => {
                assert_eq!(Ok(&names.iter().map(String::as_str).collect::<Vec<_>>()[..]), expected, "{text}");
                assert_eq!(rest, b"rest");
            }
            Err(error) => assert_eq!(Err(error), expected, "{text}"),
        }
    }
}

#[test]
fn bodies_of_known_length() {
    let (data, _, rest) = read(BodyLength::Length(5), b"helloGET").unwrap();
    assert_eq!((&data[..], rest), (&b"hello"[..], &b"GET"[..]));
    assert_eq!(read(BodyLength::Length(5), b"hell"), Err(BodyError::Truncated));
    let (data, _, rest) = read(BodyLength::Empty, b"GET").unwrap();
    assert_eq!((&data[..], rest), (&b""[..], &b"GET"[..]));

    let mut decoder = BodyDecoder::new(BodyLength::Length(5), &Limits::default());
    assert_eq!(decoder.remaining(), Some(5));
    decoder.decode(b"abc").unwrap();
    assert_eq!(decoder.remaining(), Some(2));
    assert_eq!(decoder.decode_end(b""), Err(BodyError::Truncated));
}

#[test]
fn a_body_up_to_the_close_ends_there() {
    let mut decoder = BodyDecoder::new(BodyLength::UntilClose, &Limits::default());
    assert_eq!(decoder.decode(b""), Ok(Decoded::More { at_least: 1 }));
    assert_eq!(decoder.decode_end(b"x"), Ok(Some((BodyPart::Data(b"x"), 1))));
    assert!(matches!(decoder.decode_end(b""), Ok(Some((BodyPart::End(_), 0)))));
    assert_eq!(decoder.decode_end(b""), Ok(None));
}

#[test]
fn a_chunk_that_is_whole_leaves_nothing_behind() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
    let decoded = decoder.decode(b"2\r\nab\r\n").unwrap();
    assert_eq!(decoded, Decoded::Frame { frame: BodyPart::Data(b"ab"), consumed: 7 });
}

#[test]
fn limits_can_be_as_large_as_numbers_get() {
    let limits = Limits {
        request_line: usize::MAX,
        field_line: usize::MAX,
        fields: usize::MAX,
        head: usize::MAX,
        chunk_extension: usize::MAX,
        trailers: usize::MAX,
    };
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &limits);
    let decoded = decoder.decode(b"0;a=b\r\nA: 1\r\n\r\n").unwrap().into_frame();
    assert!(matches!(decoded, Some((BodyPart::End(_), 15))));
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(super::RequestDecoder::new(limits).decode(head).unwrap().into_frame().is_some());
}
