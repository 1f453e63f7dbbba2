//! Time, chance and how long to wait before trying again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bedrock_core::BoxFuture;

/// What time it is, and how to wait.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now: signatures carry it, and a server may name the time at which to come back.
    fn now(&self) -> SystemTime;

    /// Waits before another attempt. Polled on the crate's own tokio runtime.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// A random number from 0 to 1, so that callers who were turned away together do not come back together.
    fn random(&self) -> f64;
}

/// The system's clock and chance.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn random(&self) -> f64 {
        RandomState::new().hash_one(0_u8) as f64 / u64::MAX as f64
    }
}

/// The wait that a server asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.
pub(super) fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    if let Some(ms) = header("retry-after-ms").and_then(number) {
        return Duration::try_from_secs_f64(ms / 1e3).ok();
    }
    let value = header("retry-after")?;
    match number(value) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => {
            let until = UNIX_EPOCH.checked_add(Duration::from_secs(date(value)?))?;
            Some(until.duration_since(now).unwrap_or_default())
        }
    }
}

/// Seconds from 1970 to a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, text) = text.trim().split_once(", ")?;
    let mut parts = text.split(' ');
    let day: u64 = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut time = parts.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    if parts.next() != Some("GMT") || !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// The date and time of `now` in UTC, as signatures write them: `20150830T123600Z`.
pub(super) fn stamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, value: &'static str) -> Option<Duration> {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        retry_after(move |header| (header == name).then_some(value), now)
    }

    #[test]
    fn a_server_may_ask_in_three_ways() {
        assert_eq!(asked("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(asked("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(asked("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(asked("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "inf", "1e300", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 0 Nov 0 0:0:0 GMT"] {
            assert_eq!(asked("retry-after", nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn dates_are_read_and_written() {
        for (seconds, text) in
            [(0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (1_440_938_160, "20150830T123600Z")]
        {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1));
    }

    #[test]
    fn chance_is_between_0_and_1() {
        assert!((0..100).all(|_| (0.0..=1.0).contains(&SystemClock.random())));
    }
}
