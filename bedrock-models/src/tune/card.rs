//! What a result says about itself: a model card, and its losses as a picture.

use std::fmt::Write;
use std::path::Path;

use super::data::CustomizationType;
use super::event::{JobEvent, Trained};
use super::job::{CustomizationConfig, Job, JobMethod};
use super::metrics::Measure;
use super::record::Losses;
use super::stored::replace;
use crate::error::Error;
use crate::language_model::name_of;

/// Points of a line; more are averaged.
const POINTS: usize = 600;
/// Of the picture, in pixels; its margin has the labels.
const SIZE: [f64; 2] = [800.0, 400.0];
const MARGIN: f64 = 50.0;

/// What a card is made of.
pub(super) struct Card<'a> {
    pub(super) job: &'a Job,
    /// What was read: [`JobEvent::Started`].
    pub(super) started: &'a JobEvent,
    pub(super) trained: &'a Trained,
    pub(super) losses: &'a Losses,
    /// Hashes of the training file and of the validation files.
    pub(super) training_data: &'a str,
    pub(super) validation_data: &'a [String],
}

impl Card<'_> {
    /// Writes `loss.svg` and `README.md`.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(super) fn write(&self) -> Result<(), Error> {
        let folder = &self.job.output_dir;
        replace(&folder.join("loss.svg"), curve(self.losses).as_bytes())?;
        replace(&folder.join("README.md"), self.text().as_bytes())
    }

    fn text(&self) -> String {
        let Self { job, trained, .. } = self;
        let base = plain(&name_of(Path::new(&job.base_model)));
        let name = job.custom_model_name.clone().unwrap_or_else(|| format!("{base}, customized"));
        let what = match &job.method {
            JobMethod::Full => "All weights",
            JobMethod::Lora(_) => "A low-rank adapter (LoRA)",
        };
        let library = match (&job.method, job.customization_type) {
            (JobMethod::Lora(_), _) => "peft",
            (_, CustomizationType::EmbeddingTuning) => "sentence-transformers",
            _ => "transformers",
        };
        let mut text = format!("---\nbase_model: {base:?}\nlibrary_name: {library}\n---\n\n# {name}\n\n");
        let line = |text: &mut String, name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {value} |");
        };
        let _ = writeln!(text, "{what} of {base}, trained with bedrock-models {}.\n", env!("CARGO_PKG_VERSION"));
        text.push_str("| | |\n| --- | --- |\n");
        let file = |path: &Path, hash: &str| format!("{}, SHA-256 `{hash}`", plain(&name_of(path)));
        line(&mut text, "training data", file(&job.training_data, self.training_data));
        for (path, hash) in job.validation_data.iter().zip(self.validation_data) {
            line(&mut text, "validation data", file(path, hash));
        }
        if let Some(CustomizationConfig { distillation_config }) = &job.customization_config {
            let teacher = &distillation_config.teacher_model_config.teacher_model_identifier;
            line(&mut text, "teacher", plain(&name_of(Path::new(teacher))));
        }
        if let JobEvent::Started { items, tokens, truncated, skipped, validation_items, parameters, .. } = self.started
        {
            line(&mut text, "items", format!("{items} of {tokens} tokens; {truncated} cut, {skipped} left out"));
            line(&mut text, "validation items", validation_items.to_string());
            line(&mut text, "trained numbers", parameters.to_string());
        }
        line(&mut text, "steps", trained.steps.to_string());
        let loss = |loss: Option<f64>| loss.map_or("none".into(), |loss| format!("{loss:.4}"));
        line(&mut text, "training loss, mean of the last epoch", loss(trained.train_loss));
        line(&mut text, "validation loss of the base", loss(trained.base_validation_loss));
        line(&mut text, "validation loss", loss(trained.validation_loss));
        let (of, last) = match self.losses.validation.last() {
            Some((_, measure)) => ("validation", Some(measure)),
            None => ("the last step", self.losses.steps.last()),
        };
        let metrics = last.filter(|measure| measure.metrics.is_some()).map(Measure::row).unwrap_or_default();
        for (name, value) in Measure::columns(job.customization_type).iter().zip(metrics) {
            line(&mut text, &format!("{} of {of}", name.replace('_', " ")), format!("{value:.4}"));
        }
        let meaning = match job.customization_type {
            CustomizationType::PreferenceTuning => {
                "Losses are those of Direct Preference Optimization, means over pairs; rewards are against the base."
            }
            CustomizationType::EmbeddingTuning => {
                "Losses are cross-entropies of the own positive among all of a batch, means over anchors, natural logarithm."
            }
            CustomizationType::ClassifierTuning => {
                "Losses are cross-entropies of the labels, means over texts, natural logarithm."
            }
            _ => "Losses are means over all tokens that were to be learnt, natural logarithm.",
        };
        let _ = write!(text, "\n{meaning}\n\n![losses](loss.svg)\n\n");
        let settings = serde_json::to_string_pretty(&job.settings()).unwrap_or_default();
        let _ = write!(text, "## Settings\n\n```json\n{settings}\n```\n");
        for tag in &job.custom_model_tags {
            let _ = write!(text, "\n- {}: {}", plain(&tag.key), plain(&tag.value));
        }
        text
    }
}

