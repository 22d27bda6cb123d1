//! Ids: what a cookie holds, and the key that follows from it.

use std::fmt;
use std::fmt::Write as _;

use crate::error::{Error, Result};

/// Tokens of users are of so many bits, as slots of a cluster are.
const SLOT_BITS: u32 = 14;
const SLOT_DIGITS: usize = 4;
const RANDOM_DIGITS: usize = 32;

/// The id of a session: whoever knows it has the session. 128 random bits, behind a token of 14 bits that the sessions of a user have in
/// common, so that they are on one node of a cluster.
///
/// It prints as nothing: [`SessionId::cookie`] says it, and [`Sessions::logged`](super::Sessions::logged) is for logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId {
    slot: u16,
    random: u128,
}

impl SessionId {
    /// A new id, in the same slot as all others of a user.
    pub(super) fn of_user(user: &str) -> Result<Self> {
        Ok(Self { slot: slot_of(user), random: random()? })
    }

    /// A new id of nobody's.
    pub(super) fn of_nobody() -> Result<Self> {
        random().map(Self::whole)
    }

    /// A new id in the same slot.
    pub(super) fn beside(self) -> Result<Self> {
        Ok(Self { random: random()?, ..self })
    }

    /// The id that is made of 128 bits and nothing else: the first of them are its slot as well.
    pub(super) fn whole(random: u128) -> Self {
        Self { slot: u16::try_from(random >> (u128::BITS - SLOT_BITS)).unwrap_or(0), random }
    }

    /// What a cookie holds: 36 hexadecimal digits.
    pub fn cookie(&self) -> String {
        format!("{:04x}{:032x}", self.slot, self.random)
    }

    /// Reads a cookie. `None`: it is no id, and nobody need be asked.
    pub fn parse(cookie: impl AsRef<[u8]>) -> Option<Self> {
        let (slot, random) = cookie.as_ref().split_at_checked(SLOT_DIGITS)?;
        Self::of_digits(slot, random)
    }

    /// The key of its entry. The braces are a cluster's: what is between them is the key's slot.
    pub(super) fn key(&self, type_name: &str) -> String {
        format!("{type_name}:{{{:04x}}}:{:032x}", self.slot, self.random)
    }

    /// The key of a note where the session has gone.
    pub(super) fn moved_key(&self, type_name: &str) -> String {
        self.key(type_name) + ":moved"
    }

    /// The other way round of [`SessionId::key`].
    pub(super) fn of_key(key: &[u8], type_name: &str) -> Option<Self> {
        let rest = key.strip_prefix(type_name.as_bytes())?.strip_prefix(b":{")?;
        let (slot, rest) = rest.split_at_checked(SLOT_DIGITS)?;
        Self::of_digits(slot, rest.strip_prefix(b"}:")?)
    }

    /// One way to write it is the only one: else a session had many ids.
    fn of_digits(slot: &[u8], random: &[u8]) -> Option<Self> {
        if slot.len() != SLOT_DIGITS || random.len() != RANDOM_DIGITS {
            return None;
        }
        let slot = u16::try_from(hex(slot)?).ok().filter(|slot| slot >> SLOT_BITS == 0)?;
        Some(Self { slot, random: hex(random)? })
    }

    /// What the session is called where everybody may read it. It does not lead back to the id.
    pub(super) fn handle(&self) -> String {
        digest(&[b"handle", &self.random.to_be_bytes()])
    }

