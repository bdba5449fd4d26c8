//! Scales an image down and enqueues the thumbnail, as PNG.
//!
//! The payload is a PNG or JPEG file (a queue of the payload type bytea). At deploy,
//! `--config width=128` chooses the width in pixels and `--config to=thumbnails` the queue for the
//! thumbnail; these are the defaults. The result of a message is how big its thumbnail is, as
//! `{"width":128,"height":96,"bytes":4711}`. What is not an image is dead-lettered.

#![allow(missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};

use crate::host::jobs::types::Failure;
use crate::host::jobs::{config, queue, results};

wit_bindgen::generate!({ path: "../../wit", world: "handler" });

/// A small file can claim a huge image: pixels are bounded before they are allocated.
const SIDE_MAX: u32 = 20_000;

struct Thumbnail;

impl Guest for Thumbnail {
    fn handle(message: Message) -> Verdict {
        match thumbnail(&message) {
            Ok(()) => Verdict::Ack,
            Err(reason) => Verdict::DeadLetter(Failure { reason }),
        }
    }
}

fn thumbnail(message: &Message) -> Result<(), String> {
    let width = match config::get("width") {
        Some(text) => {
            text.parse().map_err(|_| format!("config width={text:?} is not a number of pixels"))?
        }
        None => 128,
    };
    let (png, width, height) = scale(&message.payload, width)?;
    let size = format!(r#"{{"width":{width},"height":{height},"bytes":{}}}"#, png.len());
    results::set(&message.id, size.as_bytes())
        .map_err(|refusal| format!("cannot leave the result: {refusal:?}"))?;
    let queue = config::get("to").unwrap_or_else(|| "thumbnails".into());
    // Who reads the thumbnail wants to know of which message it is one.
    let headers = vec![("source".into(), message.id.clone())];
    let thumbnail = queue::FollowUp {
        queue,
        payload: png,
        headers,
        delay_ms: 0,
        key: None,
        priority: None,
        unique_key: None,
    };
    queue::enqueue(&thumbnail)
        .map_err(|refusal| format!("cannot enqueue the thumbnail: {refusal:?}"))
}

/// Keeps the proportions; an image that is narrower than `width` keeps its size. Returns a PNG, its
/// width and its height.
fn scale(bytes: &[u8], width: u32) -> Result<(Vec<u8>, u32, u32), String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("not an image: {error}"))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| format!("not a PNG or JPEG image: {error}"))?;
    let width = width.clamp(1, image.width());
    let height = u64::from(image.height()) * u64::from(width) / u64::from(image.width());
    let height = (height as u32).max(1);
    let small = image.thumbnail_exact(width, height);
    let mut png = Cursor::new(Vec::new());
    small.write_to(&mut png, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok((png.into_inner(), width, height))
}

export!(Thumbnail);
