//! Runs of bytes of a kind, found many bytes at a time.

/// Which bytes of a text are of a kind, as bits.
pub(crate) struct Runs(Vec<u64>);

impl Runs {
    pub(crate) fn of(bytes: &[u8], is: impl Fn(&u8) -> bool) -> Self {
        let (whole, rest) = bytes.as_chunks::<64>();
        let mut runs = Vec::with_capacity(whole.len() + 1);
        let bits = |block: &[u8; 64]| {
            let marked: [u8; 64] = block.map(|byte| u8::from(is(&byte)));
            let (eights, _) = marked.as_chunks::<8>();
            // Eight bytes of 0 or 1 become eight bits.
            eights.iter().rev().fold(0u64, |bits, eight| {
                bits << 8 | u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56
            })
        };
        runs.extend(whole.iter().map(bits));
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        runs.push(bits(&last) & ((1 << rest.len()) - 1));
        Self(runs)
    }

    /// The first byte from `at` on that is none, or the end of the text.
    pub(crate) fn end(&self, at: usize) -> usize {
        let mut block = at / 64;
        let mut bits = !self.0[block] >> (at % 64) << (at % 64);
        while bits == 0 {
            block += 1;
            bits = self.0.get(block).map_or(0, |bits| !bits);
        }
        block * 64 + bits.trailing_zeros() as usize
    }

    /// Calls `visit` with the first byte of each of these runs and of those of `others`, and with each byte of `all` that is in neither, in order.
    pub(crate) fn landmarks(&self, others: &Self, all: &Self, mut visit: impl FnMut(usize)) {
        let (mut before, mut other_before) = (0, 0);
        for (block, ((own, other), all)) in self.0.iter().zip(&others.0).zip(&all.0).enumerate() {
            let starts = own & !(own << 1 | before) | other & !(other << 1 | other_before);
            (before, other_before) = (own >> 63, other >> 63);
            let mut places = starts | all & !(own | other);
            while places != 0 {
                visit(block * 64 + places.trailing_zeros() as usize);
                places &= places - 1;
            }
        }
    }

    /// The fourth byte of each run that is so long, and all behind it.
    pub(crate) fn fourths(&self) -> impl Iterator<Item = usize> + use<'_> {
        let mut before = 0;
        self.0.iter().enumerate().flat_map(move |(block, bits)| {
            let behind = |places: u32| bits << places | before >> (64 - places);
            let mut fourths = bits & behind(1) & behind(2) & behind(3);
            before = *bits;
            std::iter::from_fn(move || {
                let next = (fourths != 0).then(|| block * 64 + fourths.trailing_zeros() as usize);
                fourths &= fourths.wrapping_sub(1);
                next
            })
        })
    }

    /// The first byte of each run.
    pub(crate) fn starts(&self) -> impl Iterator<Item = usize> + use<'_> {
        let mut before = 0;
        self.0.iter().enumerate().flat_map(move |(block, bits)| {
            let mut starts = bits & !(bits << 1 | before);
            before = bits >> 63;
            std::iter::from_fn(move || {
                let next = (starts != 0).then(|| block * 64 + starts.trailing_zeros() as usize);
                starts &= starts.wrapping_sub(1);
                next
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_those_of_the_bytes(text in "[ab1 é]{0,150}", at in 0usize..150) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let runs = Runs::of(bytes, u8::is_ascii_alphabetic);
            let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            prop_assert_eq!(runs.end(at), at + length);
            let starts: Vec<usize> = runs.starts().collect();
            let mut landmarks = Vec::new();
            let digits = Runs::of(bytes, u8::is_ascii_digit);
            runs.landmarks(&digits, &Runs::of(bytes, |byte| *byte > b' '), |at| landmarks.push(at));
            let goes_on = |at: usize, is: fn(&u8) -> bool| at > 0 && is(&bytes[at - 1]) && is(&bytes[at]);
            let is_landmark = |at: &usize| bytes[*at] > b' ' && !goes_on(*at, u8::is_ascii_alphabetic) && !goes_on(*at, u8::is_ascii_digit);
            prop_assert_eq!(landmarks, (0..bytes.len()).filter(is_landmark).collect::<Vec<_>>());
            let is_start = |at: &usize| bytes[*at].is_ascii_alphabetic() && (*at == 0 || !bytes[*at - 1].is_ascii_alphabetic());
            let fourths: Vec<usize> = runs.fourths().collect();
            let is_fourth = |at: &usize| *at > 2 && bytes[*at - 3..=*at].iter().all(u8::is_ascii_alphabetic);
            prop_assert_eq!(fourths, (0..bytes.len()).filter(is_fourth).collect::<Vec<_>>());
            prop_assert_eq!(starts, (0..bytes.len()).filter(is_start).collect::<Vec<_>>());
        }
    }
}
