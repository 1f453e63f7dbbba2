//! Citations: which passage of which source supports a part of an answer.

use serde::{Deserialize, Serialize};

/// Whether the answer should cite the document or search result this belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CitationsConfig {
    /// True to ask for citations.
    pub enabled: bool,
}

/// Text of an answer with the sources that support it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CitationsContentBlock {
    /// The text that the citations support.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<CitationGeneratedContent>,
    /// The sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub citations: Vec<Citation>,
}

/// A piece of text that has citations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CitationGeneratedContent {
    /// The text.
    Text(String),
}

/// One source that supports a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Citation {
    /// Title of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Where the source comes from, such as its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The cited passages, word for word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_content: Vec<CitationSourceContent>,
    /// Where in the source the passages are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<CitationLocation>,
}

/// A cited passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CitationSourceContent {
    /// The text.
    Text(String),
}

/// Where a cited passage is. Ranges start inclusive and end exclusive; what is counted depends on the variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CitationLocation {
    /// A page of the web.
    Web(WebLocation),
    /// Characters of a document of the request.
    DocumentChar(DocumentCharLocation),
    /// Pages of a document of the request.
    DocumentPage(DocumentPageLocation),
    /// Content pieces of a document of the request.
    DocumentChunk(DocumentChunkLocation),
    /// Content pieces of a search result of the request.
    SearchResultLocation(SearchResultLocation),
}

/// A page of the web.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// A range of characters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentCharLocation {
    /// Which document of the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_index: Option<u32>,
    /// First character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// One past the last character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// A range of pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentPageLocation {
    /// Which document of the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_index: Option<u32>,
    /// First page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// One past the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// A range of the content pieces of a document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentChunkLocation {
    /// Which document of the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_index: Option<u32>,
    /// First piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// One past the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// A range of the content pieces of a search result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchResultLocation {
    /// Which search result of the request, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_result_index: Option<u32>,
    /// First piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
    /// One past the last piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

/// A passage that a search found, given to the model to answer from and to cite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchResultBlock {
    /// Where it comes from, such as an address.
    pub source: String,
    /// Its title.
    pub title: String,
    /// Its text, cut in pieces that citations can name.
    pub content: Vec<SearchResultContentBlock>,
    /// Whether the answer should cite it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citations: Option<CitationsConfig>,
}

/// One piece of a search result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchResultContentBlock {
    /// The text.
    pub text: String,
}
