//! Digits are numbers as text, on the stack.

/// A number as ASCII digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    pub(super) fn decimal(value: u64) -> Self {
        Self::in_base::<10>(value)
    }

    pub(super) fn hexadecimal(value: u64) -> Self {
        Self::in_base::<16>(value)
    }

    /// 20 digits hold any 64 bits in base 10 and above.
    #[inline]
    fn in_base<const BASE: u64>(mut value: u64) -> Self {
        let mut text = [b'0'; 20];
        let mut start = text.len() - 1;
        loop {
            text[start] = b"0123456789abcdef"[(value % BASE) as usize];
            value /= BASE;
            if value == 0 {
                return Digits { text, start };
            }
            start -= 1;
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for value in [0, 1, 9, 10, 15, 16, 255, 4096, 99_999, u64::MAX - 1, u64::MAX] {
            assert_eq!(Digits::decimal(value).as_bytes(), std::format!("{value}").as_bytes());
            assert_eq!(Digits::hexadecimal(value).as_bytes(), std::format!("{value:x}").as_bytes());
        }
    }
}
