//! `Retrieve`: passages of a knowledge base that answer a query.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::ImageFormat;
use crate::wire::{Blob, label};

label! {
    /// Kind of a query.
    pub enum KnowledgeBaseQueryType {
        /// Text.
        Text = "TEXT",
        /// A picture.
        Image = "IMAGE",
    }

    /// How passages are found.
    pub enum SearchType {
        /// By meaning and by words.
        Hybrid = "HYBRID",
        /// By meaning.
        Semantic = "SEMANTIC",
    }

    /// Who chooses the model that ranks anew.
    pub enum RerankingModelType {
        /// The caller.
        Custom = "CUSTOM",
        /// The serving side.
        Managed = "MANAGED",
        /// There is none.
        None = "NONE",
    }

    /// How passages are ranked anew.
    pub enum RerankingConfigurationType {
        /// By a model.
        BedrockRerankingModel = "BEDROCK_RERANKING_MODEL",
    }

    /// Which metadata the ranking model sees.
    pub enum RerankingMetadataSelectionMode {
        /// Some.
        Selective = "SELECTIVE",
        /// All.
        All = "ALL",
    }

    /// Type of a metadata attribute.
    pub enum AttributeType {
        /// Text.
        String = "STRING",
        /// A number.
        Number = "NUMBER",
        /// True or false.
        Boolean = "BOOLEAN",
        /// Several texts.
        StringList = "STRING_LIST",
    }

    /// What a passage is.
    pub enum RetrievalResultContentType {
        /// Text.
        Text = "TEXT",
        /// A picture.
        Image = "IMAGE",
        /// A row of a table.
        Row = "ROW",
        /// Sound.
        Audio = "AUDIO",
        /// A video.
        Video = "VIDEO",
    }

    /// Type of a column of a row.
    pub enum RetrievalResultContentColumnType {
        /// Bytes.
        Blob = "BLOB",
        /// True or false.
        Boolean = "BOOLEAN",
        /// A floating-point number.
        Double = "DOUBLE",
        /// Nothing.
        Null = "NULL",
        /// A whole number.
        Long = "LONG",
        /// Text.
        String = "STRING",
    }

    /// Kind of the place a document comes from.
    pub enum RetrievalResultLocationType {
        /// An object store.
        S3 = "S3",
        /// The web.
        Web = "WEB",
        /// Confluence.
        Confluence = "CONFLUENCE",
        /// Salesforce.
        Salesforce = "SALESFORCE",
        /// SharePoint.
        SharePoint = "SHAREPOINT",
        /// Named by whoever put it in.
        Custom = "CUSTOM",
        /// Kendra.
        Kendra = "KENDRA",
        /// A database.
        Sql = "SQL",
        /// OneDrive.
        OneDrive = "ONEDRIVE",
        /// Google Drive.
        GoogleDrive = "GOOGLEDRIVE",
    }

    /// Whether a guardrail changed or blocked something in a knowledge base's answer. (The service's shape is spelt
    /// `GuadrailAction`.)
    pub enum KnowledgeBaseGuardrailAction {
        /// It did.
        Intervened = "INTERVENED",
        /// It did not.
        None = "NONE",
    }
}

/// A request of `Retrieve`.
///
/// In HTTP the knowledge base's id stands in the path; elsewhere it is a field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveRequest {
    /// The knowledge base.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub knowledge_base_id: String,
    /// What to look for.
    pub retrieval_query: KnowledgeBaseQuery,
    /// How to look for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_configuration: Option<KnowledgeBaseRetrievalConfiguration>,
    /// The guardrail to apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_configuration: Option<KnowledgeBaseGuardrailConfiguration>,
    /// Continues an earlier answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_context: Option<UserContext>,
}

