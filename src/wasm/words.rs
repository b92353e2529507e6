//! A message is a list of 32-bit words and one text. A number beyond 32 bits takes two words, the
//! low one first. A string takes one word, its length, and its place in the text: strings are read
//! in the order they were written. Lengths count what their reader counts: UTF-16 units in what
//! JavaScript reads, bytes in what Rust reads.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::ids::text_of;

/// A message that is not what its tag says.
#[derive(Debug)]
pub(super) enum Malformed {
    /// It ends too early.
    Short,
    /// A tag has no meaning.
    Tag(u32),
    /// A text is not UTF-8, or a length cuts a character.
    Text,
    /// A text is not a UUID.
    Uuid(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the message ends too early"),
            Self::Tag(tag) => write!(f, "the message has an unknown tag {tag}"),
            Self::Text => f.write_str("the message's text is not whole UTF-8"),
            Self::Uuid(text) => write!(f, "expected a UUID, found {text:?}"),
        }
    }
}

pub(super) struct Reader<'a> {
    words: &'a [u32],
    text: &'a str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(words: &'a [u32], text: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self { words, text: std::str::from_utf8(text).map_err(|_| Malformed::Text)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(super) fn word(&mut self) -> Result<u32, Malformed> {
        let (word, rest) = self.words.split_first().ok_or(Malformed::Short)?;
        self.words = rest;
        Ok(*word)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.word()? != 0)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let low = self.word()?;
        Ok(u64::from(low) | u64::from(self.word()?) << 32)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        let length = self.word()? as usize;
        let (string, rest) = self.text.split_at_checked(length).ok_or(Malformed::Text)?;
        self.text = rest;
        Ok(string)
    }

    pub(super) fn string(&mut self) -> Result<Arc<str>, Malformed> {
        self.str().map(Into::into)
    }

    pub(super) fn uuid<T: std::str::FromStr>(&mut self) -> Result<T, Malformed> {
        let text = self.str()?;
        text.parse().map_err(|_| Malformed::Uuid(text.to_owned()))
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.word()? as usize;
        // Each item takes at least a word: a wrong count can't make us reserve the world.
        let mut items = Vec::with_capacity(count.min(self.words.len()));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) words: Vec<u32>,
    /// In UTF-8.
    pub(super) text: Vec<u8>,
}

impl Writer {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.text.clear();
    }

    pub(super) fn word(&mut self, word: u32) {
        self.words.push(word);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.words.push(flag.into());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.words.push(u32::try_from(count).expect("a message has fewer than 2^32 items"));
    }

    pub(super) fn number(&mut self, number: u64) {
        self.words.push(number as u32);
        self.words.push((number >> 32) as u32);
    }

    pub(super) fn str(&mut self, string: &str) {
        let units = if string.is_ascii() { string.len() } else { string.encode_utf16().count() };
        self.count(units);
        self.text.extend_from_slice(string.as_bytes());
    }

    pub(super) fn uuid(&mut self, uuid: Uuid) {
        let text = text_of(uuid);
        let text = text.as_flattened();
        self.word(text.len() as u32);
        self.text.extend_from_slice(text);
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }
}
