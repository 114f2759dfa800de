//! Files over http and https that belong to no registry.
//!
//! Redirects are followed, but never from https to http, and authorization goes to the first
//! origin only. A certificate is always checked. A file is asked for again only if it changed,
//! where the caller knows its validators (RFC 9110 §13).

use std::fmt;
use std::io::{self, Read};
use std::time::SystemTime;

use reqwest::header::{HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::{Method, Url};

use crate::client::{ClientOptions, header_value};
use crate::error::{Error, Result, is_transient_status};
use crate::http::{Http, HttpOptions, Request, Response, Verify};
use crate::redirect::location;
use crate::retry;
use crate::secret::{SafeUrl, Secret};

/// Redirects in a row.
const MAX_REDIRECTS: u32 = 10;

/// Gets files. Blocking; its engine starts at the first request.
#[derive(Debug)]
pub struct Downloader {
    http: Http,
    options: ClientOptions,
}

/// What is asked for.
#[derive(Debug, Default)]
pub struct Download<'a> {
    /// `http://…` or `https://…`; user and password in it are used.
    pub url: &'a str,
    /// `Authorization`, for the URL's own origin. Default none.
    pub authorization: Option<Secret>,
    /// The `ETag` of what is here already. Default none.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` of what is here already, as the server wrote it. Default none.
    pub last_modified: Option<&'a str>,
}

/// What came.
#[derive(Debug)]
pub enum Downloaded {
    /// It is still what the caller has.
    Unchanged,
    /// A file.
    File(DownloadedFile),
}

/// A file that is on its way.
pub struct DownloadedFile {
    /// From `Content-Disposition`; may hold anything.
    pub name: Option<String>,
    /// `ETag`, as it stands there.
    pub etag: Option<String>,
    /// `Last-Modified`, as it stands there.
    pub last_modified: Option<String>,
    /// The same as a time.
    pub modified: Option<SystemTime>,
    /// `Content-Length`, in bytes; `None` when the content is decoded on the way.
    pub length: Option<u64>,
    /// Its content. An answer that breaks off is an error of `read`.
    pub body: Box<dyn Read + Send>,
}

