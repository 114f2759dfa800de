//! Answers: the specification's error codes and bodies, and the headers every answer has.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

/// The body of any answer. An error in the middle of one closes the connection, so the client
/// cannot take a part for the whole.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// `Docker-Content-Digest`.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// `Docker-Upload-UUID`.
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Error codes (distribution-spec §Error Codes, and three that Docker's registry has beside them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Denied,
    Unsupported,
    TooManyRequests,
    RangeInvalid,
    PaginationNumberInvalid,
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status that goes with a code unless something more exact is known.
    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid
            | Self::PaginationNumberInvalid => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A request that could not be served, as the client will see it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(HeaderName, String)>,
}

impl ApiError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Our own failure: the log has the details, which are none of the client's business.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        let mut causes = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push_str(": ");
            causes.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!(error = causes, "a request failed");
        Self::new(Code::Unknown, "the server failed; its log says why")
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let error = json!({"code": self.code.as_str(), "message": self.message});
        let body = json!({"errors": [error]}).to_string();
        let mut answer = Answer::new(self.status).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in self.headers {
            answer = answer.header(name, &value);
        }
        answer.bytes(body)
    }
}

impl From<wythe_layers::Error> for ApiError {
    fn from(error: wythe_layers::Error) -> Self {
        use wythe_layers::Error as Store;
        match &error {
            Store::ReadOnly { .. } => Self::new(Code::Unsupported, "the store is read-only"),
            Store::DiskFull { .. } => {
                tracing::error!(%error, "a request failed");
                Self::new(Code::Unknown, "the registry's disk is full")
                    .with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            Store::Locked { .. } => Self::new(Code::Denied, "the store is in use; try again later")
                .with_status(StatusCode::CONFLICT),
            _ => Self::internal(&error),
        }
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer(Response<()>);

impl Answer {
    pub(super) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        // Nothing here is a page: a browser must not make one of it.
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        Self(response)
    }

    /// Values are made here of checked names, digests and numbers; one that is none all the same
    /// (a media type a client stored with odd bytes) is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    pub(super) fn empty(self) -> Response<Body> {
        self.header(header::CONTENT_LENGTH, "0").bytes(Bytes::new())
    }

    pub(super) fn bytes(self, bytes: impl Into<Bytes>) -> Response<Body> {
        let body = Full::new(bytes.into()).map_err(|never| match never {});
        self.0.map(|()| body.boxed_unsync())
    }

    /// A body of which only the length is told (HEAD).
    pub(super) fn only_length(self, length: u64) -> Response<Body> {
        self.header(header::CONTENT_LENGTH, &length.to_string())
            .bytes(Bytes::new())
    }

    pub(super) fn stream(
        self,
        length: u64,
        body: impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
    ) -> Response<Body> {
        let answer = self.header(header::CONTENT_LENGTH, &length.to_string());
        answer.0.map(|()| body.boxed_unsync())
    }
}
