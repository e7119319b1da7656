//! How long things took: a histogram whose memory does not grow with what is counted.

use std::{fmt::Write, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Significant digits of what is counted: a thousandth.
const DIGITS: u8 = 3;

/// A year, in microseconds.
const LONGEST: u64 = 31_536_000_000_000;

/// Columns of the longest bar.
const WIDTH: usize = 40;

/// Microseconds, counted.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Made with the first one.
    counts: Option<Histogram<u64>>,
    most: u64,
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST).min(LONGEST);
        if self.counts.is_none() {
            self.counts = Histogram::new(DIGITS).ok();
        }
        if let Some(counts) = &mut self.counts {
            // It grows as it must, and can hold the longest there is.
            let _ = counts.record(micros);
            self.most = self.most.max(micros);
        }
    }

    /// Adds those of another thread.
    pub fn merge(&mut self, other: Latencies) {
        self.most = self.most.max(other.most);
        match (&mut self.counts, other.counts) {
            (None, counts) => self.counts = counts,
            (Some(counts), Some(more)) => {
                let _ = counts.add(more);
            }
            (Some(_), None) => {}
        }
    }

    /// The smallest value that so large a share does not exceed.
    pub fn at(&self, share: f64) -> Option<u64> {
        self.counts.as_ref().map(|counts| counts.value_at_quantile(share).min(self.most))
    }

    /// Percentiles, or null where nothing was counted.
    pub fn report(&self) -> Value {
        let at = |share| self.at(share);
        match at(0.5) {
            None => Value::Null,
            Some(p50) => {
                json!({ "p50": p50, "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": self.most })
            }
        }
    }

    /// The same for a reader.
    pub fn line(&self) -> String {
        let Some(p50) = self.at(0.5) else { return "none".into() };
        let at = |share| show(self.at(share).unwrap_or_default());
        format!("p50 {}, p90 {}, p99 {}, p99.9 {}, max {}", show(p50), at(0.9), at(0.99), at(0.999), show(self.most))
    }

    /// How many there were up to each of 1, 2, 5, 10, 20, … microseconds and above the step before it, from the first to the
    /// last step that has any.
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        let Some(counts) = &self.counts else { return found };
        let mut limits = (0..).flat_map(|power| [1, 2, 5].map(|digit| 10_u64.saturating_pow(power) * digit));
        let mut limit = limits.next().unwrap_or(u64::MAX);
        for value in counts.iter_recorded() {
            while counts.lowest_equivalent(value.value_iterated_to()) > limit {
                limit = limits.next().unwrap_or(u64::MAX);
                if !found.is_empty() {
                    found.push((limit, 0));
                }
            }
            if found.is_empty() {
                found.push((limit, 0));
            }
            if let Some((_, count)) = found.last_mut() {
                *count += value.count_at_value();
            }
        }
        found
    }

    /// A line for each step, with a bar as long as its share.
    pub fn picture(&self) -> String {
        let steps = self.steps();
        let most = steps.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
        let all: u64 = steps.iter().map(|(_, count)| *count).sum();
        steps.iter().fold(String::new(), |mut text, (limit, count)| {
            let bar = "█".repeat(((*count as f64 / most as f64) * WIDTH as f64).ceil() as usize);
            let share = 100.0 * *count as f64 / all as f64;
            // Nothing can fail that writes to a string.
            let _ = writeln!(text, "  ≤ {:>7}  {bar:<WIDTH$} {count:>9} {share:>6.2} %", show(*limit));
            text
        })
    }
}

/// Microseconds for a reader.
fn show(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 if !micros.is_multiple_of(1_000) => format!("{:.1} ms", micros as f64 / 1e3),
        1_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ if !micros.is_multiple_of(1_000_000) => format!("{:.1} s", micros as f64 / 1e6),
        _ => format!("{} s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        micros.iter().for_each(|micros| latencies.add(Duration::from_micros(*micros)));
        latencies
    }

    #[test]
    fn percentiles_are_those_of_all_threads() {
        let mut all = of(&(1..=500).collect::<Vec<_>>());
        all.merge(Latencies::default());
        all.merge(of(&(501..=1000).collect::<Vec<_>>()));
        assert_eq!(all.report(), json!({ "p50": 500, "p90": 900, "p99": 990, "p999": 999, "max": 1000 }));
        assert_eq!(all.line(), "p50 500 µs, p90 900 µs, p99 990 µs, p99.9 999 µs, max 1 ms");
        let mut none = Latencies::default();
        assert_eq!((none.report(), none.line(), none.steps()), (Value::Null, "none".into(), vec![]));
        none.merge(of(&[3_000_001]));
        assert_eq!(none.report()["p50"], 3_000_001, "the longest is exact");
    }

    #[test]
    fn steps_are_those_that_have_any_and_what_lies_between() {
        assert_eq!(of(&[1, 2, 3, 5, 6]).steps(), [(1, 1), (2, 1), (5, 2), (10, 1)]);
        assert_eq!(of(&[100, 700, 700]).steps(), [(100, 1), (200, 0), (500, 0), (1000, 2)]);
        assert_eq!(of(&[50_000, 50_001]).steps(), [(50_000, 2)], "as exact as the digits are");
        let picture = of(&[100, 700, 700]).picture();
        let bars: Vec<usize> = picture.lines().map(|line| line.matches('█').count()).collect();
        assert_eq!(bars, [WIDTH / 2, 0, 0, WIDTH]);
        assert!(picture.contains("≤  100 µs") && picture.contains("66.67 %"), "{picture}");
    }
}