impl fmt::Debug for DownloadedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadedFile")
            .field("name", &self.name)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Downloader {
    /// A downloader; of `options`, proxies, certificates, timeouts and retries count.
    pub fn new(options: ClientOptions) -> Self {
        let http = Http::new(HttpOptions {
            timeouts: options.timeouts.clone(),
            proxies: options.proxies.clone(),
            certificate_directories: options.certificate_directories.clone(),
            user_agent: concat!("wythe/", env!("CARGO_PKG_VERSION")).to_owned(),
        });
        Self { http, options }
    }

    /// Asks for a file.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be had.
    pub fn get(&self, wanted: &Download<'_>) -> Result<Downloaded> {
        let url = Url::parse(wanted.url).map_err(|error| Error::Location {
            text: wanted
                .url
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .to_owned(),
            reason: error.to_string(),
        })?;
        let authorization = match &wanted.authorization {
            Some(secret) => {
                let mut value =
                    HeaderValue::from_str(secret.expose().trim()).map_err(|_| Error::Location {
                        text: SafeUrl::of(&url).to_string(),
                        reason: "its authorization cannot stand in a header".into(),
                    })?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let response = retry::run(&self.options.retry, || {
            let response = self.follow(&url, wanted, authorization.as_ref())?;
            if is_transient_status(response.status) {
                return Err(response.into_error(&Method::GET));
            }
            Ok(response)
        })?;
        match response.status {
            200 => Ok(Downloaded::File(file(response))),
            304 if wanted.etag.is_some() || wanted.last_modified.is_some() => {
                Ok(Downloaded::Unchanged)
            }
            _ => Err(response.into_error(&Method::GET)),
        }
    }

    fn follow(
        &self,
        url: &Url,
        wanted: &Download<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response> {
        let mut next = url.clone();
        next.set_fragment(None);
        for _ in 0..=MAX_REDIRECTS {
            let own = next.origin() == url.origin();
            let mut request = Request::new(Method::GET, next.clone());
            for (name, value) in conditions(wanted) {
                request = request.header(name, header_value(value)?);
            }
            let authorization = authorization.filter(|_| own);
            let response = self.http.send(&request, authorization, Verify::Yes)?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = location(&response.headers, &response.url)
                .ok_or_else(|| response.bad("a redirect without a usable Location"))?;
            let reason = match (next.scheme(), target.scheme()) {
                (_, "https") | ("http", "http") => None,
                ("https", "http") => Some("a server on https may not send us to plain http"),
                _ => Some("it is neither http nor https"),
            };
            if let Some(reason) = reason {
                let url = SafeUrl::of(&target);
                return Err(Error::Insecure { url, reason });
            }
            next = target;
        }
        Err(Error::BadAnswer {
            url: SafeUrl::of(url),
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }
}

fn conditions<'a>(wanted: &Download<'a>) -> Vec<(HeaderName, &'a str)> {
    let etag = wanted.etag.map(|text| (IF_NONE_MATCH, text));
    // RFC 9110 §13.1.3: a server that knows etags ignores the time.
    let modified = wanted.last_modified.map(|text| (IF_MODIFIED_SINCE, text));
    etag.into_iter().chain(modified).collect()
}

fn file(response: Response) -> DownloadedFile {
    let text = |name: &str| response.header(name).map(str::to_owned);
    let last_modified = text("last-modified");
    // None is asked for, but some servers keep files that way and always send them so.
    let encoding = response.header("content-encoding").map(str::trim);
    let is_encoded = encoding.is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
    DownloadedFile {
        name: response.header("content-disposition").and_then(file_name),
        etag: text("etag"),
        modified: last_modified
            .as_deref()
            .and_then(|text| httpdate::parse_http_date(text).ok()),
        last_modified,
        length: response.body.length().filter(|_| !is_encoded),
        body: if is_encoded {
            Box::new(Encoded::Unread(Some(Box::new(response.body))))
        } else {
            Box::new(response.body)
        },
    }
}

/// A body that is decoded as it is read.
enum Encoded {
    /// `None`: its beginning could not be read.
    Unread(Option<Box<dyn Read + Send>>),
    Decoded(Box<dyn Read + Send>),
}

impl Read for Encoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Unread(body) = self {
            let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
            let body = body.take().ok_or_else(broken)?;
            *self = Self::Decoded(wythe_layers::stream::decode(body)?);
        }
        match self {
            Self::Unread(_) => Ok(0),
            Self::Decoded(decoded) => decoded.read(buffer),
        }
    }
}

/// `filename` of a `Content-Disposition` (RFC 6266 §4.1), quoted or not.
fn file_name(header: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(';').unwrap_or((value, "")),
        };
        if name.trim().eq_ignore_ascii_case("filename") {
            let value = value.trim();
            return (!value.is_empty()).then(|| value.to_owned());
        }
        rest = after;
        if rest.is_empty() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    /// Answers each connection with the next of `answers`; the requests' texts.
    fn server(
        answers: Vec<impl AsRef<[u8]> + Send + 'static>,
    ) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                requests.lock().unwrap().push(head(&mut stream));
                let _ = stream.write_all(answer.as_ref());
            }
        });
        (address, seen)
    }

    fn head(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap().to_ascii_lowercase()
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
    }

    fn downloader() -> Downloader {
        Downloader::new(ClientOptions::default())
    }

    /// Fetches something of the server at an address, with nothing but its URL.
    fn get(address: &str) -> Result<DownloadedFile> {
        let url = format!("http://{address}/x");
        let wanted = Download {
            url: &url,
            ..Download::default()
        };
        match downloader().get(&wanted)? {
            Downloaded::File(file) => Ok(file),
            Downloaded::Unchanged => panic!("unchanged"),
        }
    }

    #[test]
    fn redirects_carry_no_authorization_elsewhere_and_validators_come_back() {
        let headers = "ETag: \"e\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Disposition: attachment; filename=\"a b.tar\"\r\n";
        let (second, second_seen) = server(vec![answer("200 OK", headers, "content")]);
        let to_second = format!("Location: http://{second}/there\r\n");
        let (first, first_seen) = server(vec![answer("302 Found", &to_second, "")]);
        let found = downloader()
            .get(&Download {
                url: &format!("http://{first}/here#fragment"),
                authorization: Some(Secret::new("Bearer hunter2")),
                ..Download::default()
            })
            .unwrap();
        let Downloaded::File(mut file) = found else {
            panic!("unchanged");
        };
        let mut text = String::new();
        file.body.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert_eq!(file.name.as_deref(), Some("a b.tar"));
        assert_eq!(file.etag.as_deref(), Some("\"e\""));
        assert_eq!(file.length, Some(7));
        assert!(file.modified.is_some());
        let first = first_seen.lock().unwrap().join("");
        assert!(first.starts_with("get /here http/1.1"), "{first}");
        assert!(first.contains("authorization: bearer hunter2"), "{first}");
        let second = second_seen.lock().unwrap().join("");
        assert!(!second.contains("hunter2"), "{second}");
    }

    #[test]
    fn an_encoding_that_was_not_asked_for_is_undone() {
        for (headers, expected) in [("Content-Encoding: GZIP\r\n", Some("decoded")), ("", None)] {
            let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x49\x4d\xce\x4f\x49\x4d\x01\x00\xf6\x9a\xf0\x1a\x07\x00\x00\x00".to_vec();
            let head = answer("200 OK", headers, "")
                .replace("Length: 0", &format!("Length: {}", body.len()));
            let mut bytes = head.into_bytes();
            bytes.extend_from_slice(&body);
            let (address, _) = server(vec![bytes]);
            let mut file = get(&address).unwrap();
            let mut found = Vec::new();
            file.body.read_to_end(&mut found).unwrap();
            assert_eq!(
                found,
                expected.map_or(body, |text| text.as_bytes().to_vec())
            );
        }
    }

    #[test]
    fn what_did_not_change_is_not_sent_again() {
        let (address, seen) = server(vec![answer("304 Not Modified", "", "")]);
        let found = downloader()
            .get(&Download {
                url: &format!("http://{address}/x"),
                etag: Some("\"e\""),
                ..Download::default()
            })
            .unwrap();
        assert!(matches!(found, Downloaded::Unchanged));
        assert!(seen.lock().unwrap()[0].contains("if-none-match: \"e\""));
    }

    #[test]
    fn failures_are_tried_again_or_told() {
        let (address, seen) = server(vec![
            answer("503 Service Unavailable", "Retry-After: 0\r\n", ""),
            answer("404 Not Found", "", "no such file"),
        ]);
        let error = downloader()
            .get(&Download {
                url: &format!("http://{address}/x?token=hunter2"),
                ..Download::default()
            })
            .unwrap_err();
        assert!(
            matches!(error, Error::Status { status: 404, .. }),
            "{error}"
        );
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(seen.lock().unwrap().len(), 2);
    }

    #[test]
    fn an_answer_that_breaks_off_or_goes_round_is_an_error() {
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned();
        let (address, _) = server(vec![short]);
        let mut file = get(&address).unwrap();
        assert!(file.body.read_to_end(&mut Vec::new()).is_err());
        let (address, _) = server(vec![answer("302 Found", "Location: /again\r\n", ""); 20]);
        assert!(matches!(get(&address), Err(Error::BadAnswer { .. })));
        let (address, _) = server(vec![answer(
            "302 Found",
            "Location: file:///etc/passwd\r\n",
            "",
        )]);
        assert!(get(&address).is_err());
    }

    #[test]
    fn names_are_read_as_the_header_writes_them() {
        for (header, name) in [
            ("attachment; filename=x.tgz", Some("x.tgz")),
            ("attachment; size=3; filename=\"a;b\"; x=y", Some("a;b")),
            ("inline", None),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=\"open", None),
        ] {
            assert_eq!(file_name(header).as_deref(), name, "{header}");
        }
    }
}
