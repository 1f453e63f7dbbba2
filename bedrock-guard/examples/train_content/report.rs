//! Figures.

use std::collections::BTreeMap;

use bedrock_guard::train::CATEGORIES;

use crate::items::{Item, NAMES, PLAIN, bundle};

type Logits = [Option<[f32; CATEGORIES]>];

/// Area under the receiver operating characteristic; ties count half.
fn area(mut scored: Vec<(f32, bool)>) -> f64 {
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

fn scored<'i>(items: &'i [Item], logits: &'i Logits) -> impl Iterator<Item = (&'i Item, [f32; CATEGORIES])> {
    items.iter().zip(logits).filter_map(|(item, logits)| Some((item, (*logits)?)))
}

/// Logits that are exceeded by given shares of the harmless texts.
pub(crate) fn steps(items: &[Item], logits: &Logits, shares: &[f64; 3]) -> [[f32; 3]; CATEGORIES] {
    std::array::from_fn(|category| {
        let mut harmless: Vec<f32> =
            scored(items, logits).filter(|(item, _)| item.harmless).map(|(_, logits)| logits[category]).collect();
        harmless.sort_by(|a, b| b.total_cmp(a));
        shares.map(|share| harmless[(harmless.len() as f64 * share) as usize])
    })
}

/// A harmless sentence about somebody of a named group.
fn harmless_template(item: &Item) -> bool {
    item.source == "safety-bias-templates" && item.labels[0] == Some(false)
}

fn share(right: usize, all: usize) -> f64 {
    right as f64 / all.max(1) as f64
}

#[allow(clippy::print_stdout, reason = "a program's output")]
pub(crate) fn print(
    items: &[Item],
    logits: &Logits,
    steps: &[[f32; 3]; CATEGORIES],
    misses: Option<&str>,
    all_folds: bool,
) {
    // Fold 0 is for choices; figures are of the others, if there are others.
    let others = !all_folds && items.iter().zip(logits).any(|(item, logits)| item.fold != 0 && logits.is_some());
    let scored = scored(items, logits).filter(|(item, _)| !others || item.fold != 0);
    let (plain, scored): (Vec<_>, Vec<_>) = scored.partition(|(item, _)| item.source == PLAIN);
    for category in 0..CATEGORIES {
        let mut sources: BTreeMap<&str, Vec<(f32, bool)>> = BTreeMap::new();
        let mut all = Vec::new();
        for (item, logits) in &scored {
            if let Some(label) = item.labels[category] {
                all.push((logits[category], label));
                sources.entry(item.source).or_default().push((logits[category], label));
            }
        }
        let yes = all.iter().filter(|(_, label)| *label).count();
        print!("{} area {:.4} ({yes} of {})", NAMES[category], area(all.clone()), all.len());
        for (name, step) in ["low", "medium", "high"].iter().zip(steps[category]) {
            let found = all.iter().filter(|(logit, label)| *label && *logit >= step).count();
            print!(", {name} {step:.2} finds {:.3}", share(found, yes));
        }
        for (source, scores) in sources {
            let yes = scores.iter().filter(|(_, label)| *label).count();
            if yes > 0 && yes < scores.len() {
                print!("; {source} {:.3} ({yes} of {})", area(scores.clone()), scores.len());
            }
        }
        println!();
        // Models of different folds have different scales: what one model says of sources that it does not know.
        for fold in (0..).take_while(|_| all_folds).take_while(|fold| scored.iter().any(|(item, _)| item.fold >= *fold))
        {
            let of = scored.iter().filter(|(item, _)| item.fold == fold);
            let judged: Vec<_> =
                of.filter_map(|(item, logits)| Some((logits[category], item.labels[category]?))).collect();
            let yes = judged.iter().filter(|(_, label)| *label).count();
            if yes >= 10 && judged.len() >= yes + 10 {
                println!("  {:.3} ({yes} of {}) without {}", area(judged.clone()), judged.len(), bundle(fold));
            }
        }
    }
    for (name, step) in ["low", "medium", "high"].iter().zip(steps[0]) {
        let mut functions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let (mut right, mut all) = (0, 0);
        for (item, logits) in scored.iter().filter(|(item, _)| !item.function.is_empty()) {
            let is_right = usize::from(Some(logits[0] >= step) == item.labels[0]);
            let function = functions.entry(&item.function).or_default();
            *function = (function.0 + is_right, function.1 + 1);
            (right, all) = (right + is_right, all + 1);
        }
        print!("HateCheck at {name}: {:.3} of {all};", share(right, all));
        functions.retain(|_, (right, all)| share(*right, *all) < 0.8);
        for (function, (right, all)) in functions {
            print!(" {function} {:.2} ({all})", share(right, all));
        }
        println!();
        let mut identities: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (item, logits) in scored.iter().filter(|(item, _)| harmless_template(item)) {
            let identity = identities.entry(&item.identity).or_default();
            *identity = (identity.0 + usize::from(logits[0] >= step), identity.1 + 1);
        }
        let rates: Vec<f64> =
            identities.values().filter(|(_, all)| *all >= 10).map(|(wrong, all)| share(*wrong, *all)).collect();
        let (least, most) =
            rates.iter().fold((1.0f64, 0.0f64), |(least, most), rate| (least.min(*rate), most.max(*rate)));
        println!("  templates at {name}: false positives of {} identities from {least:.3} to {most:.3}", rates.len());
    }
    let mut sources: BTreeMap<&str, Vec<[usize; 3]>> = BTreeMap::new();
    for (item, logits) in &plain {
        let disturbed = |level: usize| {
            let mut known = (0..CATEGORIES).filter(|category| item.labels[*category].is_some());
            usize::from(known.any(|category| logits[category] >= steps[category][level]))
        };
        sources.entry(&item.origin).or_default().push([0, 1, 2].map(disturbed));
    }
    for (source, texts) in sources {
        let [low, medium, high] = [0, 1, 2].map(|level| share(texts.iter().map(|text| text[level]).sum(), texts.len()));
        println!("{} of {source} are found harmful: low {low:.3}, medium {medium:.3}, high {high:.3}", texts.len());
    }
    if let Some(function) = misses {
        for (item, logits) in scored.iter().filter(|(item, _)| harmless_template(item)) {
            if logits[0] >= steps[0][1] {
                println!("{:.2} template {}", logits[0], item.text);
            }
        }
        for (item, logits) in scored.iter().filter(|(item, _)| item.function.starts_with(function)) {
            if Some(logits[0] >= steps[0][1]) != item.labels[0] {
                println!("{:.2} {} {}", logits[0], item.function, item.text);
            }
        }
    }
}
