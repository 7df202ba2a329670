//! A layer in forty lines: XORed bytes in records, a handshake in which the server speaks first, a goodbye at the end.

use campanile::{Context, Flow, Inner, Layer, Output};

pub const HELLO: &[u8; 6] = b"tower?";
pub const ANSWER: &[u8; 5] = b"bells";
pub const KEYS: [u8; 4] = [0x5a, 0xa7, 0x13, 0xc4];

/// Two bytes that say how many follow, and these exchanged for others. The empty record is the goodbye.
pub struct Xor {
    key: u8,
    is_greeted: bool,
}

impl Xor {
    pub fn new(level: usize) -> Xor {
        Xor { key: KEYS[level], is_greeted: false }
    }
}

impl Layer for Xor {
    fn open(&mut self, cx: &mut Context<'_>, _: &mut Inner) {
        cx.output.write(HELLO).expect("there is room at the beginning");
    }

    fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow {
        if !self.is_greeted {
            let Some(answer) = cx.input.get(..ANSWER.len()) else { return Flow::More(1) };
            if answer != ANSWER {
                return Flow::Abort;
            }
            cx.input.consume(ANSWER.len());
            self.is_greeted = true;
            inner.open();
        }
        let Some((length, rest)) = cx.input.split_first_chunk() else { return Flow::More(1) };
        let length = usize::from(u16::from_be_bytes(*length));
        if rest.len() < length {
            return Flow::More(length - rest.len());
        }
        let record = &mut cx.input.consume(2 + length)[2..];
        record.iter_mut().for_each(|byte| *byte ^= self.key);
        match length {
            0 => inner.end_input(),
            _ => inner.give(record, cx),
        }
        Flow::More(1)
    }

    fn write(&mut self, chunk: &[u8], output: &mut Output<'_>) -> usize {
        let length = chunk.len().min(output.room().saturating_sub(2)).min(usize::from(u16::MAX));
        if length > 0 {
            output.write(&(length as u16).to_be_bytes()).expect("it was counted");
            output.spare().iter_mut().zip(&chunk[..length]).for_each(|(to, from)| *to = from ^ self.key);
            output.advance(length);
        }
        length
    }

    fn end(&mut self, output: &mut Output<'_>) -> bool {
        output.write(&[0, 0]).is_ok()
    }
}
