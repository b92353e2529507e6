//! Payload text: what may be stored, and the canonical form a command's digest is made of.
//!
//! Text is stored byte for byte and never written anew. What another host could not read back as
//! it was meant is refused: integers beyond 2^53, half surrogate pairs, bottomless nesting.

use std::collections::BinaryHeap;

use crate::error::InvalidPayload;
use crate::ids::CommandHash;
use crate::stream::StreamId;

/// The deepest nesting of a payload; serde_json reads no deeper by default.
pub const MAX_DEPTH: usize = 120;

/// The longest payload, in bytes of UTF-8.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// 2^53 - 1, the largest integer that JavaScript tells from its neighbours.
const MAX_SAFE_INTEGER: &[u8] = b"9007199254740991";

/// The first digits of the least number that is infinite as a double, of 309 digits before the point.
const INFINITY: &[u8] = b"17976931348623158079";

/// Checks that `text` is JSON that every host reads back as it was meant.
///
/// # Errors
/// [`InvalidPayload`] says what is wrong and where.
pub fn check_payload(text: &str) -> Result<(), InvalidPayload> {
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(InvalidPayload::TooLarge { bytes: text.len(), limit: MAX_PAYLOAD_BYTES });
    }
    Scanner { text: text.as_bytes(), at: 0 }.document(&mut Sink(None))
}

/// The digest of what a command asks. White space, the order of keys and the spelling of numbers
/// and strings don't matter, so hosts of different languages agree.
///
/// # Errors
/// If `data` is not a payload that can be stored.
pub(crate) fn hash_command(
    stream: &StreamId,
    command_type: &str,
    data: &str,
) -> Result<CommandHash, InvalidPayload> {
    if data.len() > MAX_PAYLOAD_BYTES {
        return Err(InvalidPayload::TooLarge { bytes: data.len(), limit: MAX_PAYLOAD_BYTES });
    }
    let mut canonical = Vec::with_capacity(data.len() + 64);
    for part in [&*stream.aggregate_type, &*stream.aggregate_id, command_type] {
        put_bytes(&mut canonical, b's', part.as_bytes());
    }
    Scanner { text: data.as_bytes(), at: 0 }.document(&mut Sink(Some(&mut canonical)))?;
    Ok(CommandHash::of(&canonical))
}

fn put_bytes(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Where the canonical form goes, if anybody wants it.
struct Sink<'a>(Option<&'a mut Vec<u8>>);

impl Sink<'_> {
    fn put(&mut self, kind: u8, bytes: &[u8]) {
        if let Some(out) = &mut self.0 {
            put_bytes(out, kind, bytes);
        }
    }
}

/// Whether a double can't hold the number but as infinity.
fn is_infinite(whole: &[u8], fraction: &[u8], exponent: i64) -> bool {
    let mut digits = whole.iter().chain(fraction).skip_while(|digit| **digit == b'0').peekable();
    if digits.peek().is_none() {
        return false;
    }
    let zeros = whole.iter().chain(fraction).take_while(|digit| **digit == b'0').count();
    let before_point = whole.len() as i64 - zeros as i64 + exponent;
    let first = digits.chain(std::iter::repeat(&b'0')).take(INFINITY.len());
    before_point > 309 || (before_point == 309 && first.gt(INFINITY.iter()))
}

/// Sign, digits without zeros at either end, and the power of ten they are multiplied with: the same
/// for every way to write a number. Every host writes a double with the fewest digits that name it,
/// so the same double has the same digits.
fn canonical_number(negative: bool, whole: &[u8], fraction: &[u8], exponent: i64) -> Vec<u8> {
    let mut digits = [whole, fraction].concat();
    let mut exponent = exponent - fraction.len() as i64;
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    if digits.len() == zeros {
        return b"0".to_vec();
    }
    let sign = if negative { b'-' } else { b'+' };
    [&[sign], &digits[zeros..], &exponent.to_be_bytes()].concat()
}

