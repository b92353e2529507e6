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
    Scanner::new(text, None)?.document().map(|_| ())
}

/// The elements of a JSON array, each as it is written there. What is no such array ends with an
/// error.
pub(crate) struct Elements<'a> {
    scanner: Scanner<'a>,
    text: &'a str,
    state: ElementsState,
}

enum ElementsState {
    Begun,
    Within,
    Ended,
}

impl<'a> Elements<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let scanner = Scanner { text: text.as_bytes(), at: 0, out: None };
        Self { scanner, text, state: ElementsState::Begun }
    }

    fn element(&mut self) -> Result<Option<&'a str>, InvalidPayload> {
        let scanner = &mut self.scanner;
        scanner.space();
        let more = match self.state {
            ElementsState::Ended => return Ok(None),
            ElementsState::Begun => {
                scanner.take(b'[')?;
                scanner.space();
                scanner.peek() != Some(b']')
            }
            ElementsState::Within => scanner.has_more(),
        };
        self.state = ElementsState::Within;
        if !more {
            scanner.take(b']')?;
            scanner.space();
            self.state = ElementsState::Ended;
            let ends = scanner.at == scanner.text.len();
            return if ends { Ok(None) } else { Err(scanner.not_json()) };
        }
        scanner.space();
        let start = scanner.at;
        scanner.value(0)?;
        Ok(Some(&self.text[start..scanner.at]))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a str, InvalidPayload>;

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.element().transpose();
        if matches!(element, Some(Err(_))) {
            self.state = ElementsState::Ended;
        }
        element
    }
}

/// A JSON array of strings. One function for all: each that serde makes for another length is code.
#[inline(never)]
pub(crate) fn json_of(strings: &[&str]) -> String {
    let mut json = String::from("[");
    for (index, string) in strings.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&json_string(string));
    }
    json.push(']');
    json
}

/// A string as JSON.
pub(crate) fn json_string(string: &str) -> String {
    serde_json::to_string(string).expect("a string can be written as JSON")
}

/// The strings of a JSON array of strings; `None` if the text is something else. To read it with serde_json
/// would bring all its numbers along, a third of the module.
pub(crate) fn strings_of(text: &str) -> Option<Vec<String>> {
    let canonical = Canonical { bytes: Vec::with_capacity(text.len()), members: Vec::new() };
    let canonical = Scanner::new(text, Some(canonical)).ok()?.document().ok()??.bytes;
    let mut rest = canonical.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut strings = Vec::new();
    while let Some(string) = rest.strip_prefix(b"s") {
        let (length, string) = string.split_first_chunk::<4>()?;
        let (string, after) = string.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        strings.push(String::from_utf8(string.to_vec()).ok()?);
        rest = after;
    }
    rest.is_empty().then_some(strings)
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
    let names = [&*stream.aggregate_type, &*stream.aggregate_id, command_type];
    let room = data.len() + data.len() / 2 + names.iter().map(|name| name.len() + 8).sum::<usize>();
    let mut canonical = Canonical { bytes: Vec::with_capacity(room), members: Vec::new() };
    for name in names {
        let place = canonical.open(b's');
        canonical.put(name.as_bytes());
        canonical.close(place);
    }
    let canonical = Scanner::new(data, Some(canonical))?.document()?;
    Ok(CommandHash::of(&canonical.expect("it was given").bytes))
}

/// The canonical form, as it is written: strings and numbers with their lengths before them, and
/// everything else as one character.
struct Canonical {
    bytes: Vec<u8>,
    /// The members so far of the objects that are open.
    members: Vec<Member>,
}

/// Where a member is in the canonical form.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key: usize,
    value: usize,
    end: usize,
}

impl Canonical {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Begins what has a length, and returns where it begins.
    fn open(&mut self, kind: u8) -> usize {
        self.put(&[kind, 0, 0, 0, 0]);
        self.bytes.len()
    }

    fn close(&mut self, start: usize) {
        // The longest payload is far below 2^32 bytes.
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }

    /// Sign, digits without zeros at either end, and the power of ten they are multiplied with: the
    /// same for every way to write a number. Every host writes a double with the fewest digits that
    /// name it, so the same double has the same digits.
    fn number(&mut self, negative: bool, whole: &[u8], fraction: &[u8], exponent: i64) {
        let start = self.open(b'n');
        self.put(if negative { b"-" } else { b"+" });
        let mut exponent = exponent - fraction.len() as i64;
        // JSON has a zero in front only where it is the whole part.
        for digit in whole.iter().chain(fraction) {
            if *digit != b'0' || self.bytes.len() > start + 1 {
                self.bytes.push(*digit);
            }
        }
        while self.bytes.len() > start + 1 && self.bytes.ends_with(b"0") {
            self.bytes.pop();
            exponent += 1;
        }
        if self.bytes.len() == start + 1 {
            self.bytes[start] = b'0';
        } else {
            self.put(&exponent.to_le_bytes());
        }
        self.close(start);
    }

