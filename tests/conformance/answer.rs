//! Answers, read by a parser that forgives nothing: an answer has to be as well formed as a request.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::talk::Talk;

/// Stands in files that no request may reach.
pub const SECRET: &str = "the-secret-beside-the-root";

/// Fields that come once (RFC 9110 5.3, and the field's own section).
const SINGLE: [&str; 12] = [
    "content-length",
    "content-type",
    "content-range",
    "content-location",
    "date",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "server",
    "transfer-encoding",
    "accept-ranges",
];

/// What the request was decides how its answer ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method was HEAD.
    pub head: bool,
    /// The version was HTTP/1.0.
    pub old: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    Length,
    Chunked,
    UntilClose,
}

/// One answer, interim or final.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub framing: Framing,
    /// The body came to the end that its framing names.
    pub whole: bool,
    /// The connection ends after it.
    pub closes: bool,
}

impl Answer {
    /// Reads the next one; `None` when the connection ends before its first byte.
    pub fn read(talk: &mut Talk, asked: Asked) -> Result<Option<Answer>, String> {
        if talk.peek()?.is_none() {
            return Ok(None);
        }
        let status = status_line(&talk.line()?)?;
        let mut fields = Vec::new();
        loop {
            let line = talk.line()?;
            if line.is_empty() {
                break;
            }
            fields.push(field_line(&line)?);
        }
        let mut answer = Answer {
            status,
            fields,
            body: Vec::new(),
            framing: Framing::Nothing,
            whole: true,
            closes: false,
        };
        answer.check_head(asked, talk.began())?;
        answer.read_body(talk, asked)?;
        answer.check_body()?;
        Ok(Some(answer))
    }

    /// The value of a field, several joined by commas.
    pub fn field(&self, name: &str) -> Option<String> {
        let values = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether the list that a field holds has `element`.
    pub fn lists(&self, name: &str, element: &str) -> bool {
        let value = self.field(name).unwrap_or_default();
        value.split(',').any(|known| known.trim().eq_ignore_ascii_case(element))
    }

    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
    }

    /// What every head has to keep to, in a talk that began then.
    fn check_head(&mut self, asked: Asked, talk_began: u64) -> Result<(), String> {
        for name in SINGLE {
            if self.count(name) > 1 {
                return Err(format!("{name} comes {} times", self.count(name)));
            }
        }
        let (length, coding) = (self.field("content-length"), self.field("transfer-encoding"));
        let digits = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if length.as_ref().is_some_and(|length| !digits(length)) {
            return Err(format!("Content-Length: {length:?} (RFC 9110 8.6)"));
        }
        if length.is_some() && coding.is_some() {
            return Err("Content-Length and Transfer-Encoding in one answer (RFC 9112 6.2)".into());
        }
        let bodiless = self.status < 200 || self.status == 204;
        if bodiless && (length.is_some() || coding.is_some()) {
            return Err(format!("{} with a length or a coding (RFC 9110 8.6, RFC 9112 6.1)", self.status));
        }
        if coding.is_some() && asked.old {
            return Err("Transfer-Encoding to an HTTP/1.0 client (RFC 9112 6.1)".into());
        }
        if self.status == 304 && coding.is_some() {
            return Err("304 with Transfer-Encoding, which is no use to anybody (RFC 9112 6.1)".into());
        }
        if coding.as_ref().is_some_and(|coding| !coding.eq_ignore_ascii_case("chunked")) {
            return Err(format!("Transfer-Encoding: {coding:?} without TE (RFC 9112 6.1)"));
        }
        let needs = |name: &str| self.field(name).ok_or(format!("{} without {name}", self.status));
        match self.status {
            405 => drop(needs("allow")?),
            426 | 101 => drop(needs("upgrade")?),
            401 => drop(needs("www-authenticate")?),
            _ => {}
        }
        if self.status >= 200 {
            let date = needs("date")?;
            let told =
                imf_fixdate(&date).ok_or(format!("Date: {date:?} is no IMF-fixdate (RFC 9110 5.6.7)"))?;
            // It may have been written at any time since the talk began, which on a busy machine takes its time.
            if told > now() + 5 || told + 5 < talk_began {
                return Err(format!("Date: {date:?} is not now (RFC 9110 6.6.1)"));
            }
        }
        if let Some(modified) = self.field("last-modified") {
            imf_fixdate(&modified).ok_or(format!("Last-Modified: {modified:?} (RFC 9110 8.8.2)"))?;
        }
        if let Some(etag) = self.field("etag") {
            let opaque = etag.strip_prefix("W/").unwrap_or(&etag);
            let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            if inner.is_none_or(|inner| inner.contains(['"', ' '])) {
                return Err(format!("ETag: {etag} (RFC 9110 8.8.3)"));
            }
        }
        if self
            .field("location")
            .is_some_and(|to| ["//", "/\\", "\\"].iter().any(|start| to.starts_with(start)))
        {
            return Err("a redirect to wherever the request says".into());
        }
        if self.count("x-injected") > 0 {
            return Err("a request wrote a field of the answer".into());
        }
        let persists = self.lists("connection", "keep-alive");
        self.closes = self.lists("connection", "close") || asked.old && !persists;
        Ok(())
    }

