//! Models that make pictures.

use std::sync::Arc;

use futures::executor::block_on;

use crate::error::Error;
use crate::media::{ImageBlock, ImageFormat};
use crate::model::BoxFuture;
use crate::wire::Blob;

/// Most bytes of a picture that is handed in: 25 MiB.
const PICTURE_BYTES: usize = 26_214_400;

/// A picture file.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedImage {
    /// How it is encoded.
    pub format: ImageFormat,
    /// The file.
    pub bytes: Blob,
}

impl EncodedImage {
    /// A picture from the bytes of its file.
    pub fn new(format: ImageFormat, bytes: impl Into<Blob>) -> Self {
        Self { format, bytes: bytes.into() }
    }
}

impl From<EncodedImage> for ImageBlock {
    /// For a message, so that a model can look at what another one made.
    fn from(image: EncodedImage) -> Self {
        Self::new(image.format, image.bytes)
    }
}

/// What to paint. What is `None` is the model's own choice, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageRequest {
    /// What shall be seen, 1–10,000 characters. What is too long for the model is refused or cut, and then
    /// [`ImageResponse::prompt_truncated`] says so.
    pub prompt: String,
    /// What shall not be seen.
    pub negative_prompt: Option<String>,
    /// Width in pixels, 1–8,192; a model may ask for a multiple. Default: that of `init_image`, if there is one.
    pub width: Option<u32>,
    /// Height in pixels, as `width`.
    pub height: Option<u32>,
    /// Denoising steps, 1–1,000: more take longer.
    pub steps: Option<u32>,
    /// How closely to keep to the prompt, 0–100; 1 or less turns guidance, and with it the negative prompt, off.
    pub guidance_scale: Option<f32>,
    /// Where chance begins. Picture `i` of a request is painted from `seed + i` (wrapping). Default: one drawn by chance.
    pub seed: Option<u32>,
    /// How many pictures, 1–10. Default: 1.
    pub count: Option<u32>,
    /// A picture to begin with.
    pub init_image: Option<EncodedImage>,
    /// Where `init_image` is painted anew: white (or opaque grey) pixels are, black ones stay. Of the same size.
    pub mask: Option<EncodedImage>,
    /// How much of `init_image` may change, 0 (nothing) to 1 (all).
    pub strength: Option<f32>,
}

impl ImageRequest {
    /// One picture of the model's own size.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }

    /// The same with what shall not be seen.
    pub fn negative_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.negative_prompt = Some(prompt.into());
        self
    }

    /// The same with a size in pixels.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (Some(width), Some(height));
        self
    }

    /// The same with a number of denoising steps.
    pub fn steps(mut self, steps: u32) -> Self {
        self.steps = Some(steps);
        self
    }

    /// The same with a guidance scale.
    pub fn guidance_scale(mut self, scale: f32) -> Self {
        self.guidance_scale = Some(scale);
        self
    }

    /// The same with a seed: the same request to the same model has the same answer.
    pub fn seed(mut self, seed: u32) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The same for this many pictures.
    pub fn count(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// The same beginning with a picture, of which as much may change as `strength` says (0–1).
    pub fn init_image(mut self, image: EncodedImage, strength: f32) -> Self {
        (self.init_image, self.strength) = (Some(image), Some(strength));
        self
    }

    /// The same where only what is white in the mask is painted anew.
    pub fn mask(mut self, mask: EncodedImage) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Checks what holds for every model.
    ///
    /// # Errors
    /// [`Error::Validation`] with the name of the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::validation(why));
        for (name, text) in [("prompt", Some(&self.prompt)), ("negativePrompt", self.negative_prompt.as_ref())] {
            let characters = text.map_or(0, |text| text.chars().count());
            if characters > 10_000 {
                return refuse(format!("{name} has {characters} characters; it must have at most 10000"));
            }
        }
        if self.prompt.trim().is_empty() {
            return refuse("prompt is blank".into());
        }
        for (name, value, most) in [
            ("width", self.width, 8192),
            ("height", self.height, 8192),
            ("steps", self.steps, 1000),
            ("count", self.count, 10),
        ] {
            if let Some(value) = value
                && !(1..=most).contains(&value)
            {
                return refuse(format!("{name} is {value}; it must be from 1 to {most}"));
            }
        }
        for (name, value, most) in [("guidanceScale", self.guidance_scale, 100.0), ("strength", self.strength, 1.0)] {
            // A NaN is in no range.
            if let Some(value) = value
                && !(0.0..=most).contains(&value)
            {
                return refuse(format!("{name} is {value}; it must be from 0 to {most}"));
            }
        }
        for (name, image) in [("initImage", &self.init_image), ("mask", &self.mask)] {
            let Some(image) = image else { continue };
            if !image.format.is_known() {
                return refuse(format!("{name}.format is {:?}, which is not known", image.format.as_str()));
            }
            let bytes = image.bytes.as_bytes().len();
            if !(1..=PICTURE_BYTES).contains(&bytes) {
                return refuse(format!("{name}.bytes has {bytes} bytes; it must have 1 to {PICTURE_BYTES}"));
            }
        }
        if self.init_image.is_none() {
            for (name, set) in [("mask", self.mask.is_some()), ("strength", self.strength.is_some())] {
                if set {
                    return refuse(format!("{name} is set without initImage"));
                }
            }
        }
        Ok(())
    }
}