    /// Sorts the members from index `first` on, the last object's, by their keys. Of members with one
    /// key the order stays, for it matters.
    fn end_object(&mut self, first: usize) {
        let Self { bytes, members } = self;
        let key_of = |member: &Member| &bytes[member.key..member.value];
        if !members[first..].is_sorted_by_key(key_of) {
            // A heap's code is an eighth of a sort's.
            let keyed = members[first..].iter().map(|m| (key_of(m), m.start, m.end));
            let sorted = keyed.collect::<BinaryHeap<_>>().into_sorted_vec();
            let places: Vec<_> = sorted.into_iter().map(|(_, start, end)| start..end).collect();
            let (start, end) = (members[first].start, bytes.len());
            for place in places {
                bytes.extend_from_within(place);
            }
            bytes.copy_within(end.., start);
            bytes.truncate(end);
        }
        members.truncate(first);
        bytes.push(b'}');
    }
}

/// Whether a double can't hold the number but as infinity.
fn is_infinite(whole: &[u8], fraction: &[u8], exponent: i64) -> bool {
    if exponent <= 0 && whole.len() < 309 {
        return false;
    }
    let mut digits = whole.iter().chain(fraction).skip_while(|digit| **digit == b'0').peekable();
    if digits.peek().is_none() {
        return false;
    }
    let zeros = whole.iter().chain(fraction).take_while(|digit| **digit == b'0').count();
    let before_point = whole.len() as i64 - zeros as i64 + exponent;
    let first = digits.chain(std::iter::repeat(&b'0')).take(INFINITY.len());
    before_point > 309 || (before_point == 309 && first.gt(INFINITY.iter()))
}

