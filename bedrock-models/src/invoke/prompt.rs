//! Prompts that are texts: word for word, or as the turns that their marks tell apart.

use bedrock_core::{ConverseRequest, Message, SystemContentBlock};

/// The request for a prompt.
pub(super) fn request(prompt: String, raw: bool) -> ConverseRequest {
    if raw { ConverseRequest::new("").user(prompt).additional_field("raw_prompt", true) } else { turns(&prompt) }
}

/// Reads the turns of a prompt from the marks of Llama 3, or of Llama 2 and Mistral. Without marks it is one turn.
fn turns(prompt: &str) -> ConverseRequest {
    if prompt.contains("<|start_header_id|>") {
        llama_3(prompt)
    } else if prompt.contains("[INST]") {
        instructions(prompt)
    } else {
        let prompt = ["<|begin_of_text|>", "<s>"].iter().find_map(|mark| prompt.strip_prefix(mark)).unwrap_or(prompt);
        ConverseRequest::new("").user(prompt)
    }
}

/// `<|start_header_id|>user<|end_header_id|>\n\n…<|eot_id|>`, as often as there are turns.
fn llama_3(prompt: &str) -> ConverseRequest {
    let mut request = ConverseRequest::new("");
    for turn in prompt.split("<|start_header_id|>").skip(1) {
        let Some((role, text)) = turn.split_once("<|end_header_id|>") else { continue };
        let text = text.split("<|eot_id|>").next().unwrap_or_default().trim();
        // The last turn is the one that the model is to write.
        if text.is_empty() {
            continue;
        }
        match role.trim() {
            "system" => request.system.push(SystemContentBlock::from(text)),
            "assistant" => request.messages.push(Message::assistant(text)),
            _ => request.messages.push(Message::user(text)),
        }
    }
    request
}

/// `<s>[INST] <<SYS>>…<</SYS>> … [/INST] …</s>`, as often as there are turns.
fn instructions(prompt: &str) -> ConverseRequest {
    let mut request = ConverseRequest::new("");
    for turn in prompt.split("[INST]").skip(1) {
        let (asked, answered) = turn.split_once("[/INST]").unwrap_or((turn, ""));
        let asked = match asked.split_once("<<SYS>>").and_then(|(_, rest)| rest.split_once("<</SYS>>")) {
            Some((system, asked)) => {
                request.system.push(SystemContentBlock::from(system.trim()));
                asked
            }
            None => asked,
        };
        request.messages.push(Message::user(asked.trim()));
        let answered = answered.replace("</s>", "").replace("<s>", "");
        if !answered.trim().is_empty() {
            request.messages.push(Message::assistant(answered.trim()));
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_read_from_their_marks() {
        let expected = ConverseRequest::new("").system("Be brief.").user("Hi").assistant("Hello.").user("Bye");
        assert_eq!(
            turns(
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
                 <|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
            expected
        );
        assert_eq!(
            turns("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]"),
            expected
        );
        assert_eq!(turns("Tell me [INST"), ConverseRequest::new("").user("Tell me [INST"));
    }

    #[test]
    fn raw_prompts_stay_as_they_are() {
        let request = request("<s>[INST] Hi [/INST]".into(), true);
        assert_eq!(request.messages, [Message::user("<s>[INST] Hi [/INST]")]);
        assert_eq!(request.additional_model_request_fields.unwrap()["raw_prompt"], true);
    }
}