/// The pictures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageResponse {
    /// As many as were asked for, in the order of their seeds.
    pub images: Vec<GeneratedImage>,
    /// Whether the prompt, or the negative one, was too long for the model and its end was not looked at.
    pub prompt_truncated: bool,
}

/// A picture that a model made.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedImage {
    /// The picture.
    pub image: EncodedImage,
    /// What it was painted from: the same request with this seed and a `count` of 1 gives the same picture.
    pub seed: u32,
}

/// A model that makes pictures.
///
/// # Contract
/// - The request is [valid](ImageRequest::validate) and the model can honour all of it, or it is [`Error::Validation`] before
///   anything is computed. Pictures that are handed in are hostile files: their real size is bounded before memory is taken.
/// - The same request with a seed has the same answer on the same machine; a picture does not depend on the others of its
///   request.
/// - Dropping the future stops the work at the next step. Computing happens on the model's own threads.
///
/// `testing::check_image_model` (feature `testing`) checks what can be checked from outside.
pub trait ImageModel: Send + Sync {
    /// Makes pictures.
    ///
    /// # Errors
    /// [`Error::Validation`] for what can't be honoured; whatever else the model fails with.
    fn generate<'a>(&'a self, request: &'a ImageRequest) -> BoxFuture<'a, Result<ImageResponse, Error>>;

    /// [`ImageModel::generate`] for callers without an async runtime: blocks the thread until the pictures are there.
    ///
    /// # Errors
    /// As [`ImageModel::generate`].
    fn generate_blocking(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        block_on(self.generate(request))
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: ImageModel + ?Sized> ImageModel for $pointer<T> {
            fn generate<'a>(&'a self, request: &'a ImageRequest) -> BoxFuture<'a, Result<ImageResponse, Error>> {
                (**self).generate(request)
            }
        }
    )*};
}
forward!(Arc, Box);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_names_its_field() {
        let good = ImageRequest::new("a cat").size(8192, 1).steps(1000).guidance_scale(0.0).count(10).seed(u32::MAX);
        good.validate().unwrap();
        let picture = EncodedImage::new(ImageFormat::Png, vec![1]);
        let on = good.clone().init_image(picture.clone(), 1.0);
        on.clone().mask(picture.clone()).validate().unwrap();
        let cases = [
            ("prompt", ImageRequest::new(" \n")),
            ("prompt", ImageRequest::new("é".repeat(10_001))),
            ("negativePrompt", good.clone().negative_prompt("x".repeat(10_001))),
            ("width", good.clone().size(0, 1)),
            ("height", good.clone().size(1, 8193)),
            ("steps", good.clone().steps(0)),
            ("steps", good.clone().steps(1001)),
            ("count", good.clone().count(0)),
            ("count", good.clone().count(11)),
            ("guidanceScale", good.clone().guidance_scale(-0.1)),
            ("guidanceScale", good.clone().guidance_scale(f32::NAN)),
            ("strength", on.clone().init_image(picture.clone(), 1.1)),
            ("strength", ImageRequest { strength: Some(0.5), ..good.clone() }),
            ("mask", good.mask(picture.clone())),
            ("initImage.bytes", on.clone().init_image(EncodedImage::new(ImageFormat::Png, vec![]), 0.5)),
            ("mask.format", on.mask(EncodedImage::new(ImageFormat::from("bmp"), vec![1]))),
        ];
        for (field, request) in cases {
            match request.validate() {
                Err(Error::Validation { message }) => assert!(message.starts_with(field), "{field}: {message}"),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
