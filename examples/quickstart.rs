//! Asks a folder of documents: a local language model answers with citations, and personal data is masked.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- --docs notes/ --ask "What did we decide about the lamp?"
//! ```
//!
//! Everything happens in this process. The two models (together 190 MB) are fetched on the first run.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bedrock_core::{BoxFuture, ChatModel, ConverseRequest, Error, EventStream, InferenceConfiguration, StreamEvent};
use bedrock_examples::{
    Failure, ModelArguments, failure, find_model, peak_rss_mib, print_json, print_line, print_part, run, timed,
};
use bedrock_guard::{Guarded, Guardrail};
use bedrock_models::{Embedder, LocalChatModel};
use bedrock_rag::chunk::Chunking;
use bedrock_rag::{Answer, AnswerEvent, AnswerOptions, Answerer, IngestOptions, KnowledgeBase, Search};
use clap::Parser;
use futures::{StreamExt, executor::block_on_stream};
use serde_json::{Value, json};

/// A model of 135 million parameters does best with one short passage and one plain instruction after it.
const PROMPT_TEMPLATE: &str = "$search_results$\n\n$query$ Answer in a full sentence.";
const PASSAGES: usize = 1;
const CHUNKING: Chunking = Chunking::Fixed { max_tokens: 60, overlap_percentage: 20 };
const ANSWER_TOKENS: u32 = 96;

/// Asked when no question is given. The second answer holds a name, which the bundled guardrail masks.
const QUESTIONS: [&str; 3] = [
    "How many days of paid holiday do full-time employees have?",
    "Who keeps the keys of the workshop in Aldersund?",
    "How much does the company pay towards the internet connection?",
];

/// Asks a folder of documents
#[derive(Parser)]
struct Arguments {
    /// Folder of documents; default: those that come with this example
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// A question; may be given several times
    #[arg(long, value_name = "TEXT")]
    ask: Vec<String>,
    /// Language model: a folder, a .gguf file, or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "smollm2-135m-instruct")]
    model: String,
    /// Embedding model: a folder, or a name of the catalogue
    #[arg(long, value_name = "M", default_value = "all-minilm-l6-v2")]
    embedder: String,
    /// Body of CreateGuardrail; default: the one that comes with this example
    #[arg(long, value_name = "FILE")]
    guardrail: Option<PathBuf>,
    /// Where the knowledge base is kept from run to run; default: a temporary folder
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// End with a JSON object about the last answer
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelArguments,
}

fn main() -> ExitCode {
    run(quickstart)
}

fn quickstart(arguments: Arguments) -> Result<(), Failure> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let docs = arguments.docs.clone().unwrap_or_else(|| bundled.join("docs"));
    let guardrail = read_guardrail(&arguments.guardrail.clone().unwrap_or_else(|| bundled.join("guardrail.json")))?;
    let options = arguments.models.options();

    let embedder_path = find_model(&arguments.embedder)?;
    let model_path = find_model(&arguments.model)?;
    let (embedder, embedder_s) = timed(|| Embedder::load(&embedder_path, &options))?;
    let (model, model_s) = timed(|| LocalChatModel::load(&model_path, &options))?;
    eprintln!("models loaded in {:.1} s", embedder_s + model_s);

    let temporary;
    let store = match &arguments.store {
        Some(store) => store.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let knowledge_base = KnowledgeBase::builder(store, Arc::new(embedder)).chunking(CHUNKING).open_or_create()?;
    ingest(&knowledge_base, &docs)?;
    let (documents, chunks) = (knowledge_base.document_count(), knowledge_base.chunk_count());

    // The same trait at each step: a model, a stopwatch around it, a guardrail around both.
    let pace = Arc::new(Mutex::new(Pace::default()));
    let guarded = Guarded::new(Timed { model, pace: pace.clone() }, guardrail.clone());
    let answer_options = AnswerOptions {
        model_id: arguments.model.clone(),
        search: Search::default().results(PASSAGES),
        prompt_template: Some(PROMPT_TEMPLATE.to_string()),
        inference: InferenceConfiguration {
            max_tokens: Some(ANSWER_TOKENS),
            temperature: Some(0.0),
            ..InferenceConfiguration::default()
        },
        ..AnswerOptions::default()
    };
    let answerer = Answerer::new(Arc::new(knowledge_base), Arc::new(guarded))
        .with_passage_guardrail(Arc::new(guardrail))
        .with_options(answer_options);

    let questions = match arguments.ask.is_empty() {
        true => QUESTIONS.map(String::from).to_vec(),
        false => arguments.ask,
    };
    let mut last = None;
    for question in &questions {
        let answer = ask(&answerer, question)?;
        // A question without relevant passages never reaches the model.
        let pace = std::mem::take(&mut *pace.lock().map_err(|_| failure("the model panicked"))?);
        last = Some((answer, pace));
    }
    if let (true, Some((answer, pace))) = (arguments.json, last) {
        let mut report = describe(&answer, &pace);
        report["documents"] = json!(documents);
        report["chunks"] = json!(chunks);
        report["peak_rss_mib"] = json!(peak_rss_mib());
        print_json(&report)?;
    }
    Ok(())
}

