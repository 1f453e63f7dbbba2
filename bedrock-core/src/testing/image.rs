//! A model of pictures without a neural network.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Error;
use crate::image::{EncodedImage, GeneratedImage, ImageModel, ImageRequest, ImageResponse};
use crate::media::ImageFormat;
use crate::model::BoxFuture;

/// Paints colour gradients as PNG: the same request and seed the same one, everything of the request counting. Sizes are
/// 1–256 pixels, 16 unless told otherwise. A picture that is handed in is not decoded, but a mask has to be of its size.
#[derive(Debug, Default)]
pub struct GradientPainter {
    chance: AtomicU32,
}

impl GradientPainter {
    /// Largest width and height in pixels.
    pub const MOST: u32 = 256;

    fn side(name: &str, asked: Option<u32>, of_image: Option<u32>) -> Result<u32, Error> {
        let side = asked.or(of_image).unwrap_or(16);
        if (1..=Self::MOST).contains(&side) {
            Ok(side)
        } else {
            Err(Error::validation(format!("{name} is {side}; this model paints up to {}", Self::MOST)))
        }
    }
}

/// Width and height that a PNG file says it has.
pub(super) fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let (width, rest) = rest.split_first_chunk::<4>()?;
    let (height, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

fn opened(name: &str, image: Option<&EncodedImage>) -> Result<Option<(u32, u32)>, Error> {
    let Some(image) = image else { return Ok(None) };
    match png_size(image.bytes.as_bytes()) {
        Some((width, height)) if image.format == ImageFormat::Png => {
            for (side, pixels) in [("width", width), ("height", height)] {
                GradientPainter::side(&format!("{name}'s {side}"), Some(pixels), None)?;
            }
            Ok(Some((width, height)))
        }
        _ => Err(Error::validation(format!("{name} is no PNG file; this model reads no other"))),
    }
}

impl ImageModel for GradientPainter {
    fn generate<'a>(&'a self, request: &'a ImageRequest) -> BoxFuture<'a, Result<ImageResponse, Error>> {
        Box::pin(async move {
            request.validate()?;
            let size = opened("initImage", request.init_image.as_ref())?;
            let mask = opened("mask", request.mask.as_ref())?;
            if mask.is_some() && mask != size {
                return Err(Error::validation(format!("mask is of {mask:?} pixels, initImage of {size:?}")));
            }
            let width = Self::side("width", request.width, size.map(|(width, _)| width))?;
            let height = Self::side("height", request.height, size.map(|(_, height)| height))?;
            // Not by chance, but another one each time.
            let seed = request.seed.unwrap_or_else(|| self.chance.fetch_add(0x9e37_79b9, Ordering::Relaxed));
            let images = (0..request.count.unwrap_or(1)).map(|index| {
                let seed = seed.wrapping_add(index);
                // `Debug` of a picture shows its length alone, so its bytes are added.
                let alone = ImageRequest { seed: Some(seed), count: None, ..request.clone() };
                let pictures = [&alone.init_image, &alone.mask].into_iter().flatten();
                let bytes = pictures.flat_map(|image| image.bytes.as_bytes().to_vec());
                let hash = fnv1a(format!("{alone:?}").into_bytes().into_iter().chain(bytes));
                let image = EncodedImage::new(ImageFormat::Png, png(width, height, hash));
                GeneratedImage { image, seed }
            });
            Ok(ImageResponse { images: images.collect(), prompt_truncated: false })
        })
    }
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A gradient from one colour to another as a PNG file (RGB, 8 bits, not compressed).
fn png(width: u32, height: u32, hash: u64) -> Vec<u8> {
    let [r0, g0, b0, r1, g1, b1, ..] = hash.to_le_bytes();
    let mut rows = Vec::new();
    for y in 0..height {
        rows.push(0); // no filter
        for x in 0..width {
            let (place, whole) = (x + y, (width + height - 2).max(1));
            let mix = |from: u8, to: u8| ((u32::from(from) * (whole - place) + u32::from(to) * place) / whole) as u8;
            rows.extend([mix(r0, r1), mix(g0, g1), mix(b0, b1)]);
        }
    }
    let mut zlib = vec![0x78, 0x01];
    let blocks = rows.chunks(0xffff).count();
    for (index, block) in rows.chunks(0xffff).enumerate() {
        let length = block.len() as u16;
        zlib.push(u8::from(index + 1 == blocks));
        zlib.extend(length.to_le_bytes());
        zlib.extend((!length).to_le_bytes());
        zlib.extend(block);
    }
    zlib.extend(adler32(&rows).to_be_bytes());

    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in [(b"IHDR", header), (b"IDAT", zlib), (b"IEND", Vec::new())] {
        file.extend((data.len() as u32).to_be_bytes());
        let begin = file.len();
        file.extend(name);
        file.extend(data);
        file.extend(crc32(&file[begin..]).to_be_bytes());
    }
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_file_of_one_pixel_byte_by_byte() {
        let file = png(1, 1, 0x0000_0000_0003_0201);
        let (head, rest) = file.split_at(8 + 25);
        assert_eq!(head[..24], *b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01");
        assert_eq!(rest[..8], *b"\0\0\0\x0fIDAT");
        assert_eq!(rest[8..23], *b"\x78\x01\x01\x04\0\xfb\xff\0\x01\x02\x03\0\x0e\0\x07");
        assert_eq!(rest[27..], *b"\0\0\0\0IEND\xae\x42\x60\x82");
        assert_eq!(png_size(&file), Some((1, 1)));
        assert_eq!(png_size(&file[..20]), None);
    }

    #[test]
    fn a_large_picture_has_several_blocks() {
        let file = png(256, 256, 7);
        assert_eq!(png_size(&file), Some((256, 256)));
        assert_eq!(file.len(), 8 + 25 + 12 + 12 + 2 + 4 + 4 * 5 + 256 * (1 + 3 * 256));
    }

    #[test]
    fn without_a_seed_each_picture_is_another() {
        let (model, request) = (GradientPainter::default(), ImageRequest::new("sky"));
        let first = model.generate_blocking(&request).unwrap();
        let second = model.generate_blocking(&request).unwrap();
        assert_ne!(first.images[0].image, second.images[0].image);
        assert_ne!(first.images[0].seed, second.images[0].seed);
    }

    #[test]
    fn everything_of_a_request_counts() {
        let model = GradientPainter::default();
        let paint = |request: &ImageRequest| model.generate_blocking(request).unwrap().images.remove(0).image;
        let plain = ImageRequest::new("sky").seed(1);
        let (a, b) = (paint(&plain), paint(&plain.clone().seed(2)));
        let mut seen = vec![a.clone()];
        for request in [
            plain.clone().seed(2),
            plain.clone().steps(3),
            plain.clone().negative_prompt("sea"),
            plain.clone().init_image(a.clone(), 0.5),
            plain.clone().init_image(b.clone(), 0.5),
            plain.clone().init_image(a.clone(), 0.5).mask(b.clone()),
            plain.clone().init_image(a.clone(), 0.5).mask(a.clone()),
        ] {
            let image = paint(&request);
            assert!(!seen.contains(&image), "{request:?}");
            seen.push(image);
        }
    }
}
