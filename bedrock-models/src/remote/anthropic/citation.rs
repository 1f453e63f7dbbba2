//! Citations, there and back.

use bedrock_core::{
    Citation, CitationLocation, CitationSourceContent, CitationSourceContentDelta, CitationsDelta,
    DocumentCharLocation, DocumentChunkLocation, DocumentPageLocation, SearchResultLocation,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// A citation of an answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Incoming {
    #[serde(rename = "char_location")]
    Characters {
        cited_text: String,
        document_index: u32,
        document_title: Option<String>,
        start_char_index: u32,
        end_char_index: u32,
    },
    #[serde(rename = "page_location")]
    Pages {
        cited_text: String,
        document_index: u32,
        document_title: Option<String>,
        start_page_number: u32,
        end_page_number: u32,
    },
    #[serde(rename = "content_block_location")]
    Pieces {
        cited_text: String,
        document_index: u32,
        document_title: Option<String>,
        start_block_index: u32,
        end_block_index: u32,
    },
    #[serde(rename = "search_result_location")]
    SearchResult {
        cited_text: String,
        search_result_index: u32,
        source: String,
        title: Option<String>,
        start_block_index: u32,
        end_block_index: u32,
    },
}

/// A citation as the service has it.
pub(super) fn incoming(value: Value) -> Result<CitationsDelta, serde_json::Error> {
    let (text, title, source, location) = match Incoming::deserialize(value)? {
        Incoming::Characters { cited_text, document_index, document_title, start_char_index, end_char_index } => {
            let (start, end) = (Some(start_char_index), Some(end_char_index));
            let location = DocumentCharLocation { document_index: Some(document_index), start, end };
            (cited_text, document_title, None, CitationLocation::DocumentChar(location))
        }
        Incoming::Pages { cited_text, document_index, document_title, start_page_number, end_page_number } => {
            let (start, end) = (Some(start_page_number), Some(end_page_number));
            let location = DocumentPageLocation { document_index: Some(document_index), start, end };
            (cited_text, document_title, None, CitationLocation::DocumentPage(location))
        }
        Incoming::Pieces { cited_text, document_index, document_title, start_block_index, end_block_index } => {
            let (start, end) = (Some(start_block_index), Some(end_block_index));
            let location = DocumentChunkLocation { document_index: Some(document_index), start, end };
            (cited_text, document_title, None, CitationLocation::DocumentChunk(location))
        }
        Incoming::SearchResult {
            cited_text,
            search_result_index,
            source,
            title,
            start_block_index,
            end_block_index,
        } => {
            let (start, end) = (Some(start_block_index), Some(end_block_index));
            let location = SearchResultLocation { search_result_index: Some(search_result_index), start, end };
            (cited_text, title, Some(source), CitationLocation::SearchResultLocation(location))
        }
    };
    let source_content = vec![CitationSourceContentDelta { text: Some(text) }];
    Ok(CitationsDelta { title, source, source_content, location: Some(location) })
}

/// A citation as Anthropic has it; `None` if it lacks what that must have.
pub(super) fn outgoing(citation: &Citation) -> Option<Value> {
    let texts = citation.source_content.iter().map(|content| match content {
        CitationSourceContent::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text = texts.collect::<Option<Vec<_>>>()?.concat();
    let title = &citation.title;
    Some(match citation.location.as_ref()? {
        CitationLocation::DocumentChar(place) => json!({
            "type": "char_location", "cited_text": text, "document_index": place.document_index?,
            "document_title": title, "start_char_index": place.start?, "end_char_index": place.end?,
        }),
        CitationLocation::DocumentPage(place) => json!({
            "type": "page_location", "cited_text": text, "document_index": place.document_index?,
            "document_title": title, "start_page_number": place.start?, "end_page_number": place.end?,
        }),
        CitationLocation::DocumentChunk(place) => json!({
            "type": "content_block_location", "cited_text": text, "document_index": place.document_index?,
            "document_title": title, "start_block_index": place.start?, "end_block_index": place.end?,
        }),
        CitationLocation::SearchResultLocation(place) => json!({
            "type": "search_result_location", "cited_text": text, "search_result_index": place.search_result_index?,
            "source": citation.source.as_ref()?, "title": title, "start_block_index": place.start?,
            "end_block_index": place.end?,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_goes_there_and_back() {
        for citation in [
            json!({"type": "char_location", "cited_text": "a", "document_index": 1, "document_title": "t", "start_char_index": 2, "end_char_index": 3}),
            json!({"type": "page_location", "cited_text": "a", "document_index": 1, "document_title": null, "start_page_number": 2, "end_page_number": 3}),
            json!({"type": "content_block_location", "cited_text": "a", "document_index": 1, "document_title": "t", "start_block_index": 2, "end_block_index": 3}),
            json!({"type": "search_result_location", "cited_text": "a", "search_result_index": 1, "source": "s", "title": "t", "start_block_index": 2, "end_block_index": 3}),
        ] {
            let read = incoming(citation.clone()).unwrap();
            assert_eq!(outgoing(&read.into()).unwrap(), citation);
        }
        assert!(incoming(json!({"type": "char_location"})).is_err());
        assert!(outgoing(&Citation::default()).is_none());
    }
}
