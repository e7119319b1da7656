//! Chance that a seed repeats.

/// SplitMix64: any seed will do, also 0, and two that differ by one bit have nothing in common.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// At least 0 and below 1.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 53 bits are what a float holds exactly.
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_and_a_seed_repeats_them() {
        let shares = |seed| {
            let mut dice = Dice::new(seed);
            std::iter::repeat_with(move || dice.share()).take(1000).collect::<Vec<_>>()
        };
        let found = shares(7);
        assert!(found == shares(7) && found != shares(8));
        for tenth in 0..10 {
            let count = found.iter().filter(|share| (**share * 10.0) as u32 == tenth).count();
            assert!((60..140).contains(&count), "{count} of 1000 in tenth {tenth}");
        }
    }
}
