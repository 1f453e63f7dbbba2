//! Parameters of a model that is trained, and what the optimizer has of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bedrock_core::Sealer;
use burn::tensor::Gradients;

use super::optimizer::{AdamW, Moments};
use super::trainer::Step;
use crate::encoder::host;
use crate::error::Error;
use crate::kernels::gradient::square_sum;
use crate::kernels::{Pool, Precision, dense};
use crate::layers::tape::Tape;
use crate::layers::{Adapter, Compute, Parameter, Parameters};
use crate::options::LoadOptions;

/// What steps of AdamW change, whatever the model is.
pub(super) struct Learner {
    pool: Arc<Pool>,
    /// The kernels that record, on devices that have some.
    tape: Option<Tape>,
    parameters: Vec<Parameter>,
    /// Number of the batch that is learnt from: see [`Parameters::batch`].
    batch: Arc<AtomicU64>,
    moments: Vec<Moments>,
    steps: u64,
    /// See [`Parameters::wholes`].
    wholes: BTreeMap<String, Vec<String>>,
    /// What is written goes through it.
    sealer: Option<Arc<dyn Sealer>>,
}

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner").field("parameters", &self.parameters).field("steps", &self.steps).finish()
    }
}

/// Where a model is loaded to be trained, whose layers put their parameters into `parameters`, and the threads that compute.
pub(super) fn training(
    options: &LoadOptions,
    adapter: Option<Adapter>,
    parameters: &Arc<Parameters>,
) -> (Compute, Arc<Pool>) {
    let plain = options.compute();
    let tape = plain.pool.clone().map(Tape::new);
    let pool = plain.pool.unwrap_or_else(|| Arc::new(Pool::new(options.threads)));
    let compute = Compute {
        device: plain.device.autodiff(),
        pool: None,
        activations: plain.activations,
        cache_type: plain.cache_type,
        adapter: adapter.map(Arc::new),
        adapters: plain.adapters,
        chosen: None,
        parameters: Some(parameters.clone()),
        cancel: plain.cancel,
        tape,
    };
    (compute, pool)
}

/// Whether there are products of that precision, where there are kernels or not.
///
/// # Errors
/// [`Error::InvalidParameter`].
pub(super) fn check_precision(precision: Precision, kernels: bool) -> Result<(), Error> {
    if precision == Precision::F32 || (kernels && dense::can(precision)) {
        return Ok(());
    }
    let expected = "f32: bf16 needs a processor with matrix tiles (AMX)".into();
    Err(Error::InvalidParameter { name: "precision", got: precision.to_string(), expected })
}

/// Moves gradients of parameters to their sums.
pub(super) fn take(parameters: &[Parameter], gradients: &mut Gradients) {
    for parameter in parameters {
        let Some(gradient) = parameter.leaf().grad_remove(gradients) else { continue };
        parameter.accumulate(|sums| {
            sums.iter_mut().zip(host(gradient)).for_each(|(sum, value)| *sum += value);
        });
    }
}

impl Learner {
    /// Of all parameters of a model that is loaded, which computes with `tape` if there is one.
    pub(super) fn new(pool: Arc<Pool>, tape: Option<Tape>, parameters: &Parameters, options: &LoadOptions) -> Self {
        let (wholes, batch) = (parameters.wholes(), parameters.batch().clone());
        let parameters = parameters.list();
        let moments = parameters.iter().map(|parameter| Moments::new(parameter.len())).collect();
        Self { pool, tape, parameters, batch, moments, steps: 0, wholes, sealer: options.sealer.clone() }
    }

    /// What everything that tells of data and weights is written through, and the base was read through, if anything.
    pub(super) fn sealer(&self) -> Option<&dyn Sealer> {
        self.sealer.as_deref()
    }

    /// Leaves out the parameters of these names, which stay as they are.
    pub(super) fn without(mut self, is_fixed: impl Fn(&str) -> bool) -> Self {
        self.parameters.retain(|parameter| !is_fixed(parameter.name()));
        self.moments = self.parameters.iter().map(|parameter| Moments::new(parameter.len())).collect();
        self
    }

    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// What a tensor of the checkpoint is made of: a parameter, or several one after another; nothing if it is not trained.
    pub(super) fn parts_of(&self, tensor: &str) -> Vec<&Parameter> {
        let named = |name: &str| self.parameters.iter().find(|parameter| parameter.name() == name);
        match self.wholes.get(tensor) {
            Some(parts) => parts.iter().filter_map(|part| named(part)).collect(),
            None => named(tensor).into_iter().collect(),
        }
    }

