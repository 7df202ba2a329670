//! A chunk line is the size of a chunk and its extensions, read byte by byte.

use super::error::BodyError;
use super::grammar::{is_token_byte, is_value_byte};

/// A chunk line that is being read (RFC 9112 7.1, 7.1.1).
#[derive(Debug, Clone)]
pub(super) struct ChunkLine {
    size: u64,
    digits: u8,
    extension: usize,
    place: Place,
}

/// What was read last, and so what may follow.
#[derive(Debug, Clone, Copy)]
enum Place {
    Size,
    /// White space that only an extension may follow.
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
    Cr,
}

impl ChunkLine {
    pub(super) fn new() -> Self {
        ChunkLine { size: 0, digits: 0, extension: 0, place: Place::Size }
    }

    /// Takes one byte of the line, and returns the size of the chunk after the last one.
    pub(super) fn push(&mut self, byte: u8, max_extension: usize) -> Result<Option<u64>, BodyError> {
        self.place = match (self.place, byte) {
            (Place::Cr, b'\n') => return Ok(Some(self.size)),
            (Place::Cr, _) | (_, b'\n') => return Err(BodyError::ChunkEnd),
            (Place::Size, _) => self.push_size(byte)?,
            (place, b'\r') => ends(place)?,
            (place, _) => {
                self.extension += 1;
                if self.extension > max_extension {
                    return Err(BodyError::ChunkExtensionTooLong);
                }
                next(place, byte).ok_or(BodyError::ChunkExtension)?
            }
        };
        Ok(None)
    }

    fn push_size(&mut self, byte: u8) -> Result<Place, BodyError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(BodyError::ChunkSize),
            b'\r' => return Ok(Place::Cr),
            b';' => return Ok(Place::BeforeName),
            b' ' | b'\t' => return Ok(Place::BeforeSemicolon),
            _ => return Err(BodyError::ChunkSize),
        };
        if self.digits == 16 {
            return Err(BodyError::ChunkSize);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(Place::Size)
    }
}

/// The line may end after a name or a value, with no white space between.
fn ends(place: Place) -> Result<Place, BodyError> {
    match place {
        Place::Name | Place::Token | Place::AfterQuoted => Ok(Place::Cr),
        _ => Err(BodyError::ChunkExtension),
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, one byte further.
fn next(place: Place, byte: u8) -> Option<Place> {
    let blank = matches!(byte, b' ' | b'\t');
    Some(match (place, byte) {
        (Place::BeforeSemicolon | Place::BeforeName | Place::AfterName | Place::BeforeValue, _) if blank => {
            place
        }
        (Place::Name, _) if blank => Place::AfterName,
        (Place::Token | Place::AfterQuoted, _) if blank => Place::BeforeSemicolon,
        (
            Place::BeforeSemicolon | Place::Name | Place::AfterName | Place::Token | Place::AfterQuoted,
            b';',
        ) => Place::BeforeName,
        (Place::Name | Place::AfterName, b'=') => Place::BeforeValue,
        (Place::BeforeName | Place::Name, _) if is_token_byte(byte) => Place::Name,
        (Place::BeforeValue | Place::Token, _) if is_token_byte(byte) => Place::Token,
        (Place::BeforeValue, b'"') => Place::Quoted,
        (Place::Quoted, b'"') => Place::AfterQuoted,
        (Place::Quoted, b'\\') => Place::Escaped,
        (Place::Quoted | Place::Escaped, _) if is_value_byte(byte) => Place::Quoted,
        _ => return None,
    })
}
