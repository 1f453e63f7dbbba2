//! Templates with values in them.

use bedrock_core::{GuardrailContentBlock, GuardrailContentQualifier as Qualifier};

/// The service's placeholders.
pub(super) const RESULTS: &str = "$search_results$";
pub(super) const QUERY: &str = "$query$";
pub(super) const HISTORY: &str = "$conversation_history$";
pub(super) const INSTRUCTIONS: &str = "$output_format_instructions$";

/// Puts values in for placeholders in one pass, so that nothing in a value is taken for a placeholder.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    pieces(template, values).into_iter().map(|(_, text)| text).collect()
}

/// What a filled template is made of: its own text, and values with their placeholders.
fn pieces<'t>(template: &'t str, values: &[(&'t str, &'t str)]) -> Vec<(Option<&'t str>, &'t str)> {
    let mut pieces = Vec::new();
    let (mut begun, mut at) = (0, 0);
    while let Some(next) = template[at..].find('$') {
        at += next;
        match values.iter().find(|(placeholder, _)| template[at..].starts_with(placeholder)) {
            Some((placeholder, value)) => {
                pieces.extend([(None, &template[begun..at]), (Some(*placeholder), *value)]);
                at += placeholder.len();
                begun = at;
            }
            None => at += 1,
        }
    }
    pieces.push((None, &template[begun..]));
    pieces.retain(|(_, text)| !text.is_empty());
    pieces
}

/// A filled template in blocks that tell a guardrail what the answer has to rest on, what the question is, and what else a user has said;
/// together they are the same text. A source and a question are told once, should the template repeat them.
pub(super) fn marked<B>(
    template: &str,
    values: &[(&str, &str)],
    text: impl Fn(String) -> B,
    guarded: impl Fn(GuardrailContentBlock) -> B,
) -> Vec<B> {
    let (mut blocks, mut plain, mut told) = (Vec::new(), String::new(), Vec::new());
    for (placeholder, value) in pieces(template, values) {
        let again = told.contains(&placeholder);
        told.push(placeholder);
        let qualifiers = match placeholder {
            Some(RESULTS) if !again => vec![Qualifier::GroundingSource],
            Some(QUERY) if !again => vec![Qualifier::Query, Qualifier::GuardContent],
            Some(QUERY | HISTORY) => vec![Qualifier::GuardContent],
            _ => {
                plain.push_str(value);
                continue;
            }
        };
        if !plain.is_empty() {
            blocks.push(text(std::mem::take(&mut plain)));
        }
        blocks.push(guarded(GuardrailContentBlock::text(value, qualifiers)));
    }
    if !plain.is_empty() {
        blocks.push(text(plain));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_searched_for_placeholders() {
        let filled = fill("a $query$ $5 $search_results$$", &[(QUERY, RESULTS), (RESULTS, "R")]);
        assert_eq!(filled, "a $search_results$ $5 R$");
        assert_eq!(fill("", &[(QUERY, "q")]), "");
        assert_eq!(fill("$$query$ä$", &[(QUERY, "q")]), "$qä$");
    }

    #[test]
    fn marks_are_on_the_source_and_on_what_users_said() {
        let values = [(QUERY, "who?"), (RESULTS, "[1] it"), (HISTORY, "User: hi"), (INSTRUCTIONS, "briefly")];
        let template = "Use $search_results$, $output_format_instructions$. $conversation_history$$query$ Again: $query$ $search_results$!";
        let blocks = marked(
            template,
            &values,
            |text| (text, vec![]),
            |block| match block {
                GuardrailContentBlock::Text(block) => (block.text, block.qualifiers),
                _ => unreachable!(),
            },
        );
        let shown: Vec<(&str, &[Qualifier])> =
            blocks.iter().map(|(text, marks)| (text.as_str(), marks.as_slice())).collect();
        let expected: [(&str, &[Qualifier]); 7] = [
            ("Use ", &[]),
            ("[1] it", &[Qualifier::GroundingSource]),
            (", briefly. ", &[]),
            ("User: hi", &[Qualifier::GuardContent]),
            ("who?", &[Qualifier::Query, Qualifier::GuardContent]),
            (" Again: ", &[]),
            ("who?", &[Qualifier::GuardContent]),
        ];
        assert_eq!(shown[..7], expected);
        assert_eq!(shown[7..], [(" [1] it!", &[] as &[Qualifier])]);
        assert_eq!(blocks.into_iter().map(|(text, _)| text).collect::<String>(), fill(template, &values));
    }
}