    /// Steps made so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// See [`Trainer::set_compact_moments`](super::Trainer::set_compact_moments).
    pub(super) fn set_compact_moments(&mut self, compact: bool) {
        let moments = std::mem::take(&mut self.moments);
        self.moments = moments.into_iter().map(|moments| moments.compacted(compact)).collect();
    }

    /// See [`Trainer::set_precision`](super::Trainer::set_precision).
    ///
    /// # Errors
    /// [`Error::InvalidParameter`].
    pub(super) fn set_precision(&mut self, precision: Precision) -> Result<(), Error> {
        check_precision(precision, self.tape.is_some())?;
        self.tape.iter().for_each(|tape| tape.set_precision(precision));
        Ok(())
    }

    /// What follows is learnt from, from item `first` of a batch on; none: it is not.
    pub(super) fn learn_from(&self, first: Option<usize>) {
        // Numbers that no other part of a batch has, in no step.
        self.batch.store(first.map_or(0, |first| ((self.steps + 1) << 24) + first as u64), Relaxed);
    }

    /// Makes a step of the gradients that were summed; forgets them if that is impossible, or if there was an error before.
    ///
    /// # Errors
    /// [`Error::Diverged`], and that of `loss`; nothing has changed then.
    pub(super) fn step(&mut self, loss: Result<f64, Error>, settings: &AdamW) -> Result<Step, Error> {
        let forget = || self.parameters.iter().for_each(Parameter::clear);
        let loss = loss.inspect_err(|_| forget())?;
        let square = |parameter: &Parameter| parameter.accumulate(|sums| square_sum(&self.pool, sums));
        let gradient_norm = self.parameters.iter().map(square).sum::<f64>().sqrt();
        if !gradient_norm.is_finite() {
            forget();
            return Err(Error::Diverged { loss, steps: self.steps });
        }
        let scale = settings.max_gradient_norm.map_or(1.0, |max| (max / (gradient_norm + 1e-6)).min(1.0));
        self.steps += 1;
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            parameter.update(|values, sums| moments.step(&self.pool, settings, self.steps, scale, values, sums));
        }
        Ok(Step { loss, gradient_norm })
    }

    /// [`Learner::step`] of a loss with something that was measured beside it.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub(super) fn step_of<T>(
        &mut self,
        measured: Result<(f64, T), Error>,
        settings: &AdamW,
    ) -> Result<(Step, T), Error> {
        let (loss, more) = match measured {
            Ok((loss, more)) => (Ok(loss), Some(more)),
            Err(error) => (Err(error), None),
        };
        let step = self.step(loss, settings)?;
        Ok((step, more.expect("there is no step without a loss")))
    }

    /// A loss that can be learnt from.
    ///
    /// # Errors
    /// [`Error::Diverged`]
    pub(super) fn finite(&self, loss: f64) -> Result<f64, Error> {
        if loss.is_finite() { Ok(loss) } else { Err(Error::Diverged { loss, steps: self.steps }) }
    }

    /// What the optimizer has of each parameter.
    pub(super) fn state(&self) -> impl Iterator<Item = (&Parameter, &Moments)> {
        self.parameters.iter().zip(&self.moments)
    }

    /// Goes back or forward to where so many steps had been made. `stored` gives the values of a parameter of a name and shape, and its two
    /// moments, as many.
    ///
    /// # Errors
    /// Those of `stored`. The learner cannot be used then.
    pub(super) fn restore(
        &mut self,
        steps: u64,
        mut stored: impl FnMut(&str, &[usize]) -> Result<[Vec<f32>; 3], Error>,
    ) -> Result<(), Error> {
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            let [values, mean, square] = stored(parameter.name(), parameter.shape())?;
            parameter.set(values);
            moments.set(mean, square);
        }
        self.steps = steps;
        Ok(())
    }
}
