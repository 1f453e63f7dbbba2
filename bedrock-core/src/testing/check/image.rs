//! The laws of models that make pictures.

use super::is_validation;
use crate::image::{EncodedImage, ImageModel, ImageRequest, ImageResponse};
use crate::media::ImageFormat;
use crate::testing::image::png_size;

/// Checks a model that makes pictures with a request that it can honour; best a small one of few steps, since it is painted
/// some ten times.
///
/// Laws: as many pictures as asked for, of the size asked for, in the format they say; the same seed has the same picture,
/// and another seed another; picture `i` is the one that `seed + i` paints alone; a picture drawn by chance can be painted
/// again from the seed it says; one can begin with a picture, or is refused it; files that are no pictures and what breaks
/// the limits is refused; a call that is dropped does no harm.
///
/// # Panics
/// If a law is broken.
pub async fn check_image_model(model: &dyn ImageModel, request: &ImageRequest) {
    let paint = async |request: &ImageRequest| model.generate(request).await.expect("a picture is painted");
    let one = ImageRequest { seed: Some(u32::MAX), count: None, ..request.clone() };
    let first = paint(&one).await;
    assert_eq!(first.images.len(), 1, "one picture unless told otherwise");
    for generated in &first.images {
        look(&generated.image, request);
    }
    drop(model.generate(&one));
    assert_eq!(paint(&one).await, first, "the same seed has the same picture");
    let second = paint(&ImageRequest { seed: Some(0), ..one.clone() }).await;
    assert_ne!(second.images[0].image, first.images[0].image, "another seed has another picture");
    let both = paint(&ImageRequest { count: Some(2), ..one.clone() }).await;
    let alone: Vec<_> = [&first, &second].into_iter().flat_map(|response| response.images.clone()).collect();
    assert_eq!(both.images, alone, "picture i is the one that seed + i paints alone, and seeds wrap");

    let chance = paint(&ImageRequest { seed: None, ..one.clone() }).await;
    let again = paint(&ImageRequest { seed: Some(chance.images[0].seed), ..one.clone() }).await;
    assert_eq!(chance, again, "a picture drawn by chance can be painted again");

    let begun = one.clone().init_image(first.images[0].image.clone(), 0.5);
    match model.generate(&begun).await {
        Ok(ImageResponse { images, .. }) => look(&images[0].image, request),
        error => assert!(is_validation(&error), "a model that can't begin with a picture says so: {error:?}"),
    }
    let mut cut = first.images[0].image.clone();
    cut.bytes.0.truncate(9);
    for (what, image) in [
        ("a file that is cut", cut),
        ("no picture", EncodedImage::new(ImageFormat::Png, &b"<html></html>"[..])),
        ("a size that can't be", EncodedImage::new(ImageFormat::Png, bomb())),
    ] {
        let begun = model.generate(&one.clone().init_image(image, 0.5)).await;
        assert!(is_validation(&begun), "{what} is refused as a picture to begin with");
    }
    for (what, broken) in [
        ("a blank prompt", ImageRequest { prompt: " ".into(), ..one.clone() }),
        ("a width of 0", one.clone().size(0, 64)),
        ("a height of 8193", one.clone().size(64, 8193)),
        ("0 steps", one.clone().steps(0)),
        ("a guidance that is no number", one.clone().guidance_scale(f32::NAN)),
        ("0 pictures", one.clone().count(0)),
        ("11 pictures", one.clone().count(11)),
        ("a strength without a picture", ImageRequest { strength: Some(0.5), init_image: None, ..one.clone() }),
    ] {
        assert!(is_validation(&model.generate(&broken).await), "{what} is refused");
    }
    assert_eq!(paint(&one).await, first, "nothing lingers");
}

/// Looks at a file as far as its first bytes tell.
fn look(image: &EncodedImage, request: &ImageRequest) {
    let bytes = image.bytes.as_bytes();
    let fits = match image.format {
        ImageFormat::Png => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        ImageFormat::Jpeg => bytes.starts_with(b"\xff\xd8\xff"),
        ImageFormat::Gif => bytes.starts_with(b"GIF8"),
        ImageFormat::Webp => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
        _ => false,
    };
    assert!(fits, "a picture is in the format it says, {}", image.format);
    if image.format == ImageFormat::Png {
        let (width, height) = png_size(bytes).expect("a PNG file says its size");
        let asked = (request.width.unwrap_or(width), request.height.unwrap_or(height));
        assert_eq!((width, height), asked, "a picture has the size asked for");
    }
}

/// The beginning of a PNG file that says it has 2³¹ − 1 pixels a side.
fn bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend([0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 8, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;

    use super::super::tests::fails;
    use super::*;
    use crate::error::Error;
    use crate::model::BoxFuture;
    use crate::testing::GradientPainter;

    #[test]
    fn the_double_keeps_to_the_laws() {
        let model: Arc<dyn ImageModel> = Arc::new(Box::new(GradientPainter::default()));
        block_on(check_image_model(&model, &ImageRequest::new("a red door").size(8, 4)));
        block_on(check_image_model(&model, &ImageRequest::new("a red door").negative_prompt("blue").steps(2)));
    }

    /// Paints all pictures of a request alike.
    struct Copies(GradientPainter);

    impl ImageModel for Copies {
        fn generate<'a>(&'a self, request: &'a ImageRequest) -> BoxFuture<'a, Result<ImageResponse, Error>> {
            Box::pin(async move {
                let mut response = self.0.generate(request).await?;
                let first = response.images[0].clone();
                response.images.fill(first);
                Ok(response)
            })
        }
    }

    #[test]
    fn a_broken_model_is_found() {
        let request = || ImageRequest::new("a red door");
        fails(
            move || block_on(check_image_model(&Copies(GradientPainter::default()), &request())),
            "seed + i paints alone",
        );
    }
}
