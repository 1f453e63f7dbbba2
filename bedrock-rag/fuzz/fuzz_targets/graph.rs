//! The file of a vector graph, its checksums left out of account: it is refused, or searches end and find what is there.
#![no_main]

use bedrock_rag::index::Hnsw;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("bedrock-fuzz-graph-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("temporary files can be written");
    let Ok((graph, _)) = Hnsw::load(&path) else { return };
    let query: Vec<f32> = (0..graph.dimensions()).map(|index| (index as f32).sin() + 0.1).collect();
    let odd = |id: u64| id % 2 == 1;
    for found in [
        graph.search(&query, 5, 10, None),
        graph.search(&query, 5, 10, Some(&odd)),
        graph.search_exact(&query, 5, None),
    ] {
        let found = found.expect("the query fits");
        assert!(found.len() <= 5 && found.iter().all(|neighbour| graph.ids().contains(&neighbour.id)), "{found:?}");
    }
});
