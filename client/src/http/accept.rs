//! `Accept-Encoding`: which of an entry's representations a client takes ([RFC 9110, 12.5.3]).
//!
//! Two codings can be handed out as the server keeps them: `gzip` and `zstd`. LZ4 is none of HTTP's.
//!
//! [RFC 9110, 12.5.3]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3

use expcache_core::codec::Encoding;

const CODINGS: [Encoding; 2] = [Encoding::Zstd, Encoding::Gzip];

/// What was said of each coding, in thousandths; the first word on each counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Accepted(Vec<(String, u16)>);

impl Accepted {
    pub(super) fn parse(value: &str) -> Self {
        Self(value.split(',').filter_map(member).collect())
    }

    /// Whether the payload itself will do.
    pub(super) fn takes_identity(&self) -> bool {
        self.weight("identity") != Some(0)
    }

    pub(super) fn takes(&self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::Identity => self.takes_identity(),
            other => CODINGS.contains(&other) && self.weight(other.name()).is_some_and(|weight| weight > 0),
        }
    }

    /// The codings that are taken at least as gladly as the payload itself, the dearest first.
    pub(super) fn codings(&self) -> Vec<Encoding> {
        // Of a payload that is not mentioned nothing is known but that it will do.
        let least = self.explicit("identity").unwrap_or(0).max(1);
        let weight = |encoding: &Encoding| self.weight(encoding.name()).unwrap_or(0);
        let mut codings: Vec<Encoding> = CODINGS.into_iter().filter(|encoding| weight(encoding) >= least).collect();
        codings.sort_by_key(|encoding| std::cmp::Reverse(weight(encoding)));
        codings
    }

    fn weight(&self, coding: &str) -> Option<u16> {
        self.explicit(coding).or_else(|| self.explicit("*"))
    }

    fn explicit(&self, coding: &str) -> Option<u16> {
        self.0.iter().find(|(name, _)| name == coding).map(|(_, weight)| *weight)
    }
}

/// `gzip;q=0.5`. What is no member is as not said.
fn member(member: &str) -> Option<(String, u16)> {
    let (name, parameter) = member.split_once(';').unwrap_or((member, "q=1"));
    let (q, weight) = parameter.trim().split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let name = if name == "x-gzip" { "gzip".to_owned() } else { name };
    (q.eq_ignore_ascii_case("q") && !name.is_empty()).then_some((name, thousandths(weight)?))
}

/// `0`, `1`, and up to three digits between.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(whole, "0" | "1") {
        return None;
    }
    let value: u16 = format!("{whole}{part:0<3}").parse().ok()?;
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encoding::{Gzip, Identity, Lz4, Zstd};

    #[test]
    fn codings_and_the_payload_itself() {
        for (value, codings, identity) in [
            ("", vec![], true),
            ("gzip, deflate, br, zstd", vec![Zstd, Gzip], true),
            ("GZIP", vec![Gzip], true),
            ("x-gzip", vec![Gzip], true),
            ("lz4", vec![], true),
            ("*", vec![Zstd, Gzip], true),
            ("gzip;q=0", vec![], true),
            ("gzip;q=0, *", vec![Zstd], true),
            ("zstd;q=0.5, gzip;q=0.501", vec![Gzip, Zstd], true),
            ("gzip;q=0.5, identity", vec![], true),
            ("gzip ; Q=0.5 , identity;q=0.5", vec![Gzip], true),
            ("gzip, identity;q=0", vec![Gzip], false),
            ("gzip, *;q=0", vec![Gzip], false),
            ("identity, *;q=0", vec![], true),
            ("*;q=0", vec![], false),
            ("gzip;q=2, zstd;q=1.001, gzip;level=9, ;q=1", vec![], true),
        ] {
            let accepted = Accepted::parse(value);
            assert_eq!((accepted.codings(), accepted.takes_identity()), (codings, identity), "{value}");
        }
    }

    #[test]
    fn what_is_taken_less_gladly_is_taken_all_the_same() {
        let accepted = Accepted::parse("gzip;q=0.1, identity;q=0.9");
        assert!(accepted.takes(Gzip) && accepted.takes(Identity));
        assert!(!accepted.takes(Zstd) && !Accepted::parse("lz4").takes(Lz4));
    }
}