impl RetrieveRequest {
    /// Looks for `text` in a knowledge base.
    pub fn new(knowledge_base_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            knowledge_base_id: knowledge_base_id.into(),
            retrieval_query: KnowledgeBaseQuery::text(text),
            ..Self::default()
        }
    }

    fn vector_search(&mut self) -> &mut KnowledgeBaseVectorSearchConfiguration {
        self.retrieval_configuration
            .get_or_insert_with(Default::default)
            .vector_search_configuration
            .get_or_insert_with(Default::default)
    }

    /// At most this many passages, 1–100.
    pub fn number_of_results(mut self, number: u32) -> Self {
        self.vector_search().number_of_results = Some(number);
        self
    }

    /// Only passages whose metadata pass.
    pub fn filter(mut self, filter: RetrievalFilter) -> Self {
        self.vector_search().filter = Some(filter);
        self
    }

    /// How passages are found.
    pub fn search_type(mut self, search_type: SearchType) -> Self {
        self.vector_search().override_search_type = Some(search_type);
        self
    }
}

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseQuery {
    /// The kind. Default: text.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<KnowledgeBaseQueryType>,
    /// A text, at most 20,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<InputImage>,
}

impl KnowledgeBaseQuery {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }
}

/// A picture to look for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputImage {
    /// How it is encoded.
    pub format: ImageFormat,
    /// The encoded file.
    pub inline_content: Blob,
}

/// The guardrail of a knowledge base's answer. (The service calls it `GuardrailConfiguration` too, with other fields.)
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseGuardrailConfiguration {
    /// Id of the guardrail.
    pub guardrail_id: String,
    /// `DRAFT` or a number from 1.
    pub guardrail_version: String,
}

/// Who asks, for stores that know who may read what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserContext {
    /// The user.
    pub user_id: String,
}

/// How to look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseRetrievalConfiguration {
    /// In a knowledge base of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_search_configuration: Option<KnowledgeBaseVectorSearchConfiguration>,
    /// In a knowledge base whose index the serving side chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_search_configuration: Option<ManagedSearchConfiguration>,
}

/// How to look in a knowledge base of vectors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseVectorSearchConfiguration {
    /// Only passages whose metadata pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<RetrievalFilter>,
    /// Filters that a model derives from the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicit_filter_configuration: Option<ImplicitFilterConfiguration>,
    /// At most this many passages, 1–100. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_results: Option<u32>,
    /// How passages are found. Default: the knowledge base's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_search_type: Option<SearchType>,
    /// A second ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranking_configuration: Option<RerankingConfiguration>,
}

/// How to look in a knowledge base whose index the serving side chooses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedSearchConfiguration {
    /// Only passages whose metadata pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<RetrievalFilter>,
    /// At most this many passages, 1–100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_results: Option<u32>,
    /// A second ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranking_configuration: Option<RerankingConfiguration>,
    /// Who chooses the model of the second ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranking_model_type: Option<RerankingModelType>,
}

/// A condition on the metadata of a passage.
///
/// A passage without the attribute fails every condition but [`NotEquals`](Self::NotEquals) and [`NotIn`](Self::NotIn).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RetrievalFilter {
    /// All of them, at least two.
    AndAll(Vec<RetrievalFilter>),
    /// One of them, at least two.
    OrAll(Vec<RetrievalFilter>),
    /// The attribute is the value.
    Equals(FilterAttribute),
    /// The attribute is absent or not the value.
    NotEquals(FilterAttribute),
    /// The number is greater.
    GreaterThan(FilterAttribute),
    /// The number is greater or the same.
    GreaterThanOrEquals(FilterAttribute),
    /// The number is less.
    LessThan(FilterAttribute),
    /// The number is less or the same.
    LessThanOrEquals(FilterAttribute),
    /// The attribute is in the list.
    In(FilterAttribute),
    /// The attribute is absent or not in the list.
    NotIn(FilterAttribute),
    /// The text begins with the value.
    StartsWith(FilterAttribute),
    /// The list has the value in it.
    ListContains(FilterAttribute),
    /// The text has the value in it, or a text of the list has.
    StringContains(FilterAttribute),
}

