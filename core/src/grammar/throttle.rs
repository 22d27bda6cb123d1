//! What follows the key in `EXPCACHE.THROTTLE`.

use super::syntax::{Arg, KEY, integer, text, with_block, with_integer};
use super::{Words, Writer, duration, each_option, is, number, once, write_amount, write_number};
use crate::limit::{Each, MAX_POLICIES, Policy};
use crate::{Error, Result, units};

/// `THROTTLE key POLICY count period [BURST n] [POLICY …] … [COST n]`
pub const THROTTLE: &[Arg] = &[KEY, POLICY.multiple(), with_integer("COST", "cost").optional()];

const POLICY: Arg =
    with_block("POLICY", "policy", &[integer("count"), text("period"), with_integer("BURST", "burst").optional()]);

/// `POLICY … [COST n]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThrottleOptions {
    /// They differ from each other.
    pub policies: Each<Policy>,
    /// How much the call counts.
    pub cost: Option<i64>,
}

impl ThrottleOptions {
    /// Reads all words that are left.
    pub fn parse<'a>(words: impl Words<'a> + Clone) -> Result<Self> {
        let mut words = words;
        let mut throttle = Self { policies: Each::new(), cost: None };
        each_option(&mut words, |word, _, words| match word {
            b"POLICY" => throttle.add(policy(words)?),
            b"COST" => once(&mut throttle.cost, cost(words.need()?)?),
            _ => Err(Error::Syntax),
        })?;
        if throttle.policies.is_empty() { Err(Error::Syntax) } else { Ok(throttle) }
    }

    fn add(&mut self, policy: Policy) -> Result<()> {
        if self.policies.contains(&policy) {
            return Err(Error::Syntax);
        }
        if self.policies.len() == MAX_POLICIES {
            return Err(Error::invalid("a key has at most 8 policies"));
        }
        self.policies.push(policy);
        Ok(())
    }

    /// Writes them as a client sends them.
    pub fn write(&self, to: Writer<'_>) {
        for policy in &self.policies {
            to(b"POLICY");
            write_number(to, policy.count());
            write_number(to, policy.period_ms());
            write_amount(to, "BURST", Some(policy.burst()));
        }
        write_amount(to, "COST", self.cost);
    }
}

/// `count period [BURST n]`
fn policy<'a>(words: &mut (impl Words<'a> + Clone)) -> Result<Policy> {
    let (count, period_ms) = (number(words.need()?)?, duration(words.need()?)?);
    let mut burst = None;
    if words.clone().next().is_some_and(|word| is(word, "BURST")) {
        words.next();
        burst = Some(number(words.need()?)?);
    }
    Policy::new(count, period_ms, burst)
}

fn cost(word: &[u8]) -> Result<i64> {
    units::parse_i64(word).map_err(|_| Error::NotAnInteger)
}
