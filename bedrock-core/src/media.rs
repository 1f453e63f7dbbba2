//! Pictures, documents, video and sound inside messages.

use serde::{Deserialize, Serialize};

use crate::citation::CitationsConfig;
use crate::wire::{Blob, label};

label! {
    /// Format of a picture.
    pub enum ImageFormat {
        /// PNG.
        Png = "png",
        /// JPEG.
        Jpeg = "jpeg",
        /// GIF.
        Gif = "gif",
        /// WebP.
        Webp = "webp",
    }

    /// Format of a document.
    pub enum DocumentFormat {
        /// PDF.
        Pdf = "pdf",
        /// Comma-separated values.
        Csv = "csv",
        /// Word 97–2003.
        Doc = "doc",
        /// Word 2007 and later.
        Docx = "docx",
        /// Excel 97–2003.
        Xls = "xls",
        /// Excel 2007 and later.
        Xlsx = "xlsx",
        /// HTML.
        Html = "html",
        /// Plain text.
        Txt = "txt",
        /// Markdown.
        Md = "md",
    }

    /// Container of a video.
    pub enum VideoFormat {
        /// Matroska.
        Mkv = "mkv",
        /// QuickTime.
        Mov = "mov",
        /// MPEG-4.
        Mp4 = "mp4",
        /// WebM.
        Webm = "webm",
        /// Flash video.
        Flv = "flv",
        /// MPEG.
        Mpeg = "mpeg",
        /// MPEG, the other spelling.
        Mpg = "mpg",
        /// Windows Media.
        Wmv = "wmv",
        /// 3GP.
        ThreeGp = "three_gp",
    }

    /// Container or encoding of sound.
    pub enum AudioFormat {
        /// MPEG layer III.
        Mp3 = "mp3",
        /// Opus.
        Opus = "opus",
        /// RIFF wave.
        Wav = "wav",
        /// AAC.
        Aac = "aac",
        /// FLAC.
        Flac = "flac",
        /// MPEG-4.
        Mp4 = "mp4",
        /// Ogg.
        Ogg = "ogg",
        /// Matroska with video.
        Mkv = "mkv",
        /// Matroska, sound alone.
        Mka = "mka",
        /// AAC, the other media type.
        XAac = "x-aac",
        /// MPEG-4 sound.
        M4a = "m4a",
        /// MPEG.
        Mpeg = "mpeg",
        /// MPEG, the other spelling.
        Mpga = "mpga",
        /// Raw samples.
        Pcm = "pcm",
        /// WebM.
        Webm = "webm",
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBlock {
    /// How `source` is encoded.
    pub format: ImageFormat,
    /// The picture.
    pub source: ImageSource,
    /// Set by a model that was asked for a picture and could not make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBlock>,
}

impl ImageBlock {
    /// A picture from its encoded bytes.
    pub fn new(format: ImageFormat, bytes: impl Into<Blob>) -> Self {
        Self { format, source: ImageSource::Bytes(bytes.into()), error: None }
    }
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ImageSource {
    /// The encoded file itself.
    Bytes(Blob),
    /// An object of a store.
    S3Location(S3Location),
}

/// Why a part of an answer could not be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBlock {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A document that the model shall read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocumentBlock {
    /// How the source is encoded. Absent for a source that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<DocumentFormat>,
    /// Neutral name, 1–200 letters, digits, single spaces, hyphens, round or square brackets. The model reads it, so a
    /// name taken from a user's file can carry instructions into the prompt: choose it yourself.
    pub name: String,
    /// The document.
    pub source: DocumentSource,
    /// What the model should know about the document besides its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether the answer should cite this document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub citations: Option<CitationsConfig>,
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DocumentSource {
    /// The encoded file itself.
    Bytes(Blob),
    /// An object of a store.
    S3Location(S3Location),
    /// The text itself.
    Text(String),
    /// The text, cut in pieces that citations can name.
    Content(Vec<DocumentContentBlock>),
}

/// One piece of a document given as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum DocumentContentBlock {
    /// The text.
    Text(String),
}

/// A video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoBlock {
    /// How `source` is encoded.
    pub format: VideoFormat,
    /// The video.
    pub source: VideoSource,
}

/// Where a video is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum VideoSource {
    /// The encoded file itself.
    Bytes(Blob),
    /// An object of a store.
    S3Location(S3Location),
}

/// Sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioBlock {
    /// How `source` is encoded.
    pub format: AudioFormat,
    /// The sound.
    pub source: AudioSource,
    /// Set by a model that was asked for sound and could not make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBlock>,
}

/// Where sound is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum AudioSource {
    /// The encoded file itself.
    Bytes(Blob),
    /// An object of a store.
    S3Location(S3Location),
}

/// An object in S3 or in a store that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// `s3://bucket/key`, at most 1,024 characters.
    pub uri: String,
    /// Account that owns the bucket: 12 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_owner: Option<String>,
}