impl RetrievalFilter {
    /// The attribute is the value.
    pub fn equals(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Equals(FilterAttribute { key: key.into(), value: value.into() })
    }
}

/// An attribute and what it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterAttribute {
    /// Name of the attribute, 1–100 characters.
    pub key: String,
    /// What it is compared with.
    pub value: Value,
}

/// Filters that a model derives from the query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImplicitFilterConfiguration {
    /// What the model may filter by, 1–25.
    pub metadata_attributes: Vec<MetadataAttributeSchema>,
    /// The model.
    pub model_arn: String,
}

/// An attribute that a model may filter by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataAttributeSchema {
    /// Its name.
    pub key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: AttributeType,
    /// What it means.
    pub description: String,
}

/// A second ranking of what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RerankingConfiguration {
    /// How.
    #[serde(rename = "type")]
    pub kind: RerankingConfigurationType,
    /// By which model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bedrock_reranking_configuration: Option<BedrockRerankingConfiguration>,
}

impl RerankingConfiguration {
    /// Ranks by a model.
    pub fn model(model_arn: impl Into<String>) -> Self {
        Self {
            kind: RerankingConfigurationType::BedrockRerankingModel,
            bedrock_reranking_configuration: Some(BedrockRerankingConfiguration {
                model_configuration: BedrockRerankingModelConfiguration {
                    model_arn: model_arn.into(),
                    additional_model_request_fields: BTreeMap::new(),
                },
                number_of_reranked_results: None,
                metadata_configuration: None,
            }),
        }
    }
}

/// The model of a second ranking.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BedrockRerankingConfiguration {
    /// The model.
    pub model_configuration: BedrockRerankingModelConfiguration,
    /// At most this many passages are kept, 1–100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_reranked_results: Option<u32>,
    /// Which metadata the model sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_configuration: Option<MetadataConfigurationForReranking>,
}

/// A ranking model and its parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BedrockRerankingModelConfiguration {
    /// The model.
    pub model_arn: String,
    /// Parameters that only this model knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_model_request_fields: BTreeMap<String, Value>,
}

/// Which metadata a ranking model sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataConfigurationForReranking {
    /// Some or all.
    pub selection_mode: RerankingMetadataSelectionMode,
    /// Which, if some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selective_mode_configuration: Option<RerankingMetadataSelectiveModeConfiguration>,
}

/// Some of the metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RerankingMetadataSelectiveModeConfiguration {
    /// All but these, 1–100.
    FieldsToExclude(Vec<FieldForReranking>),
    /// These, 1–100.
    FieldsToInclude(Vec<FieldForReranking>),
}

/// An attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldForReranking {
    /// Its name.
    pub field_name: String,
}

/// The answer of `Retrieve`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrieveResponse {
    /// The passages, best first.
    pub retrieval_results: Vec<KnowledgeBaseRetrievalResult>,
    /// Whether a guardrail intervened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail_action: Option<KnowledgeBaseGuardrailAction>,
    /// Asks for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// One passage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KnowledgeBaseRetrievalResult {
    /// The passage.
    pub content: RetrievalResultContent,
    /// Where its document comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<RetrievalResultLocation>,
    /// How well it fits; higher is better. Scores of different searches do not compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The attributes of its document.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
    /// Its document, 1–1,825 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
}

/// What a passage holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultContent {
    /// Its kind. Default: text.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<RetrievalResultContentType>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A picture, as a data URI in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_content: Option<String>,
    /// A row of a table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row: Vec<RetrievalResultContentColumn>,
    /// Sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioSegment>,
    /// A video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoSegment>,
}

impl RetrievalResultContent {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: Some(RetrievalResultContentType::Text), text: Some(text.into()), ..Self::default() }
    }
}

/// One column of a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultContentColumn {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column_name: Option<String>,
    /// Its value, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column_value: Option<String>,
    /// Its type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<RetrievalResultContentColumnType>,
}

/// A piece of sound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioSegment {
    /// The object it is in.
    pub s3_uri: String,
    /// What is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcription: Option<String>,
}

