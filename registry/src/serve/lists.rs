//! `/v2/<name>/tags/list` and `/v2/_catalog`, page by page.

use std::sync::Arc;

use hyper::{Response, StatusCode, header};
use serde_json::json;

use super::State;
use super::answer::{Answer, ApiError, Body, Code};
use super::body::blocking;
use super::names::{self, Repository};
use super::route::Query;

/// The tags of a repository, in the order of their bytes.
pub(super) async fn tags(
    state: Arc<State>,
    repository: Repository,
    query: Query,
) -> Result<Response<Body>, ApiError> {
    blocking(move || {
        let entries = repository.entries(&state.store)?;
        if entries.is_empty() {
            let message = "there is no such repository";
            return Err(ApiError::new(Code::NameUnknown, message));
        }
        let mut tags: Vec<_> = entries.into_iter().filter_map(|entry| entry.tag).collect();
        tags.sort();
        let path = format!("/v2/{}/tags/list", repository.name());
        let page = Page::of(tags, &query)?;
        let body = json!({"name": repository.name(), "tags": page.items});
        Ok(page.answer(&path, &body))
    })
    .await
}

/// All repositories, in the order of their bytes.
pub(super) async fn catalog(state: Arc<State>, query: Query) -> Result<Response<Body>, ApiError> {
    blocking(move || {
        let page = Page::of(names::catalog(&state.store)?, &query)?;
        let body = json!({"repositories": page.items});
        Ok(page.answer("/v2/_catalog", &body))
    })
    .await
}

/// A part of a sorted list (distribution-spec §Listing Tags): `n` items after `last`.
#[derive(Debug)]
struct Page {
    items: Vec<String>,
    /// The query that gets the next page.
    next: Option<String>,
}

impl Page {
    fn of(all: Vec<String>, query: &Query) -> Result<Self, ApiError> {
        let limit =
            match query.get("n") {
                None => None,
                Some(text) => Some(text.parse::<usize>().map_err(|_| {
                    ApiError::new(Code::PaginationNumberInvalid, "n is not a number")
                })?),
            };
        let last = query.get("last").unwrap_or_default();
        let mut items: Vec<_> = all
            .into_iter()
            .filter(|item| item.as_str() > last)
            .collect();
        let limit = limit.unwrap_or(items.len());
        let is_cut = items.len() > limit;
        items.truncate(limit);
        let next = match items.last() {
            Some(last) if is_cut => Some(format!("n={limit}&last={last}")),
            _ => None,
        };
        Ok(Self { items, next })
    }

    fn answer(&self, path: &str, body: &serde_json::Value) -> Response<Body> {
        let bytes = body.to_string();
        let mut answer = Answer::new(StatusCode::OK)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, &bytes.len().to_string());
        if let Some(next) = &self.next {
            let link = format!("<{path}?{next}>; rel=\"next\"");
            answer = answer.header(header::LINK, &link);
        }
        answer.bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        for (query, items, next) in [
            ("", "abcde", None),
            ("n=2", "ab", Some("n=2&last=b")),
            ("n=2&last=b", "cd", Some("n=2&last=d")),
            ("n=2&last=d", "e", None),
            ("n=5", "abcde", None),
            ("n=0", "", None),
            ("last=bb", "cde", None),
            ("last=z", "", None),
        ] {
            let page = Page::of(all.clone(), &Query::parse(Some(query))).unwrap();
            assert_eq!(page.items.concat(), items, "{query}");
            assert_eq!(page.next.as_deref(), next, "{query}");
        }
        for bad in ["n=x", "n=-1", "n="] {
            assert!(Page::of(all.clone(), &Query::parse(Some(bad))).is_err());
        }
    }
}