/// Text that cannot break a table or a line.
fn plain(text: &str) -> String {
    text.replace(['|', '\n', '\r', '`', '<', '>'], " ")
}

/// The losses of the steps as a line, those of the validation files as dots.
fn curve(losses: &Losses) -> String {
    let width = losses.steps.len().div_ceil(POINTS).max(1);
    let mean = |(index, part): (usize, &[Measure])| {
        let step = (index * width) as f64 + (part.len() + 1) as f64 / 2.0;
        (step, part.iter().map(|measure| measure.loss).sum::<f64>() / part.len() as f64)
    };
    let line: Vec<(f64, f64)> = losses.steps.chunks(width).enumerate().map(mean).collect();
    let dots: Vec<(f64, f64)> = losses.validation.iter().map(|(step, measure)| (*step as f64, measure.loss)).collect();
    let all = || line.iter().chain(&dots);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let (least, most) = if least < most { (least, most) } else { (most - 0.5, most + 0.5) };
    let last = (losses.steps.len() as f64).max(1.0);
    let [across, down] = SIZE;
    let place = |(step, loss): &(f64, f64)| {
        let x = MARGIN + step / last * (across - 2.0 * MARGIN);
        (x, MARGIN + (most - loss) / (most - least) * (down - 2.0 * MARGIN))
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {across} {down}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{across}\" height=\"{down}\" fill=\"white\"/>\n\
         <path d=\"M{MARGIN} {MARGIN}V{0}H{1}\" fill=\"none\" stroke=\"#888\"/>\n",
        down - MARGIN,
        across - MARGIN
    );
    let points: Vec<String> = line.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#36c\"/>", points.join(" "));
    for (x, y) in dots.iter().map(place) {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#c33\"/>");
    }
    for (x, y, anchor, text) in [
        (MARGIN - 6.0, MARGIN + 4.0, "end", format!("{most:.2}")),
        (MARGIN - 6.0, down - MARGIN + 4.0, "end", format!("{least:.2}")),
        (MARGIN, down - MARGIN + 18.0, "middle", "0".into()),
        (across - MARGIN, down - MARGIN + 18.0, "middle", format!("{last}")),
        (across / 2.0, down - 10.0, "middle", "step".into()),
        (across / 2.0, 24.0, "middle", "loss: training (line), validation (dots)".into()),
    ] {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_from_corner_to_corner() {
        let measure = |loss| Measure { loss, metrics: None };
        let losses = Losses {
            steps: (0..2000).map(|n| measure(5.0 - f64::from(n) / 500.0)).collect(),
            validation: vec![(2000, measure(0.5))],
        };
        let svg = curve(&losses);
        let (_, points) = svg.split_once("points=\"").unwrap();
        let points: Vec<&str> = points.split_once('"').unwrap().0.split(' ').collect();
        assert!(points.len() <= POINTS && points.len() > POINTS / 2, "{}", points.len());
        // The first mean is of four steps: 4.997 at 2.5.
        assert_eq!(points[0], "50.9,50.0");
        assert!(svg.contains("cx=\"750.0\" cy=\"350.0\""), "{svg}");
        // Nothing to divide by.
        for losses in [Losses::default(), Losses { steps: vec![measure(1.0)], validation: vec![] }] {
            assert!(!curve(&losses).contains("NaN"), "{}", curve(&losses));
        }
    }
}
