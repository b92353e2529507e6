//! Identifiers, and the one place that makes them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use crate::digest::sip_hash;
use crate::time::Timestamp;

/// The keys of command hashes, of event ids, and of what process managers give and set. They are part of the
/// stored format.
const HASH_KEY: u128 = 0x6a1c_9e52_7d0b_4f38_8a55_e0c3_41f2_9b6d;
const EVENT_KEY: u128 = 0x1d7a_f3c6_95e2_4b08_b9c4_6e21_d05f_837a;
pub(crate) const MANAGER_KEY: u128 = 0x8e25_40bd_c173_4f96_a80d_3b5e_f912_6c47;

/// The id of a command. Whoever gives the same id twice asks the same thing twice.
///
/// Made by the caller, or by the engine (UUID version 7) when the caller gives none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub Uuid);

/// The id of an event: it follows from the command's id and the event's place in the commit,
/// so a command that is decided again gives its events the same ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub Uuid);

/// The id of a timer that a process manager has set: it follows from what it was set for and its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub Uuid);

/// A digest of what a command asks: stream, type and data, not metadata.
///
/// It tells a repeated command from another command that reuses its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandHash(pub Uuid);

impl CommandId {
    /// Its text, which is made for every command: formatting traits would take several times as long.
    pub(crate) fn to_text(self) -> Arc<str> {
        self.to_string().into()
    }
}

impl EventId {
    /// The id of the event at `index` (from 0) of the commit made by `command`.
    #[must_use]
    pub fn derive(command: CommandId, index: u32) -> Self {
        let mut name = [0; 20];
        name[..16].copy_from_slice(command.0.as_bytes());
        name[16..].copy_from_slice(&index.to_be_bytes());
        Self(digest(EVENT_KEY, &name))
    }
}

impl CommandHash {
    /// The digest of `canonical`, the canonical form of a command.
    #[must_use]
    pub(crate) fn of(canonical: &[u8]) -> Self {
        Self(digest(HASH_KEY, canonical))
    }

    /// Whether it may be the digest of the same command as another. Stores of format 1 keep digests of
    /// another kind (UUIDs of version 5), which can't be compared: they pass for the same.
    #[must_use]
    pub fn may_equal(self, other: Self) -> bool {
        self == other || [self, other].iter().any(|hash| hash.0.get_version_num() == 5)
    }
}

/// A digest as a UUID of version 8.
pub(crate) fn digest(key: u128, bytes: &[u8]) -> Uuid {
    uuid::Builder::from_custom_bytes(sip_hash(key.to_be_bytes(), bytes)).into_uuid()
}

/// The text of a UUID, in lower case, four characters at a time: three are written for every command.
pub(crate) fn text_of(uuid: Uuid) -> [[u8; 4]; 9] {
    const HYPHEN: u64 = b'-' as u64;
    let number = uuid.as_u128();
    let a = digits_of((number >> 96) as u32);
    let b = digits_of((number >> 64) as u32);
    let c = digits_of((number >> 32) as u32);
    let d = digits_of(number as u32);
    [
        last_four(a >> 32),
        last_four(a),
        last_four(HYPHEN << 24 | b >> 40),
        last_four(b >> 8 & 0xff00_0000 | HYPHEN << 16 | b >> 16 & 0xffff),
        last_four(b << 16 | HYPHEN << 8 | c >> 56),
        last_four(c >> 24 & 0xffff_ff00 | HYPHEN),
        last_four(c),
        last_four(d >> 32),
        last_four(d),
    ]
}

#[inline(always)]
fn last_four(characters: u64) -> [u8; 4] {
    (characters as u32).to_be_bytes()
}

/// The eight digits of a word, each half byte in a byte of its own.
#[inline(always)]
fn digits_of(word: u32) -> u64 {
    let mut digits = u64::from(word);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    const GAP: u64 = (b'a' - b'9' - 1) as u64;
    digits + 0x3030_3030_3030_3030 + letters * GAP
}

macro_rules! uuid_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = text_of(self.0);
                f.write_str(std::str::from_utf8(text.as_flattened()).expect("digits and hyphens"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}
uuid_text!(CommandId, EventId, CommandHash, TimerId);

/// A seeded source of identifiers and of the jitter of back-offs (xoshiro256++ by Blackman and
/// Vigna, <https://prng.di.unimi.it>). The host gives the seed; the core has no randomness.
#[derive(Clone, Debug)]
pub(crate) struct IdSource {
    state: [u64; 4],
}

impl IdSource {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        }
        // The all-zero state is the generator's one fixed point.
        if state == [0; 4] {
            state[0] = 0x9e37_79b9_7f4a_7c15;
        }
        Self { state }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number from 0 up to, not including, `bound`. `bound` is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A UUID of version 7: it sorts by the time it was made at.
    pub(crate) fn command_id(&mut self, now: Timestamp) -> CommandId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        random[8..].copy_from_slice(&self.next_u64().to_le_bytes()[..2]);
        let millis = u64::try_from(now.millis()).unwrap_or(0);
        CommandId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_uuids_are() {
        for uuid in [0, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, 0x9a0f << 60] {
            let uuid = Uuid::from_u128(uuid);
            assert_eq!(CommandId(uuid).to_string(), uuid.to_string());
            assert_eq!(format!("{:?}", EventId(uuid)), format!("EventId({uuid})"));
        }
    }
}
