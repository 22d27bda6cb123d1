//! What HTTP is told of a limit: the header fields of the IETF's draft *RateLimit header fields for HTTP*, `Retry-After`
//! ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)) and a problem
//! ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).

use std::time::Duration;

use super::{Named, Verdict};

/// The draft's type of problem.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

impl Verdict {
    /// The value of `RateLimit`: of each policy what is left, and in how many seconds it is full again, such as
    /// `"minute";r=9;t=6, "day";r=199;t=432`.
    pub fn rate_limit_header(&self) -> String {
        let quotas = self.policies.iter().zip(&self.throttled.policies);
        listed(
            quotas
                .map(|(policy, quota)| format!("\"{}\";r={};t={}", policy.name, quota.remaining, seconds(quota.reset))),
        )
    }

    /// The value of `RateLimit-Policy`: of each policy how many calls in how many seconds, such as `"minute";q=10;w=60`.
    pub fn rate_limit_policy_header(&self) -> String {
        listed(self.policies.iter().map(quota_policy))
    }

    /// The value of `Retry-After`, in seconds rounded up; none if the call is allowed, or never will be.
    pub fn retry_after_header(&self) -> Option<String> {
        let retry = self.throttled.tightest.retry.filter(|_| !self.throttled.allowed)?;
        Some(seconds(retry).to_string())
    }

    /// The body of a `429 Too Many Requests`, of the type `application/problem+json`.
    pub fn problem(&self) -> String {
        let quotas = self.policies.iter().zip(&self.throttled.policies);
        let violated: Vec<&str> =
            quotas.filter(|(_, quota)| quota.refuses()).map(|(policy, _)| policy.name.as_str()).collect();
        serde_json::json!({
            "type": QUOTA_EXCEEDED,
            "title": "Request cannot be satisfied as assigned quota has been exceeded",
            "status": 429,
            "violated-policies": violated,
        })
        .to_string()
    }
}

/// A window is told in whole seconds, or not at all.
fn quota_policy(policy: &Named) -> String {
    let (name, count, period) = (&policy.name, policy.rate.count(), policy.rate.period());
    match period.subsec_nanos() {
        0 => format!("\"{name}\";q={count};w={}", period.as_secs()),
        _ => format!("\"{name}\";q={count}"),
    }
}

fn listed(members: impl Iterator<Item = String>) -> String {
    members.collect::<Vec<_>>().join(", ")
}

/// Rounded up: who comes back then is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::sync::Arc;

    use super::*;
    use crate::command::{Quota, Rate, Throttled};

    fn quota(limit: u64, remaining: u64, retry_ms: Option<u64>, reset_ms: u64) -> Quota {
        let (retry, reset) = (retry_ms.map(Duration::from_millis), Duration::from_millis(reset_ms));
        Quota { limit, remaining, retry, reset }
    }

    fn verdict(minute: Quota, burst: Quota) -> Verdict {
        let policy = |name: &str, count, ms| Named {
            name: name.to_owned(),
            rate: Rate::new(count, Duration::from_millis(ms)).unwrap(),
        };
        let policies = Arc::new(vec![policy("minute", 100, 60_000), policy("burst", 5, 1500)]);
        let allowed = !minute.refuses() && !burst.refuses();
        let throttled = Throttled { allowed, tightest: burst, policy: 1, policies: vec![minute, burst] };
        Verdict { throttled, policies }
    }

    #[test]
    fn of_a_call_that_is_allowed() {
        let verdict = verdict(quota(100, 42, Some(0), 17_000), quota(5, 4, Some(0), 300));
        assert_eq!(verdict.rate_limit_header(), r#""minute";r=42;t=17, "burst";r=4;t=1"#);
        assert_eq!(verdict.rate_limit_policy_header(), r#""minute";q=100;w=60, "burst";q=5"#);
        assert_eq!(verdict.retry_after_header(), None);
    }

    #[test]
    fn of_a_call_that_is_refused() {
        for (retry_ms, header) in [(Some(1), Some("1")), (Some(1000), Some("1")), (Some(1001), Some("2")), (None, None)]
        {
            let verdict = verdict(quota(100, 42, Some(0), 17_001), quota(5, 0, retry_ms, 1500));
            assert_eq!(verdict.rate_limit_header(), r#""minute";r=42;t=18, "burst";r=0;t=2"#);
            assert_eq!(verdict.retry_after_header().as_deref(), header);
            let problem: serde_json::Value = serde_json::from_str(&verdict.problem()).unwrap();
            assert_eq!(
                (&problem["status"], &problem["violated-policies"]),
                (&429.into(), &serde_json::json!(["burst"]))
            );
        }
    }
}