fn read_guardrail(path: &Path) -> Result<Guardrail, Failure> {
    let json = std::fs::read_to_string(path).map_err(|error| failure(format!("{}: {error}", path.display())))?;
    Guardrail::from_json(&json).map_err(|error| failure(format!("{}: {error}", path.display())))
}

/// Brings the knowledge base up to date with the folder: what has not changed is not read again.
fn ingest(knowledge_base: &KnowledgeBase, docs: &Path) -> Result<(), Failure> {
    let terminal = std::io::stderr().is_terminal();
    let options = IngestOptions {
        delete_missing: true,
        progress: Some(Arc::new(move |statistics| {
            if terminal {
                eprint!("\r{} documents read", statistics.number_of_documents_scanned);
            }
        })),
        ..IngestOptions::default()
    };
    let (report, seconds) = timed(|| knowledge_base.ingest_folder_blocking(docs, &options))?;
    let (documents, chunks) = (knowledge_base.document_count(), knowledge_base.chunk_count());
    eprintln!("{}{documents} documents, {chunks} chunks, {seconds:.1} s", if terminal { "\r\x1b[K" } else { "" });
    for (uri, error) in &report.failures {
        eprintln!("{uri} was left out: {error}");
    }
    match documents {
        0 => Err(failure(format!("there are no readable documents in {}", docs.display()))),
        _ => Ok(()),
    }
}

/// Streams the answer to standard output, with its citations below.
fn ask(answerer: &Answerer, question: &str) -> Result<Answer, Failure> {
    print_line(&format!("\n? {question}"))?;
    for event in block_on_stream(answerer.ask_stream(question)) {
        match event? {
            AnswerEvent::Text(text) => print_part(&text)?,
            AnswerEvent::Finished(answer) => {
                print_line("")?;
                for passage in cited(&answer) {
                    let passage = &answer.passages[passage];
                    let heading = passage.headings.last().or(passage.title.as_ref());
                    let heading = heading.map(|heading| format!(" ({heading})")).unwrap_or_default();
                    print_line(&format!("  [{}]{heading}", passage.uri))?;
                }
                return Ok(*answer);
            }
            _ => {}
        }
    }
    Err(failure("the answer ended too early"))
}

/// Positions of the cited passages, each once, in the order of the answer.
fn cited(answer: &Answer) -> Vec<usize> {
    let mut positions: Vec<usize> = Vec::new();
    for position in answer.citations.iter().flat_map(|part| &part.passages) {
        if !positions.contains(position) {
            positions.push(*position);
        }
    }
    positions
}

fn describe(answer: &Answer, pace: &Pace) -> Value {
    let citations = cited(answer).into_iter().map(|position| {
        let passage = &answer.passages[position];
        json!({"text": passage.text, "source": passage.uri, "score": passage.score})
    });
    json!({
        "answer": answer.text,
        "citations": citations.collect::<Vec<_>>(),
        "stop_reason": answer.stop_reason,
        "usage": answer.usage,
        "ttft_ms": answer.first_text_ms,
        "decode_tok_s": pace.tokens_a_second(answer.usage.output_tokens),
    })
}

/// When the model wrote: a guardrail holds text back, so the answer's own times are not the model's.
#[derive(Default)]
struct Pace {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Pace {
    fn tokens_a_second(&self, tokens: u32) -> f64 {
        let seconds = self.first.zip(self.last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        if seconds > 0.0 { f64::from(tokens.saturating_sub(1)) / seconds } else { 0.0 }
    }
}

/// A chat model with a stopwatch: middleware is the trait itself.
struct Timed<M> {
    model: M,
    pace: Arc<Mutex<Pace>>,
}

impl<M: ChatModel> ChatModel for Timed<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(async move {
            let events = self.model.converse_stream(request).await?;
            let note = move |event: &Result<StreamEvent, Error>| {
                if let (Ok(event), Ok(mut pace)) = (event, self.pace.lock())
                    && event.as_text().is_some()
                {
                    let now = Instant::now();
                    pace.first.get_or_insert(now);
                    pace.last = Some(now);
                }
            };
            Ok(events.inspect(note).boxed())
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        self.model.count_tokens(request)
    }
}
