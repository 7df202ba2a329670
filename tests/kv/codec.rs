//! The codec: a stream that is cut anywhere gives the same requests as the whole.

// Not all of it is used here.
#[path = "../../examples/kv/resp.rs"]
#[allow(dead_code)]
mod resp;

use campanile::{Codec, Decoded};

use resp::{Requests, RespError};

const MAX_LEN: usize = 64;

const STREAMS: &[&[u8]] = &[
    b"",
    b"*0\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$0\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$4\r\n\r\n\r\n\r\n$2\r\n*1\r\nPING\r\n",
    b"PING\r\n\nset a  b \r\n  \n*1\r\n$1\r\nx\r\nQUIT\r\n",
    b"PING",
    b"*1\r\n$4\r\nPIN",
    b"*2\r\n$30\r\n012345678901234567890123456789\r\n$30\r\n012345678901234567890123456789\r\n",
    b"*1\r\n$65\r\n",
    b"*11\r\n",
    b"*01\r\n$04\r\nPING\r\n",
    b"*\r\n",
    b"*1\n$1\na\n",
    b"*1\r\n$1\r\nab\r\n",
    b"*1\r\n$1\r\na\n\r",
    b"*99999999999999999999999\r\n",
];

type Seen = (Vec<Vec<Vec<u8>>>, Option<RespError>);

/// What comes of a stream of which more is shown at each of `cuts`, and how often the codec was asked.
fn read(stream: &[u8], cuts: impl IntoIterator<Item = usize>) -> (Seen, usize) {
    let (mut codec, mut at, mut seen, mut asked) = (Requests::new(MAX_LEN), 0, Vec::new(), 0);
    let mut wanted = 0;
    for cut in cuts.into_iter().chain([stream.len()]) {
        loop {
            if cut - at < wanted {
                break;
            }
            asked += 1;
            match codec.decode(&stream[at..cut]) {
                Ok(Decoded::Frame { frame, consumed }) => {
                    assert_eq!(frame.len(), frame.clone().count());
                    seen.push(frame.map(<[u8]>::to_vec).collect());
                    (at, wanted) = (at + consumed, 0);
                }
                Ok(Decoded::More { at_least }) => {
                    assert!(at_least > 0);
                    wanted = cut - at + at_least;
                }
                Err(error) => return ((seen, Some(error)), asked),
            }
        }
    }
    let end = codec.decode_end(&stream[at..]);
    ((seen, end.err()), asked)
}

#[test]
fn every_split_gives_the_same() {
    for stream in STREAMS {
        let (whole, _) = read(stream, []);
        for cut in 0..=stream.len() {
            assert_eq!(read(stream, [cut]).0, whole, "{} cut at {cut}", stream.escape_ascii());
        }
        assert_eq!(read(stream, 0..=stream.len()).0, whole, "{} byte by byte", stream.escape_ascii());
    }
}

#[test]
fn what_is_broken_anywhere_never_panics() {
    for stream in STREAMS {
        for at in 0..stream.len() {
            for byte in *b"*$\r\n09-x\0" {
                let mut broken = stream.to_vec();
                broken[at] = byte;
                let (whole, _) = read(&broken, []);
                assert_eq!(read(&broken, 0..=broken.len()).0, whole, "{}", broken.escape_ascii());
            }
        }
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let request = |len: usize| [format!("*1\r\n${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    // `*1\r\n$53\r\n` and CRLF are eleven bytes.
    assert_eq!(read(&request(53), []).0, (vec![vec![vec![b'x'; 53]]], None));
    assert_eq!(read(&request(54), []).0.1, Some(RespError::TooLong { max_len: MAX_LEN }));
    // Refused before it is sent.
    let error = Requests::new(MAX_LEN).decode(b"*1\r\n$54\r\n").err();
    assert_eq!(error, Some(RespError::TooLong { max_len: MAX_LEN }));
    let line = |len: usize| [&vec![b'x'; len][..], b"\n"].concat();
    assert_eq!(read(&line(4095), []).0, (vec![vec![vec![b'x'; 4095]]], None));
    assert_eq!(read(&line(4096), []).0.1, Some(RespError::Inline));
}

#[test]
fn a_long_argument_is_waited_for_once() {
    let stream = b"*1\r\n$40\r\n0123456789012345678901234567890123456789\r\n";
    let (seen, asked) = read(stream, 0..=stream.len());
    assert_eq!(seen.1, None);
    // A byte at a time as far as the length is not known, and then no more until it is whole.
    assert_eq!(
        asked,
        9 + 1 + 1 + 1,
        "the empty stream, each byte of the lengths, the request, what follows it"
    );
}
