//! What a check found: the worst error and the first differences.

use std::error::Error as StdError;
use std::fmt;

use crate::error::Error;

/// Differences that are kept; a wrong model gives thousands.
const KEPT: usize = 8;

/// Why a check ended early.
pub(super) enum Stop {
    /// This version does not have what the case asks for.
    Unsupported(String),
    /// Something could not be read, loaded or computed.
    Failed(Box<dyn StdError + Send + Sync>),
    /// Something differs.
    Differs(Vec<String>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::UnsupportedArchitecture { found, .. } => Self::Unsupported(format!("models of type {found:?}")),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<bedrock_core::Error> for Stop {
    fn from(error: bedrock_core::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// How far a tensor may be from its reference.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tolerance {
    /// The largest difference, relative to the largest absolute value of the reference.
    Relative(f64),
    /// The largest difference.
    Absolute(f64),
}

/// Collects what was compared.
#[derive(Debug, Default)]
pub(super) struct Findings {
    compared: usize,
    different: usize,
    first: Vec<String>,
    worst: f64,
}

impl Findings {
    /// Compares what must be identical.
    pub(super) fn same<T: PartialEq + fmt::Debug + ?Sized>(&mut self, what: impl fmt::Display, got: &T, want: &T) {
        self.compared += 1;
        if got != want {
            self.differs(format!("{what} is {}, not {}", short(got), short(want)));
        }
    }

    /// Compares numbers, in the same order.
    pub(super) fn close(&mut self, what: impl fmt::Display, got: &[f32], want: &[f32], tolerance: Tolerance) {
        self.compared += 1;
        if got.len() != want.len() {
            self.worst = f64::INFINITY;
            return self.differs(format!("{what} has {} values, not {}", got.len(), want.len()));
        }
        let mut error = 0f64;
        let mut largest = 0f64;
        for (got, want) in got.iter().zip(want) {
            // Equal infinities (banned tokens) are no difference; NaN always is.
            let difference = if got == want { 0.0 } else { (f64::from(*got) - f64::from(*want)).abs() };
            error = if difference.is_nan() { f64::INFINITY } else { error.max(difference) };
            largest = largest.max(f64::from(want.abs()));
        }
        let relative = if error == 0.0 { 0.0 } else { error / largest };
        self.worst = self.worst.max(relative);
        let (error, limit, unit) = match tolerance {
            Tolerance::Relative(limit) => (relative, limit, "of the largest value"),
            Tolerance::Absolute(limit) => (error, limit, "absolutely"),
        };
        if error > limit {
            self.differs(format!("{what} is off by {error:.2e} {unit}, allowed are {limit:.0e}"));
        }
    }

    /// Compares rows of numbers as one tensor.
    pub(super) fn close_rows(
        &mut self,
        what: impl fmt::Display,
        got: &[Vec<f32>],
        want: &[Vec<f32>],
        tolerance: Tolerance,
    ) {
        self.close(what, &got.concat(), &want.concat(), tolerance);
    }

    /// Compares what was computed with less precision: the root mean square of the errors, relative to the largest
    /// absolute value of the reference, may be `limit`. Does not count towards the worst error.
    pub(super) fn close_on_average(&mut self, what: impl fmt::Display, got: &[f32], want: &[f32], limit: f64) {
        self.compared += 1;
        if got.len() != want.len() {
            return self.differs(format!("{what} has {} values, not {}", got.len(), want.len()));
        }
        let square = |(got, want): (&f32, &f32)| (f64::from(*got) - f64::from(*want)).powi(2);
        let error = (got.iter().zip(want).map(square).sum::<f64>() / got.len() as f64).sqrt();
        let error = error / want.iter().fold(0f64, |largest, want| largest.max(f64::from(want.abs())));
        if error.is_nan() || error > limit {
            self.differs(format!(
                "{what} is off by {error:.2e} of the largest value on average, allowed are {limit:.0e}"
            ));
        }
    }

    /// Notes the error of a comparison that has a measure of its own.
    pub(super) fn measured(&mut self, what: impl fmt::Display, error: f64, limit: f64) {
        self.compared += 1;
        let error = if error.is_nan() { f64::INFINITY } else { error };
        self.worst = self.worst.max(error);
        if error > limit {
            self.differs(format!("{what} is {error:.2e}, allowed are {limit:.2e}"));
        }
    }

    /// Notes a difference.
    pub(super) fn differs(&mut self, what: String) {
        self.different += 1;
        if self.first.len() < KEPT {
            self.first.push(what);
        }
    }

    pub(super) fn worst(&self) -> f64 {
        self.worst
    }

    /// The first differences, and how many more there were.
    pub(super) fn differences(&self) -> Vec<String> {
        let mut list = self.first.clone();
        if self.different > list.len() {
            list.push(format!("and {} differences more", self.different - list.len()));
        }
        list
    }

    /// An error if something differs, or if nothing was compared.
    pub(super) fn verdict(&self) -> Result<(), Stop> {
        match (self.different, self.compared) {
            (0, 0) => Err(Stop::Differs(vec!["the case has nothing to compare".into()])),
            (0, _) => Ok(()),
            _ => Err(Stop::Differs(self.differences())),
        }
    }
}

/// A value as text, cut to what is readable.
fn short<T: fmt::Debug + ?Sized>(value: &T) -> String {
    const MOST: usize = 160;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(got: &[f32], want: &[f32], tolerance: Tolerance) -> Findings {
        let mut findings = Findings::default();
        findings.close("it", got, want, tolerance);
        findings
    }

    #[test]
    fn errors_are_relative_to_the_largest_value() {
        let findings = of(&[10.0, 0.1], &[10.0, 0.0], Tolerance::Relative(0.02));
        assert!((findings.worst() - 0.01).abs() < 1e-9);
        assert!(findings.verdict().is_ok());
        assert!(of(&[10.0, 0.1], &[10.0, 0.0], Tolerance::Relative(0.009)).verdict().is_err());
        assert!(of(&[10.0, 0.1], &[10.0, 0.0], Tolerance::Absolute(0.11)).verdict().is_ok());
        assert!(of(&[10.0, 0.1], &[10.0, 0.0], Tolerance::Absolute(0.09)).verdict().is_err());
    }

    #[test]
    fn what_is_no_number_or_of_another_length_never_passes() {
        for got in [&[f32::NAN, 0.0][..], &[f32::INFINITY, 0.0], &[1.0], &[1.0, 0.0, 0.0], &[]] {
            let findings = of(got, &[1.0, 0.0], Tolerance::Relative(1e9));
            assert!(findings.verdict().is_err(), "{got:?}");
            assert_eq!(findings.worst(), f64::INFINITY, "{got:?}");
        }
        assert!(of(&[1e-30], &[0.0], Tolerance::Relative(1e-4)).verdict().is_err());
        assert!(of(&[0.0], &[0.0], Tolerance::Relative(1e-4)).verdict().is_ok());
    }

    #[test]
    fn averages_forgive_one_value_and_not_all() {
        let average = |got: &[f32], want: &[f32]| {
            let mut findings = Findings::default();
            findings.close_on_average("it", got, want, 0.01);
            findings.verdict().is_ok()
        };
        let want = [1.0f32; 100];
        let mut got = want;
        got[3] = 1.05;
        assert!(average(&got, &want));
        assert!(!average(&[1.05; 100], &want));
        assert!(!average(&[f32::NAN; 100], &want));
        assert!(!average(&want[1..], &want));
    }

    #[test]
    fn a_check_of_nothing_is_no_success() {
        assert!(Findings::default().verdict().is_err());
    }

    #[test]
    fn many_differences_are_counted_and_the_first_kept() {
        let mut findings = Findings::default();
        (0..20).for_each(|i| findings.same("number", &i, &-1));
        let list = findings.differences();
        assert_eq!(list.len(), KEPT + 1);
        assert_eq!(list[0], "number is 0, not -1");
        assert_eq!(list[KEPT], "and 12 differences more");
    }
}
