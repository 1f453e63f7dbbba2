//! Distillation: a scripted model teaches a tiny one.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bedrock_core::testing::{Reply, ScriptedModel};
use bedrock_core::{ContentBlock, ConverseRequest};
use bedrock_models::Error;
use bedrock_models::tune::{
    CustomizationConfig, CustomizationType, DistillationConfig, HyperParameters, JobEvent, JobLora, JobMethod,
    JobOptions, JobStatus, Stop, Teacher, TeacherModelConfig,
};
use serde_json::Value;

mod bench;

use bench::{Bench, load};

impl Bench {
    fn new(lines: &str) -> Self {
        let mut bench = Self::of("llama_default", lines);
        let job = &mut bench.job;
        job.customization_type = CustomizationType::Distillation;
        let teacher_model_config =
            TeacherModelConfig { teacher_model_identifier: "wise".into(), max_response_length_for_inference: 9 };
        job.customization_config =
            Some(CustomizationConfig { distillation_config: DistillationConfig { teacher_model_config } });
        job.hyper_parameters = HyperParameters {
            epoch_count: 3,
            batch_size: 2,
            learning_rate: 1e-2,
            max_sequence_length: 64,
            ..HyperParameters::default()
        };
        job.method = JobMethod::Lora(JobLora { r: 4, ..JobLora::default() });
        bench
    }

    fn prompts(count: usize) -> Self {
        Self::new(&(0..count).map(|n| format!("{{\"prompt\": \"the {n}\"}}\n")).collect::<String>())
    }
}

fn options(teacher: &Arc<ScriptedModel>) -> JobOptions {
    // One at a time, so that a script's replies come in the order of the prompts.
    JobOptions { load: load(), teacher: Some(Teacher::new(teacher.clone()).at_once(1)), ..JobOptions::default() }
}

/// Says the number in the prompt back.
fn answer(request: &ConverseRequest) -> String {
    let Some(ContentBlock::Text(text)) = request.messages.last().and_then(|message| message.content.first()) else {
        panic!("{request:?}")
    };
    format!("end of {}", text.trim_start_matches("the "))
}

fn teacher() -> Arc<ScriptedModel> {
    Arc::new(ScriptedModel::answering(|request| Reply::text(answer(request))))
}

fn events_of(events: &[JobEvent]) -> Vec<(usize, usize)> {
    let answered = |event: &JobEvent| match event {
        JobEvent::Answered { answered, items } => Some((*answered, *items)),
        _ => None,
    };
    events.iter().filter_map(answered).collect()
}

