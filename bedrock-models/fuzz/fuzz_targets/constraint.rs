//! A schema, expression or grammar of any text compiles or is refused, and text is made under it. The first byte chooses which it is,
//! and the tokens.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use bedrock_models::fuzzing::constrain;
use bedrock_models::generate::Constraint;
use bedrock_models::tokenizer::Tokenizer;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/conformance");
    Tokenizer::from_file(fixtures.join("llama_new_style")).expect("the fixtures are there")
});

// Panics of the compiler are caught and are errors; libFuzzer's hook would end the process before that.
libfuzzer_sys::fuzz_target!(init: { let _ = std::panic::take_hook(); }, |bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let constraint = match choice % 4 {
        0 => Constraint::Regex(text.to_owned()),
        1 => Constraint::Grammar(text.to_owned()),
        _ => match serde_json::from_str(text) {
            Ok(schema) => Constraint::JsonSchema(schema),
            Err(_) => return,
        },
    };
    let _ = constrain(&constraint, &TOKENIZER, usize::from(choice / 4));
});