    fn read_body(&mut self, talk: &mut Talk, asked: Asked) -> Result<(), String> {
        if self.status < 200 || matches!(self.status, 204 | 304) || asked.head {
            return Ok(());
        }
        if self.field("transfer-encoding").is_some() {
            self.framing = Framing::Chunked;
            self.whole = read_chunks(talk, &mut self.body)?;
        } else if let Some(length) = self.field("content-length") {
            self.framing = Framing::Length;
            let length = length.parse().map_err(|_| format!("Content-Length: {length}"))?;
            self.body = talk.take(length)?;
            self.whole = self.body.len() == length;
        } else {
            self.framing = Framing::UntilClose;
            self.closes = true;
            self.body = talk.take(usize::MAX)?;
        }
        Ok(())
    }

    fn check_body(&self) -> Result<(), String> {
        let has = |text: &str| self.body.windows(text.len()).any(|window| window == text.as_bytes());
        if self.body.len() < 10_000 && (has(SECRET) || has("root:x:0")) {
            return Err("it gave away what is not below the root".into());
        }
        Ok(())
    }
}

/// `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112 4).
fn status_line(line: &[u8]) -> Result<u16, String> {
    let shown = String::from_utf8_lossy(line).into_owned();
    let wrong = || format!("status line {shown:?} (RFC 9112 4)");
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, b' ', reason @ ..] = line else {
        return Err(wrong());
    };
    let good = |&byte: &u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    let code = [*a, *b, *c];
    if !reason.iter().all(good) || !code.iter().all(u8::is_ascii_digit) || !(b'1'..=b'5').contains(a) {
        return Err(wrong());
    }
    Ok(code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 5).
fn field_line(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let wrong = || format!("field line {:?} (RFC 9112 5)", String::from_utf8_lossy(line));
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let good = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if name.is_empty() || !name.iter().all(token) || !value.iter().all(good) {
        return Err(wrong());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// Chunks and trailers (RFC 9112 7.1); whether they came to their end.
/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn read_chunks(talk: &mut Talk, body: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        if talk.peek()?.is_none() {
            return Ok(false);
        }
        let line = String::from_utf8_lossy(&talk.line()?).into_owned();
        let digits = line.split(';').next().unwrap_or_default();
        let hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(digits, 16).ok().filter(|_| hex);
        let size = size.ok_or(format!("chunk size {line:?} (RFC 9112 7.1)"))?;
        if size == 0 {
            break;
        }
        let data = talk.take(size)?;
        let cut = data.len() < size;
        body.extend(data);
        if cut {
            return Ok(false);
        }
        let end = talk.take(2)?;
        if end != b"\r\n" {
            return Err(format!("a chunk ends in {end:?} (RFC 9112 7.1)"));
        }
    }
    loop {
        let line = talk.line()?;
        if line.is_empty() {
            return Ok(true);
        }
        field_line(&line)?;
    }
}

/// Seconds since 1970 of a date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7), weekday included.
pub fn imf_fixdate(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &str = "ThuFriSatSunMonTueWed";
    let template: Vec<u8> = text
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => b'0',
            b'a'..=b'z' | b'A'..=b'Z' => b'a',
            other => other,
        })
        .collect();
    if template != b"aaa, 00 aaa 0000 00:00:00 aaa" || !text.ends_with(" GMT") {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().ok();
    let (day, year) = (number(5..7)?, number(12..16)?);
    let (hour, minute, second) = (number(17..19)?, number(20..22)?, number(23..25)?);
    let month = MONTHS.find(&text[8..11]).filter(|at| at % 3 == 0)? as u64 / 3;
    if !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let days = years + lengths[..month as usize].iter().sum::<u64>() + day - 1;
    let weekday = &DAYS[(days % 7) as usize * 3..][..3];
    (text.starts_with(weekday)).then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}
