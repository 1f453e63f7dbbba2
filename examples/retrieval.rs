//! How well does retrieval find what it should? Ingests a test collection, asks all of its queries, compares.
//!
//! ```text
//! cargo run --release --example retrieval -- DIR --mode hybrid
//! ```
//!
//! DIR holds `docs.jsonl` ({id, title?, text}), `queries.jsonl` ({id, text}) and `qrels.tsv` (a header line, then query,
//! document, relevance). A document's score is that of its best chunk. Measures are means over the queries that have a
//! relevant document.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use bedrock_core::{RerankRequest, Reranker};
use bedrock_examples::ranking::{Relevance, ndcg, percentile, recall, reciprocal_rank};
use bedrock_examples::{Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, run};
use bedrock_models::{CrossEncoder, Embedder};
use bedrock_rag::chunk::Chunking;
use bedrock_rag::{Fusion, IngestOptions, KnowledgeBase, Passage, Search, SearchMode, Source};
use clap::Parser;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Chunks fetched a query, so that 100 documents are among them although some have several.
const CHUNKS: usize = 400;

/// Measures retrieval on a test collection.
#[derive(Parser)]
struct Arguments {
    /// Folder with docs.jsonl, queries.jsonl and qrels.tsv
    folder: PathBuf,
    /// Embedding model: a folder, a file or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "all-minilm-l6-v2")]
    embedder: String,
    /// vector, keyword or hybrid
    #[arg(long, default_value = "vector")]
    mode: SearchMode,
    /// How hybrid search joins its rankings: rrf:K or weighted:SHARE (of the vectors)
    #[arg(long, default_value = "weighted:0.4")]
    fusion: Fusion,
    /// Cross-encoder that orders the best passages anew
    #[arg(long, value_name = "M")]
    rerank: Option<String>,
    /// Passages a query that the cross-encoder reads
    #[arg(long, value_name = "N", default_value_t = 50)]
    rerank_depth: usize,
    /// How documents are cut
    #[arg(long, default_value = "default")]
    strategy: Chunking,
    /// Where the knowledge base is kept; default: a temporary folder
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Ask only the first N queries
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// Accepted for symmetry: there is always a JSON object
    #[arg(long, hide = true)]
    json: bool,
    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Deserialize)]
