//! When the next action is due: a constant rate, whatever the server does.

use std::time::{Duration, Instant};

/// What an attack may be late and still make up for. More would be a burst that nobody asked for.
const SLACK: Duration = Duration::from_millis(100);

/// A constant rate of actions.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    rate: f64,
    done: u64,
    /// Actions after which nothing is due.
    most: u64,
    /// What could not be done in time is left out, instead of being made up for.
    skips: bool,
    skipped: u64,
}

impl Pace {
    /// `rate` actions a second from `start` on, each of which is due however late it is.
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate, done: 0, most: u64::MAX, skips: false, skipped: 0 }
    }

    /// It ends after `most` actions.
    pub fn up_to(self, most: u64) -> Self {
        Self { most, ..self }
    }

    /// It leaves out what could not be done in time.
    pub fn skipping(self) -> Self {
        Self { skips: true, ..self }
    }

    /// When the next action is due.
    pub fn next(&self) -> Option<Instant> {
        (self.done < self.most).then(|| self.start + Duration::from_secs_f64(self.done as f64 / self.rate))
    }

    /// The moment for which an action was due that is due now; it is counted as done.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next().filter(|due| *due <= now)?;
        self.done += 1;
        if self.skips && now - due > SLACK {
            let late = ((now - due).as_secs_f64() * self.rate) as u64;
            self.done += late;
            self.skipped += late;
        }
        Some(due)
    }

    /// All actions are done.
    pub fn is_over(&self) -> bool {
        self.done >= self.most
    }

    /// Actions that were done.
    pub fn acted(&self) -> u64 {
        self.done - self.skipped
    }

    /// Actions that were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_due_at_its_time_and_an_attack_skips_what_it_missed() {
        let start = Instant::now();
        let mut patient = Pace::new(start, 10.0).up_to(3);
        assert_eq!(patient.take(start), Some(start));
        assert_eq!(patient.take(start + Duration::from_millis(99)), None);
        let late = start + Duration::from_secs(9);
        assert_eq!(patient.take(late), Some(start + Duration::from_millis(100)));
        assert_eq!(patient.take(late), Some(start + Duration::from_millis(200)));
        assert!(patient.is_over() && patient.take(late).is_none());

        let mut hasty = Pace::new(start, 10.0).skipping();
        assert!(hasty.take(late).is_some());
        assert!(hasty.skipped() == 90 && hasty.acted() == 1);
        assert!(hasty.next().is_some_and(|next| next > late));
    }
}
