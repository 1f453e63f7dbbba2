//! Adapters merged into their base.

use std::path::Path;

use super::model;
use crate::error::Error;
use crate::layers::Adapter;
use crate::weights::Checkpoint;

/// Writes a model in Hugging Face layout that answers as `base` does with `adapter`: its weights in single precision, the adapter's products
/// added, its other files those of the base.
///
/// # Errors
/// [`Error::ConfigValue`] if the base is no folder in Hugging Face layout or the adapter no plain LoRA, [`Error::TensorShape`] and
/// [`Error::UnusedTensors`] if the adapter is of another model; unreadable files; [`Error::Write`].
pub fn merge(base: impl AsRef<Path>, adapter: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<(), Error> {
    let base = base.as_ref();
    let adapter = Adapter::open(adapter.as_ref())?;
    let layout = model::Layout::of(base)?;
    model::check(base)?;
    let checkpoint = Checkpoint::open(base)?;
    model::write(
        output.as_ref(),
        base,
        &checkpoint,
        |stored| {
            let (Some(module), &[first, second]) = (stored.name.strip_suffix(".weight"), &stored.shape[..]) else {
                return Ok(None);
            };
            let transposed = layout.is_transposed(stored);
            let (rows, columns) = if transposed { (second, first) } else { (first, second) };
            let Some((a, b, r)) = adapter.factors(module, rows, columns)? else { return Ok(None) };
            let scale = adapter.scale(module, r);
            // Checked here, so that it cannot fail while the file is written.
            stored.to_f32()?;
            let stored = stored.clone();
            Ok(Some(Box::new(move || {
                let mut values = stored.to_f32().unwrap_or_default();
                for row in 0..rows {
                    for (inner, a) in a.chunks_exact(columns).enumerate() {
                        let b = scale * b[row * r + inner];
                        let at = |column| if transposed { column * rows + row } else { row * columns + column };
                        a.iter().enumerate().for_each(|(column, a)| values[at(column)] += b * a);
                    }
                }
                values
            })))
        },
        || adapter.finish(),
        |_| (),
    )
}
