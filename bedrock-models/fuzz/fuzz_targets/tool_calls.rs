//! What a model says, in any syntax of calls and in pieces of any size, is text and calls, the same as at once. The first two bytes
//! choose syntax and size.
#![no_main]

use bedrock_models::fuzzing::calls;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [syntax, size, said @ ..] = bytes else { return };
    let Ok(said) = std::str::from_utf8(said) else { return };
    let characters: Vec<char> = said.chars().collect();
    let pieces: Vec<String> =
        characters.chunks(usize::from(*size).max(1)).map(|piece| piece.iter().collect()).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    assert_eq!(calls(*syntax, &pieces), calls(*syntax, &[said]));
});