#[test]
fn what_the_teacher_says_is_learnt() {
    let bench = Bench::prompts(5);
    let known = "{\"prompt\": \"the 9\", \"completion\": \"end of 9\"}\n";
    let talk = "{\"system\": \"short\", \"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"the 8\"}]}]}\n";
    let prompts = fs::read_to_string(&bench.job.training_data).unwrap();
    fs::write(&bench.job.training_data, format!("{prompts}{known}")).unwrap();
    let teacher = teacher();
    let (trained, events) = bench.run(&options(&teacher));
    let trained = trained.unwrap();
    assert_eq!((trained.status, trained.steps), (JobStatus::Completed, 9));
    // The prompt that was answered already is not asked.
    assert_eq!(events_of(&events), [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
    let requests = teacher.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.model_id == "wise"));
    assert!(requests.iter().all(|request| request.inference_config.as_ref().unwrap().max_tokens == Some(9)));
    let lines: Vec<Value> = fs::read_to_string(bench.path("responses.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((lines.len(), &lines[3]["response"]), (6, &"end of 2".into()));
    let status: Value = serde_json::from_slice(&fs::read(bench.path("job.json")).unwrap()).unwrap();
    let config = &status["customizationConfig"]["distillationConfig"]["teacherModelConfig"];
    assert_eq!(
        (&status["customizationType"], &config["teacherModelIdentifier"]),
        (&"DISTILLATION".into(), &"wise".into())
    );
    assert!(fs::read_to_string(bench.path("README.md")).unwrap().contains("| teacher | wise |"));

    // The same as fine-tuning on the answers.
    let pairs: String =
        (0..5).chain([9]).map(|n| format!("{{\"prompt\": \"the {n}\", \"completion\": \"end of {n}\"}}\n")).collect();
    let mut plain = Bench::new(&pairs);
    plain.job.customization_type = CustomizationType::FineTuning;
    plain.job.customization_config = None;
    plain.run(&options(&teacher)).0.unwrap();
    let weights = |bench: &Bench| fs::read(bench.path("adapter_model.safetensors")).unwrap();
    assert_eq!(weights(&bench), weights(&plain));

    // A conversation without a template is refused as elsewhere, after the teacher has answered.
    fs::write(&bench.job.training_data, talk).unwrap();
    assert!(matches!(bench.run(&options(&teacher)).0, Err(Error::NoChatTemplate { .. })));
    assert_eq!(teacher.requests().last().unwrap().system.len(), 1);
}

#[test]
fn answers_are_not_asked_again() {
    let whole = Bench::prompts(6);
    whole.run(&options(&teacher())).0.unwrap();
    // The third answer fails for good; what was said before is kept.
    let bench = Bench::prompts(6);
    let asked = AtomicUsize::new(0);
    let failing = Arc::new(ScriptedModel::answering(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        2 => Reply::refusal(bedrock_core::Error::validation("not that")),
        _ => Reply::text(answer(request)),
    }));
    let (result, events) = bench.run(&options(&failing));
    assert!(matches!(&result, Err(Error::Teacher { line: 3, .. })), "{result:?}");
    let Some(JobEvent::Failed { message }) = events.last() else { panic!("{events:?}") };
    assert!(message.contains("train.jsonl:3: not that"), "{message}");
    let status: Value = serde_json::from_slice(&fs::read(bench.path("job.json")).unwrap()).unwrap();
    assert_eq!((&status["status"], &status["failureMessage"]), (&"Failed".into(), &message.as_str().into()));
    // Then it is stopped after one answer more.
    let mut resumed = JobOptions { resume: true, ..options(&teacher()) };
    let stop = resumed.stop.clone();
    let mut events = Vec::new();
    let stopped = bench.job.run(&resumed, |event| {
        if matches!(event, JobEvent::Answered { .. }) {
            stop.stop();
        }
        events.push(event.clone());
    });
    assert_eq!(stopped.unwrap().status, JobStatus::Stopped);
    assert!(matches!(
        &events[..],
        [JobEvent::Answered { answered: 3, items: 6 }, JobEvent::Stopping, JobEvent::Stopped(_)]
    ));
    // And killed while it wrote.
    let path = bench.path("responses.jsonl");
    let text = fs::read(&path).unwrap();
    fs::write(&path, [&text[..], b"{\"prompt\": 4, \"resp"].concat()).unwrap();
    let last = teacher();
    resumed = JobOptions { resume: true, stop: Stop::default(), ..options(&last) };
    bench.run(&resumed).0.unwrap();
    assert_eq!(last.requests().len(), 3);
    let weights = |bench: &Bench| fs::read(bench.path("adapter_model.safetensors")).unwrap();
    assert_eq!(weights(&bench), weights(&whole));
    // Answers to other prompts are not used.
    fs::write(&bench.job.training_data, "{\"prompt\": \"another\"}\n").unwrap();
    assert!(matches!(bench.run(&resumed).0, Err(Error::OtherJob { .. })));
}

#[test]
fn a_teacher_that_is_busy_is_asked_again_and_silence_is_left_out() {
    let bench = Bench::prompts(3);
    let busy = || Reply::refusal(bedrock_core::Error::throttling("later"));
    let script = vec![busy(), "end of 0".into(), Reply::text(""), busy(), busy(), "end of 2".into()];
    let teacher = Arc::new(ScriptedModel::new(script));
    let (trained, events) = bench.run(&options(&teacher));
    trained.unwrap();
    assert_eq!(teacher.requests().len(), 6);
    assert!(events.iter().any(|event| matches!(event, JobEvent::Started { items: 2, skipped: 1, .. })));
}

#[test]
fn wrong_prompts_and_no_teacher_are_refused_before_anything_is_written() {
    for (line, reason) in [
        ("{\"completion\": \"a\"}", "should have a prompt, or messages"),
        ("{\"prompt\": \"\"}", "prompt is empty"),
        ("{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}", "has the role \"assistant\""),
    ] {
        let bench = Bench::new(&format!("{{\"prompt\": \"a\"}}\n{line}\n"));
        let teacher = teacher();
        match bench.run(&options(&teacher)).0 {
            Err(Error::TrainingData { line: Some(2), reason: got, .. }) => assert!(got.contains(reason), "{got}"),
            other => panic!("{other:?}"),
        }
        assert!(!bench.job.output_dir.exists() && teacher.requests().is_empty());
    }
    let bench = Bench::prompts(1);
    let none = JobOptions { teacher: None, ..options(&teacher()) };
    assert!(matches!(bench.run(&none).0, Err(Error::Job { .. })));
    assert!(!bench.job.output_dir.exists());
    assert!(bench.folder.path().exists());
}