/// A piece of video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoSegment {
    /// The object it is in.
    pub s3_uri: String,
    /// What is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
}

/// Where a document comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultLocation {
    /// Which of the fields is set.
    #[serde(rename = "type")]
    pub kind: RetrievalResultLocationType,
    /// In an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3_location: Option<RetrievalResultS3Location>,
    /// On the web.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_location: Option<RetrievalResultWebLocation>,
    /// In Confluence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confluence_location: Option<RetrievalResultConfluenceLocation>,
    /// In Salesforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salesforce_location: Option<RetrievalResultSalesforceLocation>,
    /// In SharePoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_point_location: Option<RetrievalResultSharePointLocation>,
    /// Where whoever put it in says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_document_location: Option<RetrievalResultCustomDocumentLocation>,
    /// In Kendra.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kendra_document_location: Option<RetrievalResultKendraDocumentLocation>,
    /// In a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql_location: Option<RetrievalResultSqlLocation>,
    /// In OneDrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_drive_location: Option<RetrievalResultOneDriveLocation>,
    /// In Google Drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_drive_location: Option<RetrievalResultGoogleDriveLocation>,
}

impl RetrievalResultLocation {
    /// A location whose place is not set.
    pub fn new(kind: RetrievalResultLocationType) -> Self {
        Self {
            kind,
            s3_location: None,
            web_location: None,
            confluence_location: None,
            salesforce_location: None,
            share_point_location: None,
            custom_document_location: None,
            kendra_document_location: None,
            sql_location: None,
            one_drive_location: None,
            google_drive_location: None,
        }
    }

    /// A document that whoever put it in calls `id`, such as a file's path.
    pub fn custom(id: impl Into<String>) -> Self {
        Self {
            custom_document_location: Some(RetrievalResultCustomDocumentLocation { id: Some(id.into()) }),
            ..Self::new(RetrievalResultLocationType::Custom)
        }
    }

    /// An object.
    pub fn s3(uri: impl Into<String>) -> Self {
        Self {
            s3_location: Some(RetrievalResultS3Location { uri: Some(uri.into()) }),
            ..Self::new(RetrievalResultLocationType::S3)
        }
    }

    /// A page of the web.
    pub fn web(url: impl Into<String>) -> Self {
        Self {
            web_location: Some(RetrievalResultWebLocation { url: Some(url.into()) }),
            ..Self::new(RetrievalResultLocationType::Web)
        }
    }

    /// The address, id or query, whichever is set.
    pub fn address(&self) -> Option<&str> {
        let all = [
            self.s3_location.as_ref().and_then(|place| place.uri.as_deref()),
            self.web_location.as_ref().and_then(|place| place.url.as_deref()),
            self.confluence_location.as_ref().and_then(|place| place.url.as_deref()),
            self.salesforce_location.as_ref().and_then(|place| place.url.as_deref()),
            self.share_point_location.as_ref().and_then(|place| place.url.as_deref()),
            self.custom_document_location.as_ref().and_then(|place| place.id.as_deref()),
            self.kendra_document_location.as_ref().and_then(|place| place.uri.as_deref()),
            self.sql_location.as_ref().and_then(|place| place.query.as_deref()),
            self.one_drive_location.as_ref().and_then(|place| place.url.as_deref()),
            self.google_drive_location.as_ref().and_then(|place| place.url.as_deref()),
        ];
        all.into_iter().flatten().next()
    }
}

/// A document in an object store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultS3Location {
    /// `s3://bucket/key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// A document on the web.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultWebLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A document in Confluence.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultConfluenceLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A document in Salesforce.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultSalesforceLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A document in SharePoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultSharePointLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A document named by whoever put it in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultCustomDocumentLocation {
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A document in Kendra.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultKendraDocumentLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// Rows of a database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultSqlLocation {
    /// The query that gives them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// A document in OneDrive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultOneDriveLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A document in Google Drive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalResultGoogleDriveLocation {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
