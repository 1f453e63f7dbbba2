//! A feed-forward part of which each row uses only some experts.

use burn::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::{IndexingUpdateOp, Int, TensorData};

use super::{GatedMlp, Linear, Run, run};

/// Sparsely gated experts (Shazeer et al. 2017; Jiang et al. 2024): of each row's router probabilities the `chosen` largest,
/// scaled to a sum of 1, weigh the outputs of those experts. The others are not computed.
pub(crate) struct Experts {
    router: Linear,
    experts: Vec<GatedMlp>,
    chosen: usize,
}

impl Experts {
    /// # Panics
    /// If more are to be chosen than there are.
    pub(crate) fn new(router: Linear, experts: Vec<GatedMlp>, chosen: usize) -> Self {
        assert!(chosen <= experts.len());
        Self { router, experts, chosen }
    }

    /// Rows that chose the same expert are computed together, whatever sequence they are of. A row's sum is in the order of
    /// the experts, so its bits do not depend on the other rows.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`; returns the same
    pub(crate) fn forward(&self, run: Run<'_>, x: Tensor<2>) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let scores = self.router.forward(run, x.clone());
        let logits = scores.clone().into_data();
        let logits = logits.try_into_vec::<f32>().expect("all devices compute in f32");
        // Rows and weights of each expert.
        let mut uses: Vec<(Vec<usize>, Vec<f32>)> = vec![Default::default(); self.experts.len()];
        for (row, logits) in logits.chunks_exact(self.experts.len()).enumerate() {
            for (expert, weight) in choose(logits, self.chosen) {
                uses[expert].0.push(row);
                uses[expert].1.push(weight);
            }
        }
        let used = |(_, (rows, _)): &(usize, (Vec<usize>, Vec<f32>))| !rows.is_empty();
        let Some(pool) = run.pool() else {
            // The same weights by burn's operations, so that training follows them: of those not chosen nothing is left.
            let count = self.experts.len();
            let mut unchosen = vec![-1e30; rows * count];
            for (expert, (rows, _)) in uses.iter().enumerate() {
                rows.iter().for_each(|row| unchosen[row * count + expert] = 0.0);
            }
            let unchosen = Tensor::<2>::from_data(TensorData::new(unchosen, [rows, count]), &run.compute.device);
            let shares = softmax(scores + unchosen, 1);
            let mut out = x.zeros_like();
            for (index, (rows, _)) in uses.into_iter().enumerate().filter(used) {
                let (expert, count) = (&self.experts[index], rows.len());
                let rows: Vec<i64> = rows.into_iter().map(|row| row as i64).collect();
                let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &run.compute.device);
                let weights = shares.clone().select(0, rows.clone()).narrow(1, index, 1);
                let y = expert.forward(run, x.clone().select(0, rows.clone())) * weights;
                out = out.select_assign(0, rows, y, IndexingUpdateOp::Add);
            }
            return out;
        };
        let x = run::flex(x);
        let mut out = vec![0.0f32; rows * hidden];
        for (index, (rows, weights)) in uses.into_iter().enumerate().filter(used) {
            let expert = &self.experts[index];
            let mut gathered = Vec::with_capacity(rows.len() * hidden);
            rows.iter().for_each(|row| gathered.extend_from_slice(&run::values(&x)[row * hidden..][..hidden]));
            let y = run::flex(expert.forward(run, run::from_vec(pool, gathered, [rows.len(), hidden])));
            for ((row, weight), y) in rows.into_iter().zip(weights).zip(run::values(&y).chunks_exact(hidden)) {
                out[row * hidden..][..hidden].iter_mut().zip(y).for_each(|(out, y)| *out += weight * y);
            }
        }
        run::from_vec(pool, out, [rows, hidden])
    }
}

/// The `count` most likely experts and their probabilities, scaled to a sum of 1; of equals the earlier.
fn choose(logits: &[f32], count: usize) -> impl Iterator<Item = (usize, f32)> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut shares: Vec<(usize, f32)> = logits.iter().map(|logit| (logit - largest).exp()).enumerate().collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares.truncate(count);
    let total: f32 = shares.iter().map(|(_, share)| share).sum();
    shares.into_iter().map(move |(expert, share)| (expert, share / total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_likely_are_chosen_and_share_all_weight() {
        let (a, b) = (3f32.exp() / (3f32.exp() + 2f32.exp()), 2f32.exp() / (3f32.exp() + 2f32.exp()));
        let got: Vec<_> = choose(&[1.0, 3.0, -1.0, 2.0], 2).collect();
        assert_eq!([got[0].0, got[1].0], [1, 3]);
        assert!((got[0].1 - a).abs() < 1e-6 && (got[1].1 - b).abs() < 1e-6);
        assert_eq!(choose(&[0.5; 3], 1).collect::<Vec<_>>(), [(0, 1.0)]);
        assert_eq!(choose(&[1e4, -1e4], 2).collect::<Vec<_>>(), [(0, 1.0), (1, 0.0)]);
        // Nothing sensible can come out, but something must.
        assert_eq!(choose(&[f32::NAN, 1.0], 1).count(), 1);
    }
}