    /// For logs: as good as random to whoever does not know the salt.
    pub(super) fn salted(&self, salt: &[u8]) -> String {
        digest(&[salt, &self.random.to_be_bytes()])
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

/// The slot of a user's sessions, a token that does not lead back to the user.
pub(super) fn slot_of(user: &str) -> u16 {
    let digits = expcache_core::key::md5_hex(user.as_bytes());
    let number = digits.get(..SLOT_DIGITS).and_then(hex).unwrap_or(0);
    u16::try_from(number).unwrap_or(0) >> (u16::BITS - SLOT_BITS)
}

/// The number with that slot in its first bits.
#[cfg(feature = "tower-sessions")]
pub(super) fn with_slot(random: u128, slot: u16) -> u128 {
    random << SLOT_BITS >> SLOT_BITS | u128::from(slot) << (u128::BITS - SLOT_BITS)
}

/// 128 bits that nobody can guess, or none.
pub(super) fn random() -> Result<u128> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Error::Request(format!("the system has no randomness: {error}")))?;
    Ok(u128::from_be_bytes(bits))
}

/// 16 hexadecimal digits.
fn digest(parts: &[&[u8]]) -> String {
    let digits = expcache_core::key::md5_hex(&parts.concat());
    digits.iter().take(16).fold(String::new(), |mut text, digit| {
        let _ = text.write_char(char::from(*digit));
        text
    })
}

/// Lower-case digits only, no sign.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number.checked_mul(16)? + u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_written_in_one_way() {
        let id = SessionId::of_user("7").unwrap();
        assert_eq!(SessionId::parse(id.cookie()), Some(id));
        assert_eq!(SessionId::of_key(id.key("session").as_bytes(), "session"), Some(id));
        assert_eq!(id.cookie().len(), 36);
        let zero = SessionId { slot: 0x3fff, random: 0xab };
        assert_eq!(zero.cookie(), "3fff000000000000000000000000000000ab");
        assert_eq!(zero.key("session"), "session:{3fff}:000000000000000000000000000000ab");
        let text = zero.cookie();
        for wrong in [
            text.to_uppercase(),
            text.replacen('3', "4", 1),
            text.replacen('3', "+", 1),
            text.replacen("00", "-0", 1),
            text[1..].to_owned(),
            format!("{text}0"),
            format!("{text}\0"),
            format!(" {text}"),
            text.replacen('a', "*", 1),
            text.replacen('a', "}", 1),
            text.replacen("00", "é", 1),
            String::new(),
        ] {
            assert_eq!(SessionId::parse(&wrong), None, "{wrong}");
        }
        assert_eq!(SessionId::parse([0xff; 36]), None);
        assert_eq!(SessionId::of_key(b"session:{3fff}:ab", "session"), None);
        assert_eq!(SessionId::of_key(zero.moved_key("session").as_bytes(), "session"), None);
    }

    #[test]
    fn a_users_ids_share_a_slot_and_nothing_else() {
        let ids: HashSet<SessionId> = (0..100).map(|_| SessionId::of_user("7").unwrap()).collect();
        let slots: HashSet<u16> = ids.iter().map(|id| id.slot).collect();
        assert_eq!((ids.len(), slots.len()), (100, 1));
        let users: HashSet<u16> = (0..1000).map(|n| slot_of(&n.to_string())).collect();
        assert!(users.len() > 900 && users.iter().all(|slot| *slot < 1 << SLOT_BITS));
        let id = SessionId::of_user("7").unwrap();
        assert_eq!(id.beside().unwrap().slot, id.slot);
        assert_ne!(id.beside().unwrap(), id);
    }

    #[test]
    fn an_id_prints_as_nothing() {
        let id = SessionId::of_nobody().unwrap();
        let shown = format!("{id:?} {} {}", id.handle(), id.salted(b"salt"));
        assert!(!shown.contains(&id.cookie()[4..]) && !shown.contains(&id.cookie()[20..]));
        assert_ne!(id.salted(b"salt"), id.salted(b"other"));
        assert_eq!(id.salted(b"salt"), id.salted(b"salt"));
    }

    #[cfg(feature = "tower-sessions")]
    #[test]
    fn a_number_can_be_given_a_slot() {
        for random in [0, u128::MAX, random().unwrap()] {
            let number = with_slot(random, slot_of("7"));
            assert_eq!(SessionId::whole(number).slot, slot_of("7"));
            assert_eq!(number << SLOT_BITS, random << SLOT_BITS);
        }
    }
}
