//! What training programs share: random numbers, folds of items, and the area that says how well scores tell items apart.

/// SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() >> 11) as usize % end
    }

    /// 0..1
    pub fn share(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// -1..1
    pub fn signed(&mut self) -> f32 {
        2.0 * self.share() - 1.0
    }

    /// True that share of the time.
    pub fn chance(&mut self, share: f32) -> bool {
        self.share() < share
    }
}

/// The fold of all items with this key, whatever its case.
pub fn fold(key: &str, folds: u64) -> u64 {
    let bytes = key.to_lowercase().into_bytes();
    let hash = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    ((hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % folds
}

/// Area under the receiver operating characteristic: of the pairs of a right and a wrong item, the share of which the right one scores higher; ties
/// count half.
pub fn area(mut scored: Vec<(f32, bool)>) -> f64 {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut yes, mut at) = (0.0, 0.0, 0);
    while at < scored.len() {
        let end = at + scored[at..].iter().take_while(|(score, _)| *score == scored[at].0).count();
        for (_, label) in &scored[at..end] {
            if *label {
                ranks += (at + end + 1) as f64 / 2.0;
                yes += 1.0;
            }
        }
        at = end;
    }
    (ranks - yes * (yes + 1.0) / 2.0) / (yes * (scored.len() as f64 - yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_is_the_share_of_pairs() {
        let mut random = Random(1);
        let scored: Vec<(f32, bool)> = (0..60).map(|_| (random.below(9) as f32 - 4.0, random.chance(0.4))).collect();
        let (mut right, mut pairs) = (0.0, 0.0);
        for (yes, _) in scored.iter().filter(|(_, label)| *label) {
            for (no, _) in scored.iter().filter(|(_, label)| !label) {
                right += if yes > no { 1.0 } else { f64::from(u8::from(yes == no)) / 2.0 };
                pairs += 1.0;
            }
        }
        assert!(pairs > 0.0 && (area(scored) - right / pairs).abs() < 1e-12);
    }
}
