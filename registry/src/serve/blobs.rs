//! `/v2/<name>/blobs/<digest>`.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Method, Response, StatusCode};
use wythe_layers::image::{BlobRemoval, remove_unused_blob};
use wythe_layers::spec::{Descriptor, Digest, MediaType};

use super::State;
use super::answer::{Answer, ApiError, Body, CONTENT_DIGEST, Code};
use super::body::{BlobBody, blocking};

/// What of a blob is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// First byte and number of bytes.
    Range(u64, u64),
}

/// A blob's bytes. Every blob of the store can be read through every repository: whoever knows a
/// digest knows the content, and repositories share what they share.
pub(super) async fn get(
    state: Arc<State>,
    method: &Method,
    headers: &HeaderMap,
    digest: Digest,
) -> Result<Response<Body>, ApiError> {
    let store = state.store.clone();
    let wanted = digest.clone();
    let size = blocking(move || Ok(store.blobs().stat(&wanted)?)).await?;
    let size = size.ok_or_else(unknown)?;
    let part = parse_range(headers, &digest, size)?;
    let (status, length) = match part {
        Part::Whole => (StatusCode::OK, size),
        Part::Range(_, length) => (StatusCode::PARTIAL_CONTENT, length),
    };
    let mut answer = Answer::new(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, &format!("\"{digest}\""))
        .header(CONTENT_DIGEST, &digest.to_string());
    if let Part::Range(first, length) = part {
        let last = first + length - 1;
        let range = format!("bytes {first}-{last}/{size}");
        answer = answer.header(header::CONTENT_RANGE, &range);
    }
    if *method == Method::HEAD {
        return Ok(answer.only_length(length));
    }
    let store = state.store.clone();
    let body = blocking(move || {
        let blobs = store.blobs();
        match part {
            Part::Whole => {
                let blob = Descriptor::new(MediaType::new(""), digest, size);
                let reader = blobs.get(&blob)?.ok_or_else(unknown)?;
                Ok(BlobBody::new(Box::new(reader), size))
            }
            Part::Range(first, length) => {
                let file = blobs.open_unverified(&digest)?.ok_or_else(unknown)?;
                BlobBody::part(file, first, length).map_err(|error| ApiError::internal(&error))
            }
        }
    });
    Ok(answer.stream(length, body.await?))
}

/// Removes a blob that nothing in the store needs.
pub(super) async fn delete(state: Arc<State>, digest: Digest) -> Result<Response<Body>, ApiError> {
    let removal = blocking(move || {
        // No manifest may appear that needs it between the look and the removal.
        let _turn = state.take_turn();
        Ok(remove_unused_blob(&state.store, &digest, Duration::ZERO)?)
    });
    match removal.await? {
        BlobRemoval::Removed => Ok(Answer::new(StatusCode::ACCEPTED).empty()),
        BlobRemoval::Absent => Err(unknown()),
        BlobRemoval::InUse => Err(ApiError::new(
            Code::Denied,
            "an image in the store needs it",
        )),
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUnknown, "there is no such blob")
}

/// RFC 9110 §14.2: one range of bytes; several, or what is no range, get the whole.
fn parse_range(headers: &HeaderMap, digest: &Digest, size: u64) -> Result<Part, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else {
        return Ok(Part::Whole);
    };
    if text(header::IF_RANGE).is_some_and(|tag| tag != format!("\"{digest}\"")) {
        return Ok(Part::Whole);
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')) else {
        return Ok(Part::Whole);
    };
    let outside = || {
        ApiError::new(Code::RangeInvalid, "the range lies outside of the blob")
            .with_header(header::CONTENT_RANGE, format!("bytes */{size}"))
    };
    let part = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => Some((first, last.min(size.saturating_sub(1)))),
        (Ok(first), Err(_)) if last.is_empty() => Some((first, size.saturating_sub(1))),
        (Err(_), Ok(0)) if first.is_empty() => return Err(outside()),
        (Err(_), Ok(suffix)) if first.is_empty() => {
            Some((size.saturating_sub(suffix), size.saturating_sub(1)))
        }
        _ => None,
    };
    match part {
        None => Ok(Part::Whole),
        Some((first, _)) if first >= size => Err(outside()),
        Some((first, last)) => Ok(Part::Range(first, last - first + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_or_passed_over() {
        let digest = Digest::of(b"");
        let parse = |range: &str, size| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            parse_range(&headers, &digest, size)
        };
        for (range, expected) in [
            ("bytes=0-9", Part::Range(0, 10)),
            ("bytes=5-5", Part::Range(5, 1)),
            ("bytes=90-1000", Part::Range(90, 10)),
            ("bytes=90-", Part::Range(90, 10)),
            ("bytes=-10", Part::Range(90, 10)),
            ("bytes=-1000", Part::Range(0, 100)),
            ("bytes=9-5", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
        ] {
            assert_eq!(parse(range, 100).unwrap(), expected, "{range}");
        }
        for range in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert!(parse(range, 100).is_err(), "{range}");
        }
        assert!(parse("bytes=0-", 0).is_err());
        assert!(parse("bytes=-5", 0).is_err());
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-9".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"other\"".parse().unwrap());
        assert_eq!(parse_range(&headers, &digest, 100).unwrap(), Part::Whole);
    }
}