struct DocumentLine {
    id: String,
    #[serde(default)]
    title: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct QueryLine {
    id: String,
    text: String,
}

fn main() -> ExitCode {
    run(retrieval)
}

fn retrieval(arguments: Arguments) -> Result<(), Failure> {
    let documents: Vec<DocumentLine> = read_lines(&arguments.folder.join("docs.jsonl"))?;
    let mut queries: Vec<QueryLine> = read_lines(&arguments.folder.join("queries.jsonl"))?;
    let relevances = read_relevances(&arguments.folder.join("qrels.tsv"))?;
    queries.truncate(arguments.queries.unwrap_or(usize::MAX));

    let embedder = Arc::new(Embedder::load(find_model(&arguments.embedder)?, &arguments.model.options())?);
    let reranker = match &arguments.rerank {
        Some(model) => Some(CrossEncoder::load(find_model(model)?, &arguments.model.options())?),
        None => None,
    };
    let temporary;
    let store = match &arguments.store {
        Some(store) => store.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let knowledge_base = KnowledgeBase::builder(store, embedder)
        .chunking(arguments.strategy)
        .search_mode(arguments.mode)
        .fusion(arguments.fusion)
        .open_or_create()?;

    let total = documents.len();
    let started = Instant::now();
    let sources = documents.into_iter().map(|document| {
        let title = document.title.unwrap_or_default();
        let text = if title.is_empty() { document.text } else { format!("{title}\n\n{}", document.text) };
        Source::text(document.id, text)
    });
    let options = IngestOptions {
        delete_missing: true,
        progress: Some(Arc::new(move |statistics| {
            if statistics.number_of_documents_scanned % 200 == 0 {
                eprintln!("read {} of {total} documents", statistics.number_of_documents_scanned);
            }
        })),
        ..IngestOptions::default()
    };
    let report = knowledge_base.ingest_blocking(sources, &options)?;
    let ingest_s = started.elapsed().as_secs_f64();
    if let Some((id, error)) = report.failures.first() {
        return Err(failure(format!("{} documents failed, first {id}: {error}", report.failures.len())));
    }
    // Whatever is made once, on the first query, is not the first query's time.
    knowledge_base.search_blocking(&Search::new("warm up").results(1))?;

    let mut times = Vec::new();
    let (mut scored, mut at_10, mut recall_10, mut recall_100, mut mrr) = (0u32, 0.0, 0.0, 0.0, 0.0);
    for query in &queries {
        let Some(relevance) = relevances.get(&query.id) else { continue };
        let started = Instant::now();
        let mut passages = knowledge_base.search_blocking(&Search::new(&query.text).results(CHUNKS))?;
        if let Some(reranker) = &reranker {
            passages = reranked(reranker, &query.text, passages, arguments.rerank_depth)?;
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
        let mut seen = HashSet::new();
        let ranking: Vec<String> =
            passages.into_iter().map(|passage| passage.uri).filter(|id| seen.insert(id.clone())).take(100).collect();
        scored += 1;
        at_10 += ndcg(&ranking, relevance, 10);
        recall_10 += recall(&ranking, relevance, 10);
        recall_100 += recall(&ranking, relevance, 100);
        mrr += reciprocal_rank(&ranking, relevance, 10);
    }
    if scored == 0 {
        return Err(failure("none of the queries has a relevant document"));
    }
    let mean = |sum: f64| sum / f64::from(scored);
    let mode = match arguments.mode {
        SearchMode::Vector => "vector",
        SearchMode::Keyword => "keyword",
        SearchMode::Hybrid => "hybrid",
    };
    eprintln!(
        "{mode}: nDCG@10 {:.4}, recall@10 {:.4}, recall@100 {:.4}, MRR@10 {:.4} over {scored} queries; ingested in {ingest_s:.1} s",
        mean(at_10),
        mean(recall_10),
        mean(recall_100),
        mean(mrr),
    );
    print_json(&json!({
        "mode": mode,
        "docs": knowledge_base.document_count(),
        "queries": scored,
        "chunks": knowledge_base.chunk_count(),
        "ndcg_at_10": mean(at_10),
        "recall_at_10": mean(recall_10),
        "recall_at_100": mean(recall_100),
        "mrr_at_10": mean(mrr),
        "ingest_s": ingest_s,
        "query_ms_p50": percentile(&mut times, 50.0),
        "query_ms_p95": percentile(&mut times, 95.0),
        "peak_rss_mib": peak_rss_mib(),
    }))?;
    Ok(())
}

/// The first `depth` passages in the order of a cross-encoder, then the rest as they were.
fn reranked(
    reranker: &dyn Reranker,
    query: &str,
    passages: Vec<Passage>,
    depth: usize,
) -> Result<Vec<Passage>, Failure> {
    let depth = depth.min(passages.len());
    let texts = passages[..depth].iter().map(|passage| passage.text.as_str());
    let response = reranker.rerank_blocking(&RerankRequest::new(query, texts))?;
    let best = response.results.iter().filter_map(|result| passages.get(result.index)).cloned();
    Ok(best.chain(passages[depth..].iter().cloned()).collect())
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    Ok(BufReader::new(File::open(path).map_err(|error| failure(format!("cannot open {}: {error}", path.display())))?))
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    for (number, line) in (1..).zip(open(path)?.lines()) {
        let line = line?;
        if !line.trim().is_empty() {
            let item = serde_json::from_str(&line);
            items.push(item.map_err(|error| failure(format!("{}, line {number}: {error}", path.display())))?);
        }
    }
    Ok(items)
}

fn read_relevances(path: &Path) -> Result<HashMap<String, Relevance>, Failure> {
    let mut relevances: HashMap<String, Relevance> = HashMap::new();
    for (number, line) in (1..).zip(open(path)?.lines()).skip(1) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let mut columns = line.split('\t');
        let row = (columns.next(), columns.next(), columns.next().and_then(|value| value.trim().parse().ok()));
        let (Some(query), Some(document), Some(relevance)) = row else {
            return Err(failure(format!("{}, line {number}: not query, document, relevance", path.display())));
        };
        relevances.entry(query.to_owned()).or_default().insert(document.to_owned(), relevance);
    }
    relevances.retain(|_, relevance| relevance.values().any(|&value| value > 0.0));
    Ok(relevances)
}
