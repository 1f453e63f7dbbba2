//! Content filters of pictures: a model from outside, behind [`ImageClassifier`], says what a picture shows.

use std::fmt;
use std::sync::Arc;

use bedrock_core::{
    BoxFuture, Error, GuardrailContentFilterType as Type, GuardrailImageBlock, GuardrailImageFormat,
    GuardrailImageSource, ImageFormat, ImageSource, LabelScore,
};

use crate::classifier::LabelMap;
use crate::policy::content::{CATEGORIES, TYPES};

/// Bytes of the largest picture that is judged: 4 MiB, as in the service.
const BYTES: usize = 4 << 20;
/// Most pictures of one request that are judged, as in the service.
pub(crate) const PICTURES: usize = 20;

/// A model that scores labels for a picture: a network that looks at pixels, or a service that does.
pub trait ImageClassifier: Send + Sync {
    /// The score of every label of the model, 0–1. The bytes are a file whose first bytes are those of `format`; that the rest can be decoded, and to how
    /// many pixels, is not known.
    ///
    /// # Errors
    /// If the picture can't be decoded, or the model fails. Whether it then passes is for [`OnFailure`](crate::OnFailure) to say.
    fn classify<'a>(
        &'a self,
        format: &'a GuardrailImageFormat,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<Vec<LabelScore>, Error>>;
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: ImageClassifier + ?Sized> ImageClassifier for $pointer<T> {
            fn classify<'a>(
                &'a self,
                format: &'a GuardrailImageFormat,
                bytes: &'a [u8],
            ) -> BoxFuture<'a, Result<Vec<LabelScore>, Error>> {
                (**self).classify(format, bytes)
            }
        }
    )*};
}
forward!(Arc, Box);

/// A classifier of pictures whose labels stand for content categories: what content filters whose modalities have `IMAGE` ask.
///
/// Unless [`label`](Self::label) says otherwise, its labels are the service's own: `HATE`, `INSULTS`, `SEXUAL`, `VIOLENCE`, `MISCONDUCT`, `PROMPT_ATTACK`.
#[derive(Clone)]
pub struct ImageContentClassifier {
    model: Arc<dyn ImageClassifier>,
    map: LabelMap,
}

impl fmt::Debug for ImageContentClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageContentClassifier").field("map", &self.map).finish_non_exhaustive()
    }
}

impl ImageContentClassifier {
    /// A classifier with the service's labels.
    pub fn new(model: impl ImageClassifier + 'static) -> Self {
        Self { model: Arc::new(model), map: LabelMap::default() }
    }

    /// A label of the model, whatever its case, is a score of `category`. The first one that is named takes the place of the service's labels. Several labels may be
    /// of one category: the largest score counts; one label may be of several. Labels that are not named are ignored.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>, category: Type) -> Self {
        self.map.labels.push((label.into(), category));
        self
    }

    /// Scores from which confidence is low, medium and high. Default: 0.3, 0.5, 0.9.
    #[must_use]
    pub fn confidence(mut self, steps: [f32; 3]) -> Self {
        self.map.steps = steps;
        self
    }

    /// The map with the service's labels where none was given.
    pub(crate) fn map(&self) -> LabelMap {
        let mut map = self.map.clone();
        if map.labels.is_empty() {
            map.labels.extend(TYPES.iter().map(|kind| (kind.as_str().to_owned(), kind.clone())));
        }
        map
    }

    /// Scores of each category that is wanted.
    ///
    /// # Errors
    /// Those of the model; [`Error::Validation`] if it leaves out a category or scores with no number.
    pub(crate) async fn scores(
        &self,
        picture: &Picture<'_>,
        wanted: [bool; CATEGORIES],
    ) -> Result<[f32; CATEGORIES], Error> {
        let known = self.map().read(self.model.classify(&picture.format, picture.bytes).await?)?;
        let mut scores = [0.0; CATEGORIES];
        for category in (0..CATEGORIES).filter(|category| wanted[*category]) {
            // A model whose labels are spelt otherwise would pass everything in silence.
            scores[category] = known[category].ok_or_else(|| {
                let kind = TYPES[category].as_str();
                Error::validation(format!("the image classifier of the guardrail gave no label of {kind}"))
            })?;
        }
        Ok(scores)
    }
}

/// A picture that can be judged.
pub(crate) struct Picture<'a> {
    format: GuardrailImageFormat,
    bytes: &'a [u8],
}

impl<'a> Picture<'a> {
    /// # Errors
    /// Why it can't be judged.
    pub(crate) fn new(format: &GuardrailImageFormat, bytes: &'a [u8]) -> Result<Self, String> {
        let magic: &[u8] = match format {
            GuardrailImageFormat::Png => b"\x89PNG\r\n\x1a\n",
            GuardrailImageFormat::Jpeg => b"\xff\xd8\xff",
            other => return Err(format!("is neither PNG nor JPEG (format {})", other.as_str())),
        };
        if bytes.len() > BYTES {
            return Err(format!("has {} bytes, the limit is {BYTES}", bytes.len()));
        }
        // Whoever looks at it later may go by the bytes and not by the name.
        if !bytes.starts_with(magic) {
            return Err(format!("does not begin as {} does", format.as_str()));
        }
        Ok(Self { format: format.clone(), bytes })
    }

    /// Guarded content.
    ///
    /// # Errors
    /// As [`Picture::new`].
    pub(crate) fn of_guarded(block: &'a GuardrailImageBlock) -> Result<Self, String> {
        match &block.source {
            GuardrailImageSource::Bytes(bytes) => Self::new(&block.format, bytes.as_bytes()),
            _ => Err("lies elsewhere".to_owned()),
        }
    }

    /// A picture of a message.
    ///
    /// # Errors
    /// As [`Picture::new`].
    pub(crate) fn of(format: &ImageFormat, source: &'a ImageSource) -> Result<Self, String> {
        match source {
            ImageSource::Bytes(bytes) => Self::new(&GuardrailImageFormat::from(format.as_str()), bytes.as_bytes()),
            _ => Err("lies elsewhere".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_judged_is_what_it_says_and_not_too_large() {
        let png = |length: usize| {
            let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
            file.resize(length, 0);
            file
        };
        assert!(Picture::new(&GuardrailImageFormat::Png, &png(BYTES)).is_ok());
        assert!(Picture::new(&GuardrailImageFormat::Jpeg, b"\xff\xd8\xff\xe0").is_ok());
        let why = |format, bytes: &[u8]| Picture::new(format, bytes).err().unwrap();
        assert!(why(&GuardrailImageFormat::Png, &png(BYTES + 1)).contains("the limit is 4194304"));
        assert!(why(&GuardrailImageFormat::Jpeg, &png(20)).contains("does not begin as jpeg"));
        assert!(why(&GuardrailImageFormat::Png, b"").contains("does not begin"));
        assert!(why(&GuardrailImageFormat::from("gif"), b"GIF89a").contains("format gif"));
    }
}
