//! Protocol buffers' encoding, as far as proto2 messages need it.
//!
//! ```text
//! message  = { tag value }
//! tag      = varint: field number << 3 | wire type
//! value    = 0: varint | 1: 8 bytes | 2: varint length, bytes | 3: { tag value } 4: | 5: 4 bytes
//! varint   = 7 bits a byte, the least significant first, the top bit set in all but the last
//! ```

use super::error::Malformed;

const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;

/// One field's value, not yet of any type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    /// Text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Fixed-width numbers and groups: no message of Kubernetes has them.
    Foreign,
}

impl<'a> Payload<'a> {
    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Malformed::WireType),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::WireType),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotUtf8)
    }
}

/// Reads the fields of one message in the order in which they stand.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value; `None` at the end of the message.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let payload = match wire_type {
            3 => {
                self.skip_group()?;
                Payload::Foreign
            }
            4 => return Err(Malformed::EndOfGroup),
            other => self.value(other)?,
        };
        Ok(Some((number, payload)))
    }

    /// The last value of a field, which is the one that counts where it is given twice.
    pub(super) fn last(mut self, number: u32) -> Result<Option<Payload<'a>>, Malformed> {
        let mut found = None;
        while let Some((at, payload)) = self.field()? {
            if at == number {
                found = Some(payload);
            }
        }
        Ok(found)
    }

    /// A number from among packed ones; `None` after the last.
    pub(super) fn packed(&mut self) -> Result<Option<u64>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(Malformed::IllegalTag);
        }
        Ok((number as u32, (tag & 7) as u8))
    }

    fn value(&mut self, wire_type: u8) -> Result<Payload<'a>, Malformed> {
        match wire_type {
            0 => self.varint().map(Payload::Varint),
            1 => self.take(8).map(|_| Payload::Foreign),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Malformed::Truncated)?;
                self.take(length).map(Payload::Bytes)
            }
            5 => self.take(4).map(|_| Payload::Foreign),
            _ => Err(Malformed::IllegalTag),
        }
    }

    /// Counts groups within groups instead of recursing: their depth is the sender's choice.
    fn skip_group(&mut self) -> Result<(), Malformed> {
        let mut open = 1_usize;
        while open > 0 {
            match self.tag()?.1 {
                3 => open += 1,
                4 => open -= 1,
                other => {
                    self.value(other)?;
                }
            }
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Overflow);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Overflow)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Option<(u32, Payload<'_>)>, Malformed> {
        Reader::new(bytes).field()
    }

    #[test]
    fn a_number_has_at_most_64_bits() {
        let minus_one = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(matches!(first(&minus_one), Ok(Some((1, Payload::Varint(u64::MAX))))));
        let mut more = minus_one;
        more[10] = 2;
        assert_eq!(first(&more).unwrap_err(), Malformed::Overflow);
        more[10] = 0x81;
        assert_eq!(first(&more).unwrap_err(), Malformed::Overflow);
    }

    #[test]
    fn lengths_that_run_past_the_end_are_truncated() {
        assert_eq!(first(&[0x0a, 2, b'a']).unwrap_err(), Malformed::Truncated);
        assert_eq!(first(&[0x0a]).unwrap_err(), Malformed::Truncated);
        assert_eq!(first(&[0x09, 0, 0]).unwrap_err(), Malformed::Truncated);
        let huge = [0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(first(&huge).unwrap_err(), Malformed::Truncated);
    }

    #[test]
    fn field_number_zero_and_wire_types_6_and_7_are_illegal() {
        for tag in [0x00, 0x02, 0x0e, 0x0f] {
            assert_eq!(first(&[tag, 0]).unwrap_err(), Malformed::IllegalTag, "{tag:#x}");
        }
    }

    #[test]
    fn groups_are_skipped_however_deep_and_must_end() {
        let mut deep = vec![0x0b; 100_000];
        deep.extend(vec![0x0c; 100_000]);
        deep.extend([0x10, 7]);
        let mut reader = Reader::new(&deep);
        assert!(matches!(reader.field(), Ok(Some((1, Payload::Foreign)))));
        assert!(matches!(reader.field(), Ok(Some((2, Payload::Varint(7))))));
        assert_eq!(first(&deep[..100_001]).unwrap_err(), Malformed::Truncated);
        assert_eq!(first(&[0x0c]).unwrap_err(), Malformed::EndOfGroup);
    }
}
