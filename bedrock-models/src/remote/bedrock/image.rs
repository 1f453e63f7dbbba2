//! Models that make pictures, through their native bodies: Titan and Stable Diffusion XL.

use std::hash::{BuildHasher, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bedrock_core::{
    BoxFuture, EncodedImage, Error, GeneratedImage, ImageFormat, ImageModel, ImageRequest, ImageResponse,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Bedrock, path};
use crate::remote::ask::refuse;
use crate::remote::failure::Malformed;
use crate::remote::transport::Call;

/// Pictures that are on the way at once.
const AT_ONCE: usize = 2;

/// Seeds that every version of Titan knows are below this.
const TITAN_SEEDS: u32 = 214_783_647;

/// Whose body is spoken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Painter {
    Titan,
    StableDiffusionXl,
}

/// A model of [`Bedrock`] that makes pictures, through `InvokeModel`.
///
/// Each picture is a call of its own, so that its seed alone decides it. Titan has no steps and begins with no picture; both refuse what they don't
/// offer as [`Error::Validation`], sizes and ranges on the side of the service.
#[derive(Debug, Clone)]
pub struct BedrockPainter {
    service: Bedrock,
    model: String,
    family: Painter,
}

#[derive(Deserialize)]
struct Titan {
    #[serde(default)]
    images: Vec<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct StableDiffusion {
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    base64: String,
    finish_reason: String,
}

impl BedrockPainter {
    pub(super) fn new(service: Bedrock, model: String, family: Painter) -> Self {
        Self { service, model, family }
    }

    fn body(&self, request: &ImageRequest, seed: u32) -> Result<Value, Error> {
        match self.family {
            Painter::Titan => titan(request, seed),
            Painter::StableDiffusionXl => Ok(stable_diffusion(request, seed)),
        }
    }

    async fn paint(&self, body: Value, seed: u32) -> Result<GeneratedImage, Error> {
        let call = Call::json(path(&self.model, "invoke"), &body)?;
        let transport = &self.service.transport;
        let picture = match self.family {
            Painter::Titan => {
                let answer: Titan = transport.json(call, "a picture").await?;
                if let Some(error) = answer.error {
                    return Err(Error::model_error(transport.redacted(format!("no picture was made: {error}"))));
                }
                answer.images.into_iter().next()
            }
            Painter::StableDiffusionXl => {
                let answer: StableDiffusion = transport.json(call, "a picture").await?;
                match answer.artifacts.into_iter().next() {
                    Some(artifact) if artifact.finish_reason != "SUCCESS" => {
                        return Err(Error::model_error(format!("no picture was made: {}", artifact.finish_reason)));
                    }
                    artifact => artifact.map(|artifact| artifact.base64),
                }
            }
        };
        let missing = |missing| Malformed::Missing { what: "an answer", missing }.whole();
        let bytes = STANDARD.decode(picture.ok_or_else(|| missing("a picture"))?).map_err(|_| missing("base64"))?;
        if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err(missing("a PNG file"));
        }
        Ok(GeneratedImage { image: EncodedImage::new(ImageFormat::Png, bytes), seed })
    }
}

impl ImageModel for BedrockPainter {
    fn generate<'a>(&'a self, request: &'a ImageRequest) -> BoxFuture<'a, Result<ImageResponse, Error>> {
        Box::pin(async move {
            request.validate()?;
            let drawn = || (RandomState::new().hash_one(0_u8) % u64::from(TITAN_SEEDS)) as u32;
            let first = request.seed.unwrap_or_else(drawn);
            let mut bodies = Vec::new();
            for index in 0..request.count.unwrap_or(1) {
                let seed = first.wrapping_add(index);
                bodies.push((self.body(request, seed)?, seed));
            }
            let calls = stream::iter(bodies.into_iter().map(|(body, seed)| self.paint(body, seed)));
            let images = calls.buffered(AT_ONCE).try_collect().await?;
            Ok(ImageResponse { images, prompt_truncated: false })
        })
    }
}

fn put(fields: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        fields.insert(name.into(), value.into());
    }
}

fn titan(request: &ImageRequest, seed: u32) -> Result<Value, Error> {
    for (field, set) in [("steps", request.steps.is_some()), ("initImage", request.init_image.is_some())] {
        if set {
            return refuse(field, "this model does not offer it");
        }
    }
    let mut text = Map::from_iter([("text".to_owned(), request.prompt.clone().into())]);
    put(&mut text, "negativeText", request.negative_prompt.clone());
    let mut config = Map::from_iter([("numberOfImages".to_owned(), 1.into()), ("seed".to_owned(), seed.into())]);
    put(&mut config, "width", request.width);
    put(&mut config, "height", request.height);
    put(&mut config, "cfgScale", request.guidance_scale);
    Ok(json!({"taskType": "TEXT_IMAGE", "textToImageParams": text, "imageGenerationConfig": config}))
}

fn stable_diffusion(request: &ImageRequest, seed: u32) -> Value {
    let mut prompts = vec![json!({"text": request.prompt, "weight": 1.0})];
    prompts.extend(request.negative_prompt.iter().map(|text| json!({"text": text, "weight": -1.0})));
    let mut body = Map::from_iter([
        ("text_prompts".to_owned(), Value::from(prompts)),
        ("seed".to_owned(), seed.into()),
        ("samples".to_owned(), 1.into()),
    ]);
    put(&mut body, "width", request.width);
    put(&mut body, "height", request.height);
    put(&mut body, "steps", request.steps);
    put(&mut body, "cfg_scale", request.guidance_scale);
    let file = |image: &EncodedImage| STANDARD.encode(image.bytes.as_bytes());
    if let Some(image) = &request.init_image {
        body.insert("init_image".into(), file(image).into());
        match &request.mask {
            Some(mask) => {
                // As here, what is white is painted anew.
                body.insert("mask_source".into(), "MASK_IMAGE_WHITE".into());
                body.insert("mask_image".into(), file(mask).into());
            }
            None => {
                body.insert("init_image_mode".into(), "IMAGE_STRENGTH".into());
            }
        }
        // Theirs is how much of the picture stays, ours how much may change.
        put(&mut body, "image_strength", request.strength.map(|strength| f64::from(1.0 - strength)));
    }
    body.into()
}
