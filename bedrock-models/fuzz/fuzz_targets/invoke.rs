//! Bodies of `InvokeModel` of any bytes, for every family, are answered or refused; streams say what whole answers say.
#![no_main]

use std::sync::Arc;

use bedrock_core::testing::{Chunking, HashEmbedder, Reply, ScriptedModel};
use bedrock_models::invoke::{EmbeddingFamily, InvokeEmbedding, InvokeFamily, InvokeModel};
use futures::StreamExt;
use futures::executor::block_on;

const FAMILIES: [InvokeFamily; 6] = [
    InvokeFamily::Anthropic,
    InvokeFamily::Ai21,
    InvokeFamily::Cohere,
    InvokeFamily::Llama,
    InvokeFamily::Mistral,
    InvokeFamily::Titan,
];

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for family in FAMILIES {
        let reply = || Reply::text("Yes, it is so.").chunking(Chunking::Characters(3));
        let model = InvokeModel::new(Arc::new(ScriptedModel::new([reply(), reply()])), family);
        let whole = model.invoke_blocking(body);
        let chunks: Option<Vec<_>> =
            block_on(async { Some(model.invoke_with_response_stream(body).await.ok()?.collect().await) });
        if let Ok(whole) = whole {
            serde_json::from_slice::<serde_json::Value>(&whole).expect("answers are JSON");
            assert!(chunks.is_none_or(|chunks| chunks.iter().all(Result::is_ok)));
        }
    }
    for family in [EmbeddingFamily::Titan, EmbeddingFamily::Cohere] {
        let _ = InvokeEmbedding::new(Arc::new(HashEmbedder::new(8)), family).invoke_blocking(body);
    }
});
