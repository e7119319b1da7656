//! When many files vanish at once it is more often an accident (an unmounted share, a publisher that empties before it
//! fills) than a wish. Then the last content is kept for a while. Pure: the time is an argument.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::look::Version;

/// What vanishes within this time counts together.
const WINDOW: Duration = Duration::from_secs(1);
/// For so long it is kept.
pub const HOLD: Duration = Duration::from_secs(5);

/// What has vanished lately, and what is held although it has.
#[derive(Default)]
pub struct Vanishing {
    recent: VecDeque<(Instant, String, Version)>,
    held: HashMap<String, Instant>,
}

/// What is to become of contents whose files are gone.
pub enum Fate {
    /// They go.
    Remove(Vec<String>),
    /// They stay for now.
    Hold {
        /// How many are held from now on.
        held: usize,
        /// Those that went a moment ago, before it was clear that there are so many.
        restore: Vec<(String, Version)>,
    },
}

impl Vanishing {
    /// Judges contents that are gone, of `published` that there are with them. A single file is always a wish.
    pub fn judge(&mut self, mut gone: Vec<String>, published: usize, now: Instant) -> Fate {
        self.forget(now);
        gone.retain(|content| !self.held.contains_key(content));
        let vanished = gone.len() + self.recent.len();
        if vanished < 2 || vanished * 2 <= published + self.recent.len() {
            return Fate::Remove(gone);
        }
        let restore: Vec<_> = self.recent.drain(..).map(|(_, content, version)| (content, version)).collect();
        for content in gone.into_iter().chain(restore.iter().map(|(content, _)| content.clone())) {
            self.held.insert(content, now + HOLD);
        }
        Fate::Hold { held: vanished, restore }
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }

    /// A content was removed at `now`.
    pub fn removed(&mut self, content: String, version: Version, now: Instant) {
        self.recent.push_back((now, content, version));
    }

    /// There is a file for it again.
    pub fn came_back(&mut self, content: &str) {
        self.held.remove(content);
        self.recent.retain(|(_, gone, _)| gone != content);
    }

    /// Contents that have been held for long enough.
    pub fn expired(&mut self, now: Instant) -> BTreeSet<String> {
        self.forget(now);
        self.held.extract_if(|_, until| *until <= now).map(|(content, _)| content).collect()
    }

    /// When the next of them has.
    pub fn next(&self) -> Option<Instant> {
        self.held.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Bodies, Entry};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn removes(vanishing: &mut Vanishing, gone: &[&str], published: usize, now: Instant) -> bool {
        match vanishing.judge(names(gone), published, now) {
            Fate::Remove(gone) => {
                for content in gone {
                    let entry = Arc::new(Entry::new("text/plain", 0, Bodies::default()));
                    vanishing.removed(content, Version::Entry(entry), now);
                }
                true
            }
            Fate::Hold { .. } => false,
        }
    }

    #[test]
    fn more_than_half_within_a_second_is_held() {
        let start = Instant::now();
        let mut vanishing = Vanishing::default();
        assert!(removes(&mut vanishing, &["a"], 1, start), "a single file");
        assert!(removes(&mut Vanishing::default(), &["a", "b"], 4, start), "half");
        let mut vanishing = Vanishing::default();
        assert!(!removes(&mut vanishing, &["a", "b", "c"], 4, start), "more than half");
        assert_eq!(vanishing.next(), Some(start + HOLD));
        vanishing.came_back("b");
        assert!(vanishing.expired(start + HOLD / 2).is_empty());
        assert_eq!(vanishing.expired(start + HOLD), names(&["a", "c"]).into_iter().collect());
    }

    #[test]
    fn what_went_a_moment_ago_is_restored() {
        let start = Instant::now();
        let mut vanishing = Vanishing::default();
        assert!(removes(&mut vanishing, &["a"], 4, start));
        assert!(removes(&mut vanishing, &["b"], 3, start));
        match vanishing.judge(names(&["c"]), 2, start + WINDOW / 2) {
            Fate::Hold { held, restore } => assert_eq!((held, restore.len()), (3, 2)),
            Fate::Remove(_) => panic!("three of four in half a second"),
        }
        let mut replaced = Vanishing::default();
        assert!(removes(&mut replaced, &["a"], 4, start));
        replaced.came_back("a");
        assert!(removes(&mut replaced, &["b"], 4, start));
        replaced.came_back("b");
        assert!(removes(&mut replaced, &["c"], 4, start), "what was made again has not vanished");
        let mut slow = Vanishing::default();
        assert!(removes(&mut slow, &["a"], 4, start));
        assert!(removes(&mut slow, &["b"], 3, start));
        assert!(removes(&mut slow, &["c"], 2, start + WINDOW * 2), "over a longer time it is a wish");
    }
}