/// A JSON reader that builds nothing but the canonical form, if anybody wants it (RFC 8259).
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    out: Option<Canonical>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, out: Option<Canonical>) -> Result<Self, InvalidPayload> {
        if text.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidPayload::TooLarge { bytes: text.len(), limit: MAX_PAYLOAD_BYTES });
        }
        Ok(Self { text: text.as_bytes(), at: 0, out })
    }

    fn document(mut self) -> Result<Option<Canonical>, InvalidPayload> {
        self.value(0)?;
        self.space();
        if self.at < self.text.len() { Err(self.not_json()) } else { Ok(self.out) }
    }

    fn not_json(&self) -> InvalidPayload {
        InvalidPayload::NotJson { at: self.at }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn take(&mut self, expected: u8) -> Result<(), InvalidPayload> {
        if self.peek() == Some(expected) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.not_json())
        }
    }

    /// Whether a comma says that there is another item or member.
    fn has_more(&mut self) -> bool {
        self.space();
        let more = self.peek() == Some(b',');
        self.at += usize::from(more);
        more
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            out.put(bytes);
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), InvalidPayload> {
        self.space();
        match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                Err(InvalidPayload::TooDeep { limit: MAX_DEPTH })
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), InvalidPayload> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.not_json());
        }
        self.at += word.len();
        // Numbers and strings begin with other letters.
        self.put(&[word[0].to_ascii_uppercase()]);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), InvalidPayload> {
        self.at += 1;
        self.put(b"[");
        self.space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                if !self.has_more() {
                    break;
                }
            }
        }
        self.take(b']')?;
        self.put(b"]");
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), InvalidPayload> {
        self.at += 1;
        self.put(b"{");
        let first = self.out.as_ref().map_or(0, |out| out.members.len());
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                self.space();
                let start = self.written();
                let key = self.string()?;
                let value = self.written();
                self.space();
                self.take(b':')?;
                self.value(depth + 1)?;
                if let Some(out) = &mut self.out {
                    out.members.push(Member { start, key, value, end: out.bytes.len() });
                }
                if !self.has_more() {
                    break;
                }
            }
        }
        self.take(b'}')?;
        if let Some(out) = &mut self.out {
            out.end_object(first);
        }
        Ok(())
    }

    /// Length of the canonical form so far.
    fn written(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.bytes.len())
    }

    fn number(&mut self) -> Result<(), InvalidPayload> {
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
        if let Some(out) = &mut self.out {
            out.number(negative, whole, fraction, exponent);
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

    /// Reads a string; returns where its characters begin in the canonical form.
    fn string(&mut self) -> Result<usize, InvalidPayload> {
        self.take(b'"')?;
        let place = self.out.as_mut().map_or(0, |out| out.open(b's'));
        loop {
            let start = self.at;
            self.at += plain_bytes(&self.text[start..]);
            let text = self.text;
            self.put(&text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if let Some(out) = &mut self.out {
                        out.close(place);
                    }
                    return Ok(place);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    self.put(character.encode_utf8(&mut [0; 4]).as_bytes());
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

/// How many bytes there are before the first quotation mark, backslash or control character. Eight are
/// looked at together: subtracting from each byte borrows from the next only where one is found.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let (chunks, rest) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let bytes = u64::from_le_bytes(*chunk);
        let equal = |byte: u8| {
            let different = bytes ^ (ONES * u64::from(byte));
            different.wrapping_sub(ONES) & !different
        };
        let control = bytes.wrapping_sub(ONES * 0x20) & !bytes;
        let found = (equal(b'"') | equal(b'\\') | control) & TOPS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f));
    chunks.len() * 8 + plain.count()
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
    fn members_are_sorted_at_every_depth_and_the_last_of_one_key_stays_the_last() {
        let plain = hash(r#"{"a":{"x":[{"p":1,"q":"long enough to move"}],"y":2},"b":3,"bb":{}}"#);
        let same = r#"{"bb":{},"b":3,"a":{"y":2,"x":[{"q":"long enough to move","p":1}]}}"#;
        assert_eq!(plain, hash(same));
        assert_eq!(hash(r#"{"b":1,"a":2,"a":3}"#), hash(r#"{"a":2,"b":1,"a":3}"#));
        assert_ne!(hash(r#"{"b":1,"a":2,"a":3}"#), hash(r#"{"a":3,"b":1,"a":2}"#));
    }

    #[test]
    fn the_digest_is_what_stores_have() {
        let data = r#"{"doctor":"7","minutes":[30,-0.25,1e300],"urgent":true,"note":null}"#;
        assert_eq!(hash(data).to_string(), "9ce0771f-3e8c-880a-a905-40d1a989dae7");
    }

    #[test]
    fn what_ends_a_string_is_found_wherever_it_stands() {
        for before in 0..20 {
            let plain = "é".repeat(before / 2) + &"~".repeat(before % 2);
            for (end, at) in [("\"", None), ("\\n\"", None), ("\u{1f}", Some(plain.len() + 1))] {
                let text = format!("\"{plain}{end}");
                let expected = at.map_or(Ok(()), |at| Err(InvalidPayload::NotJson { at }));
                assert_eq!(check_payload(&text), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn a_digest_of_format_1_passes_for_that_of_any_command() {
        let (one, other) = (hash("[1]"), hash("[2]"));
        assert!(one.may_equal(one) && !one.may_equal(other));
        let old: CommandHash = "7960d2dd-0d47-5241-8565-4b159d05b463".parse().unwrap();
        assert!(old.may_equal(one) && other.may_equal(old));
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
        assert_ne!(hash("[true]"), hash(r#"["true"]"#));
        assert_ne!(hash("null"), hash("false"));
        assert_ne!(base, hash_command(&stream, "CancelAppointment", "[1,2]").unwrap());
        let other = StreamId::new("Appointment", "a-2");
        assert_ne!(base, hash_command(&other, "BookAppointment", "[1,2]").unwrap());
    }

    #[test]
    fn an_array_is_taken_apart_into_its_elements_as_they_are_written() {
        let elements = |text| Elements::of(text).collect::<Result<Vec<_>, _>>();
        let none: [&str; 0] = [];
        assert_eq!(elements(" [ ] ").unwrap(), none);
        let text = "[{\"a\": [1,\n2]},\n\"],[\" , 1.50,\n\n[]]\n";
        assert_eq!(elements(text).unwrap(), ["{\"a\": [1,\n2]}", "\"],[\"", "1.50", "[]"]);
        for broken in ["", "{}", "[1", "[1,]", "[1 2]", "[1]2", "[tru]"] {
            assert!(elements(broken).is_err(), "{broken}");
        }
        let mut broken = Elements::of("[1,{,2]");
        assert_eq!(broken.next(), Some(Ok("1")));
        assert_eq!(broken.next(), Some(Err(InvalidPayload::NotJson { at: 4 })));
        assert_eq!(broken.next(), None);
    }

    #[test]
    fn strings_of_an_array_are_read_as_they_were() {
        let strings = ["", "s", "a\"b\\c\n", "é😀\u{0}", "]"];
        let text = json_of(&strings);
        let strings = strings.map(String::from).to_vec();
        assert_eq!(text, serde_json::to_string(&strings).expect("it is JSON"));
        assert_eq!(json_of(&[]), "[]");
        assert_eq!(strings_of(&text), Some(strings));
        assert_eq!(strings_of(" [ \"a\" , \"\\u0041\" ] "), Some(vec!["a".into(), "A".into()]));
        assert_eq!(strings_of("[]"), Some(Vec::new()));
        for other in ["", "{}", "\"a\"", "[1]", "[\"a\",[\"b\"]]", "[\"a\"", "[null]", "[\"a\",{}]"]
        {
            assert_eq!(strings_of(other), None, "{other}");
        }
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
