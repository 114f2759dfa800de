//! When and how long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};

/// How failed requests are tried again: exponential backoff with jitter, bounded in attempts and
/// in time. A registry's own `Retry-After` goes before the computed wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 5.
    pub attempts: u32,
    /// Wait after the first failure; doubles with each. Default 300 ms.
    pub first_wait: Duration,
    /// Longest computed wait. Default 15 s.
    pub longest_wait: Duration,
    /// No new attempt begins that would end its wait later than this after the first. Default 3 min.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(15),
            give_up_after: Duration::from_secs(180),
        }
    }
}

/// A running series of attempts.
#[derive(Debug)]
pub(crate) struct Series {
    policy: RetryPolicy,
    begun: Instant,
    attempts: u32,
    total: u32,
}

impl Series {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            begun: Instant::now(),
            attempts: 1,
            total: 1,
        }
    }

    /// There was progress: the next failure counts as the first one.
    pub(crate) fn reset(&mut self) {
        self.attempts = 1;
        self.begun = Instant::now();
    }

    /// Waits for the next attempt, or gives the error back when there is none.
    pub(crate) fn wait(&mut self, error: Error) -> Result<()> {
        let elapsed = self.begun.elapsed();
        let wait = error
            .retry_after()
            .unwrap_or_else(|| self.backoff())
            .max(Duration::from_millis(1));
        if !error.is_transient()
            || self.attempts >= self.policy.attempts
            || elapsed.saturating_add(wait) > self.policy.give_up_after
        {
            return Err(error.tried(self.total, elapsed));
        }
        tracing::debug!(attempt = self.attempts, ?wait, error = %error, "trying again");
        std::thread::sleep(wait);
        self.attempts += 1;
        self.total += 1;
        Ok(())
    }

    /// Doubles per attempt, and spreads over half of it so that many clients do not come at once.
    fn backoff(&self) -> Duration {
        let doubled = self
            .policy
            .first_wait
            .saturating_mul(1 << (self.attempts - 1).min(16))
            .min(self.policy.longest_wait);
        let random = RandomState::new().hash_one(self.attempts) % 1000;
        doubled / 2 + (doubled / 2).mul_f64(random as f64 / 1000.0)
    }
}

/// Runs `attempt` until it succeeds, fails for good, or the policy is exhausted.
pub(crate) fn run<T>(policy: &RetryPolicy, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut series = Series::new(policy.clone());
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => series.wait(error)?,
        }
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110 §10.2.3). A date in the past is no wait.
pub(crate) fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(retry_after: Option<Duration>) -> Error {
        Error::RateLimited {
            registry: "r".into(),
            retry_after,
            messages: vec![],
            attempts: 1,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(
            parse_retry_after(" 120 ", now),
            Some(Duration::from_secs(120))
        );
        assert_eq!(
            parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            parse_retry_after("Sat, 06 Nov 1993 08:49:47 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }

    #[test]
    fn attempts_and_time_are_bounded() {
        let policy = RetryPolicy {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let mut count = 0;
        let error = run::<()>(&policy, || {
            count += 1;
            Err(limited(None))
        })
        .unwrap_err();
        assert_eq!(count, 3);
        assert!(
            matches!(error, Error::RateLimited { attempts: 3, .. }),
            "{error}"
        );

        count = 0;
        let begun = Instant::now();
        let error = run::<()>(&policy, || {
            count += 1;
            Err(limited(Some(Duration::from_secs(100_000))))
        })
        .unwrap_err();
        assert_eq!(count, 1, "a wait longer than the limit is not begun");
        assert!(error.hint().unwrap().contains("100000 s"));
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
