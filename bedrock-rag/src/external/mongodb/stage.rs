//! What the server is asked, and what a record looks like there.

use bedrock_core::{Error, ScoredRecord, VectorRecord};
use mongodb::bson::binary::Vector;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawDocumentBuf, doc};
use serde::Deserialize;

use super::super::query::{Query, numbers, tokens};
use super::super::{check_dimensions, unit};
use super::interval::{interval_tokens, number_tokens};

/// A token that every record has, so that the field is never missing: what a negation says of one that is Atlas does not tell.
const EVERY: &str = "all";

/// What `$vectorSearch` considers for each record that is wanted, as its documentation advises, and at most.
const CANDIDATES: usize = 20;
pub(super) const MOST: usize = 10_000;

fn bson_vector(vector: &[f32]) -> Binary {
    Binary::from(Vector::Float32(unit(vector)))
}

/// A record as it is kept.
pub(super) fn document(record: &VectorRecord) -> Result<Document, Error> {
    let mut attributes = vec![EVERY.to_owned()];
    attributes.extend(tokens(&record.metadata));
    attributes.extend(numbers(&record.metadata).iter().flat_map(|(field, number)| number_tokens(field, *number)));
    Ok(doc! {
        "_id": &record.id,
        "vector": bson_vector(&record.vector),
        "text": &record.text,
        // As text: JSON's numbers, and keys with dots, dollars and zero bytes, are not all BSON's.
        "metadata": serde_json::to_string(&record.metadata).map_err(Error::backend)?,
        "attributes": attributes,
    })
}

/// The least text that is greater than all that begin so.
fn after(start: &str) -> String {
    let mut text = start.to_owned();
    // Tokens are ASCII letters and digits, behind each of which there is a character.
    let last = text.pop().map_or('\0', |last| char::from(last as u8 + 1));
    text.push(last);
    text
}

/// A filter as `$vectorSearch` has it. `None`: everything.
fn vector_filter(query: &Query) -> Option<Document> {
    let each = |all: &[Query]| all.iter().map(vector_filter).collect::<Vec<_>>();
    Some(match query {
        Query::All | Query::Infix(..) => return None,
        Query::Nothing => doc! {"attributes": {"$in": ["none"]}},
        Query::Tokens(any) => doc! {"attributes": {"$in": any}},
        Query::NoTokens(none) => doc! {"attributes": {"$nin": none}},
        // Of a list, one element may be above the one bound and another below the other: more may pass than begins so.
        Query::Prefix(start) => doc! {"attributes": {"$gte": start, "$lt": after(start)}},
        Query::Number { field, low, high } => doc! {"attributes": {"$in": interval_tokens(field, *low, *high)}},
        Query::And(all) => {
            let all: Vec<Document> = each(all).into_iter().flatten().collect();
            if all.is_empty() {
                return None;
            }
            doc! {"$and": all}
        }
        // If one of them is everything, all of it is.
        Query::Or(any) => doc! {"$or": each(any).into_iter().collect::<Option<Vec<_>>>()?},
    })
}

/// The same as an operator of `$search`.
fn text_filter(query: &Query) -> Document {
    let has = |any: Vec<String>| doc! {"in": {"path": "attributes", "value": any}};
    let each = |all: &[Query]| all.iter().map(text_filter).collect::<Vec<_>>();
    match query {
        Query::All | Query::Prefix(_) | Query::Infix(..) => has(vec![EVERY.to_owned()]),
        Query::Nothing => has(vec!["none".to_owned()]),
        Query::Tokens(any) => has(any.clone()),
        Query::NoTokens(none) => {
            doc! {"compound": {"filter": [has(vec![EVERY.to_owned()])], "mustNot": [has(none.clone())]}}
        }
        Query::Number { field, low, high } => {
            let any = interval_tokens(field, *low, *high);
            has(if any.is_empty() { vec!["none".to_owned()] } else { any })
        }
        Query::And(all) => doc! {"compound": {"filter": each(all)}},
        Query::Or(any) => doc! {"compound": {"should": each(any), "minimumShouldMatch": 1}},
    }
}

/// The stages that find the `limit` nearest.
pub(super) fn nearest(
    index: &str,
    vector: &[f32],
    query: &Query,
    limit: usize,
    exact: bool,
    vectors: bool,
) -> [Document; 2] {
    let mut search = doc! {"index": index, "path": "vector", "queryVector": bson_vector(vector), "limit": limit as i32};
    if exact {
        search.insert("exact", true);
    } else {
        search.insert("numCandidates", (limit * CANDIDATES).min(MOST) as i32);
    }
    if let Some(filter) = vector_filter(query) {
        search.insert("filter", filter);
    }
    let mut fields = doc! {"text": 1, "metadata": 1, "score": {"$meta": "vectorSearchScore"}};
    if vectors {
        fields.insert("vector", 1);
    }
    [doc! {"$vectorSearch": search}, doc! {"$project": fields}]
}

/// The stages that find the `limit` records that fit these words best.
pub(super) fn by_words(index: &str, words: &str, query: &Query, limit: usize) -> [Document; 3] {
    let must = doc! {"text": {"path": "text", "query": words}};
    let mut compound = doc! {"must": [must]};
    if *query != Query::All {
        compound.insert("filter", vec![text_filter(query)]);
    }
    [
        doc! {"$search": {"index": index, "compound": compound}},
        doc! {"$limit": limit as i32},
        doc! {"$project": {"text": 1, "metadata": 1, "score": {"$meta": "searchScore"}}},
    ]
}