/// A JSON reader that builds nothing (RFC 8259).
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn document(mut self, sink: &mut Sink<'_>) -> Result<(), InvalidPayload> {
        self.value(sink, 0)?;
        self.space();
        if self.at < self.text.len() { Err(self.not_json()) } else { Ok(()) }
    }

    fn not_json(&self) -> InvalidPayload {
        InvalidPayload::NotJson { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, expected: &[u8]) -> Result<(), InvalidPayload> {
        if self.text[self.at..].starts_with(expected) {
            self.at += expected.len();
            Ok(())
        } else {
            Err(self.not_json())
        }
    }

    fn value(&mut self, sink: &mut Sink<'_>, depth: usize) -> Result<(), InvalidPayload> {
        self.space();
        match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                Err(InvalidPayload::TooDeep { limit: MAX_DEPTH })
            }
            Some(b'{') => self.object(sink, depth),
            Some(b'[') => self.array(sink, depth),
            Some(b'"') => {
                let text = self.string(sink.0.is_some())?;
                sink.put(b's', &text);
                Ok(())
            }
            Some(b't') => self.literal(sink, b"true"),
            Some(b'f') => self.literal(sink, b"false"),
            Some(b'n') => self.literal(sink, b"null"),
            _ => self.number(sink),
        }
    }

    fn literal(&mut self, sink: &mut Sink<'_>, word: &[u8]) -> Result<(), InvalidPayload> {
        self.take(word)?;
        sink.put(b'l', word);
        Ok(())
    }

    fn array(&mut self, sink: &mut Sink<'_>, depth: usize) -> Result<(), InvalidPayload> {
        self.take(b"[")?;
        sink.put(b'[', &[]);
        self.space();
        if self.peek() != Some(b']') {
            loop {
                self.value(sink, depth + 1)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.take(b"]")?;
        sink.put(b']', &[]);
        Ok(())
    }

    fn object(&mut self, sink: &mut Sink<'_>, depth: usize) -> Result<(), InvalidPayload> {
        self.take(b"{")?;
        let wanted = sink.0.is_some();
        let mut members: Vec<(Vec<u8>, usize, Vec<u8>)> = Vec::new();
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                self.space();
                let key = self.string(wanted)?;
                self.space();
                self.take(b":")?;
                let mut value = Vec::new();
                self.value(&mut Sink(wanted.then_some(&mut value)), depth + 1)?;
                if wanted {
                    members.push((key, members.len(), value));
                }
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.take(b"}")?;
        if let Some(out) = &mut sink.0 {
            put_bytes(out, b'{', &[]);
            // In order of keys, and those of one key as they came. A heap's code is an eighth of a sort's.
            for (key, _, value) in BinaryHeap::from(members).into_sorted_vec() {
                put_bytes(out, b's', &key);
                out.extend_from_slice(&value);
            }
            put_bytes(out, b'}', &[]);
        }
        Ok(())
    }

    fn number(&mut self, sink: &mut Sink<'_>) -> Result<(), InvalidPayload> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let whole = if self.peek() == Some(b'0') {
            self.at += 1;
            &self.text[self.at - 1..self.at]
        } else {
            self.digits()?
        };
        let mut fraction = &[][..];
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits()?;
        }
        let mut exponent = 0;
        let mut integer = fraction.is_empty();
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            let sign = self.peek();
            self.at += usize::from(matches!(sign, Some(b'+' | b'-')));
            // Beyond the exponents of a double it does not matter how far.
            exponent = self.digits()?.iter().fold(0, |value: i64, digit| {
                (value * 10 + i64::from(digit - b'0')).min(1_000_000_000)
            });
            if sign == Some(b'-') {
                exponent = -exponent;
            }
        }
        if integer && (whole.len(), whole) > (MAX_SAFE_INTEGER.len(), MAX_SAFE_INTEGER) {
            return Err(InvalidPayload::LargeInteger { at: start });
        }
        if is_infinite(whole, fraction, exponent) {
            return Err(InvalidPayload::OutOfRange { at: start });
        }
        if sink.0.is_some() {
            sink.put(b'n', &canonical_number(negative, whole, fraction, exponent));
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<&'a [u8], InvalidPayload> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.not_json()) } else { Ok(&self.text[start..self.at]) }
    }

    /// Reads a string; its characters are returned if they are `wanted`.
    fn string(&mut self, wanted: bool) -> Result<Vec<u8>, InvalidPayload> {
        self.take(b"\"")?;
        let mut characters = Vec::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            if wanted {
                characters.extend_from_slice(&self.text[start..self.at]);
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(characters);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    if wanted {
                        characters.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                _ => return Err(self.not_json()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, InvalidPayload> {
        let start = self.at;
        self.at += 2;
        Ok(match self.text.get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        let second = if self.text[self.at..].starts_with(b"\\u") {
                            self.at += 2;
                            self.hex4()?
                        } else {
                            0
                        };
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(InvalidPayload::LoneSurrogate { at: start });
                        }
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => first,
                };
                char::from_u32(code).ok_or(InvalidPayload::LoneSurrogate { at: start })?
            }
            _ => return Err(InvalidPayload::NotJson { at: start }),
        })
    }

    fn hex4(&mut self) -> Result<u32, InvalidPayload> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.not_json())?;
        let mut code = 0;
        for digit in digits {
            let value = char::from(*digit).to_digit(16).ok_or_else(|| self.not_json())?;
            code = code * 16 + value;
        }
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(data: &str) -> CommandHash {
        hash_command(&StreamId::new("Appointment", "a-1"), "BookAppointment", data).unwrap()
    }

    #[test]
    fn white_space_key_order_and_spelling_do_not_change_the_digest() {
        let plain = hash(r#"{"doctor":"7","minutes":30,"note":"é"}"#);
        assert_eq!(plain, hash("{ \"note\": \"\\u00e9\",\n \"minutes\": 3e1, \"doctor\":\"7\" }"));
        for same in [["-0", "0.0"], ["100", "1e2"], ["-1.50", "-15e-1"], ["0.001", "1e-3"]] {
            assert_eq!(hash(same[0]), hash(same[1]), "{same:?}");
        }
    }

    #[test]
    fn different_data_type_or_stream_change_the_digest() {
        let stream = StreamId::new("Appointment", "a-1");
        let base = hash("[1,2]");
        assert_ne!(base, hash("[12]"));
        assert_ne!(base, hash("[2,1]"));
        assert_ne!(base, hash("[1,20]"));
        assert_ne!(base, hash("[1,-2]"));
        assert_ne!(base, hash("[[1],2]"));
        assert_ne!(base, hash_command(&stream, "CancelAppointment", "[1,2]").unwrap());
        let other = StreamId::new("Appointment", "a-2");
        assert_ne!(base, hash_command(&other, "BookAppointment", "[1,2]").unwrap());
    }

    #[test]
    fn what_every_host_reads_back_is_accepted() {
        for text in [
            "null",
            " {} ",
            "[]",
            r#""""#,
            "[1.7976931348623157e308,0.00017e312,0e999,5e-324,1e-999]",
            r#"{"a":[1,-0,1.0,1e300,9007199254740991,{"b":"\ud83d\ude00\u0000\"\\\/"}]}"#,
            "\"emoji 😀 and \u{202e} marks\"",
        ] {
            assert_eq!(check_payload(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_would_not_come_back_is_refused_with_its_place() {
        use InvalidPayload::*;
        for (text, error) in [
            ("", NotJson { at: 0 }),
            ("{\"a\":1,}", NotJson { at: 7 }),
            ("[1 2]", NotJson { at: 3 }),
            ("01", NotJson { at: 1 }),
            ("1.", NotJson { at: 2 }),
            ("nul", NotJson { at: 0 }),
            ("\"\t\"", NotJson { at: 1 }),
            ("\"open", NotJson { at: 5 }),
            ("\"\\x\"", NotJson { at: 1 }),
            ("[9007199254740992]", LargeInteger { at: 1 }),
            ("-9007199254740993", LargeInteger { at: 0 }),
            ("[1e309]", OutOfRange { at: 1 }),
            ("-0.00018e312", OutOfRange { at: 0 }),
            (r#"["\ud800"]"#, LoneSurrogate { at: 2 }),
            (r#""\udc00\ud800""#, LoneSurrogate { at: 1 }),
            (r#""\ud800\u0041""#, LoneSurrogate { at: 1 }),
        ] {
            assert_eq!(check_payload(text), Err(error), "{text}");
        }
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert_eq!(check_payload(&deep), Err(TooDeep { limit: MAX_DEPTH }));
        let long = format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES));
        assert!(matches!(check_payload(&long), Err(TooLarge { .. })));
    }
}