/// The definitions of the two indexes, by vector and by words.
pub(super) fn definitions(dimensions: usize) -> [Document; 2] {
    let vector = doc! {"type": "vector", "path": "vector", "numDimensions": dimensions as i32, "similarity": "cosine"};
    let fields = doc! {"text": {"type": "string"}, "attributes": {"type": "token"}};
    [
        doc! {"fields": [vector, {"type": "filter", "path": "attributes"}]},
        doc! {"mappings": {"dynamic": false, "fields": fields}},
    ]
}

/// An index as the server describes it.
#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    #[serde(default)]
    pub(super) queryable: bool,
    #[serde(rename = "latestDefinition", default)]
    definition: Definition,
}

#[derive(Default, Deserialize)]
struct Definition {
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(rename = "numDimensions")]
    dimensions: Option<f64>,
    similarity: Option<String>,
}

impl Index {
    /// That it is an index of these vectors and their attributes.
    pub(super) fn check(&self, dimensions: usize) -> Result<(), Error> {
        let field = |kind: &str, path: &str| {
            let mut fields = self.definition.fields.iter();
            fields.find(|field| field.kind == kind && field.path == path)
        };
        let name = &self.name;
        let (Some(vector), Some(_)) = (field("vector", "vector"), field("filter", "attributes")) else {
            return Err(Error::validation(format!("the index {name} is not of the fields vector and attributes")));
        };
        check_dimensions(&format!("the index {name}"), vector.dimensions.map(|found| found as u64), dimensions)?;
        // Vectors have length 1, so both of these give the cosine.
        match vector.similarity.as_deref() {
            Some("cosine" | "dotProduct") => Ok(()),
            other => Err(Error::validation(format!("the index {name} has similarity {other:?}, not cosine"))),
        }
    }
}

/// A record as the server gives it back, with its score as the server has it.
pub(super) fn read_record(found: &RawDocumentBuf) -> Option<ScoredRecord> {
    let text = |field: &str| found.get_str(field).ok().map(str::to_owned);
    let vector = match found.get("vector").ok()? {
        Some(value) => {
            let binary = value.as_binary().filter(|binary| binary.subtype == BinarySubtype::Vector)?;
            let Vector::Float32(vector) = Vector::from_bytes(binary.bytes).ok()? else { return None };
            vector
        }
        None => Vec::new(),
    };
    let score = match Bson::try_from(found.get("score").ok()??).ok()? {
        Bson::Double(score) => score as f32,
        Bson::Int32(score) => score as f32,
        Bson::Int64(score) => score as f32,
        _ => return None,
    };
    let record = VectorRecord {
        id: text("_id")?,
        vector,
        text: text("text")?,
        metadata: serde_json::from_str(found.get_str("metadata").ok()?).ok()?,
    };
    (score.is_finite() && record.vector.iter().all(|x| x.is_finite())).then_some(ScoredRecord { record, score })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::query::compile;
    use super::*;

    #[test]
    fn filters_by_hand() {
        let query = |filter: Value| compile(Some(&serde_json::from_value(filter).unwrap()), super::super::PATTERNS);
        let (is, not) =
            (json!({"equals": {"key": "a", "value": "x"}}), json!({"notEquals": {"key": "a", "value": true}}));
        let both = query(json!({"andAll": [is, not]}));
        let has = doc! {"attributes": {"$in": ["XaXsx"]}};
        let has_not = doc! {"attributes": {"$nin": ["XaXb1"]}};
        assert_eq!(vector_filter(&both), Some(doc! {"$and": [has, has_not]}));
        let begins = query(json!({"startsWith": {"key": "a", "value": "pe"}}));
        assert_eq!(vector_filter(&begins), Some(doc! {"attributes": {"$gte": "XaXspe", "$lt": "XaXspf"}}));
        let has = |any: &[&str]| doc! {"in": {"path": "attributes", "value": any}};
        assert_eq!(text_filter(&query(is)), has(&["XaXsx"]));
        assert_eq!(
            text_filter(&query(not)),
            doc! {"compound": {"filter": [has(&["all"])], "mustNot": [has(&["XaXb1"])]}}
        );
        assert_eq!(vector_filter(&Query::Or(vec![Query::All, begins])), None);
        assert_eq!(vector_filter(&Query::And(vec![Query::All])), None);
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        let good = doc! {"_id": "a", "text": "t", "metadata": "{\"n\":18446744073709551615}", "score": 0.5,
        "vector": bson_vector(&[3.0, 4.0])};
        let read = |document: &Document| read_record(&RawDocumentBuf::try_from(document).unwrap());
        let found = read(&good).unwrap();
        assert_eq!((found.record.vector, found.score), (vec![0.6, 0.8], 0.5));
        assert_eq!(found.record.metadata["n"], json!(u64::MAX));
        for (field, bad) in [
            ("_id", Bson::Int32(1)),
            ("text", Bson::Null),
            ("metadata", "[]".into()),
            ("metadata", "{".into()),
            ("score", "high".into()),
            ("score", f64::NAN.into()),
            ("vector", vec![1.0].into()),
            ("vector", Binary::from(Vector::Int8(vec![1, 2])).into()),
            ("vector", Binary { subtype: BinarySubtype::Vector, bytes: vec![0x27, 0, 1, 2, 3] }.into()),
            ("vector", Binary::from(Vector::Float32(vec![f32::NAN, 1.0])).into()),
        ] {
            let mut document = good.clone();
            document.insert(field, bad);
            assert!(read(&document).is_none(), "{document}");
            document.remove(field);
            assert!(read(&document).is_none() || field == "vector", "{document}");
        }
    }
}
