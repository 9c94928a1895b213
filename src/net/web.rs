//! One request to a web server, and its answer, within bounds: nothing is read that is longer than it may be.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

/// Where something is to be fetched by HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    authority: String,
    path: String,
}

impl Url {
    /// Reads an absolute `https:` URL.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it cannot be read")?;
        if uri.scheme_str() != Some("https") {
            return Err("it is not https");
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it holds a login");
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("it names no host");
        }
        // A number that is none is no port of `https` either.
        let behind = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match (behind.strip_prefix(':'), authority.port_u16()) {
            (None, _) => 443,
            (Some(_), Some(port)) if port != 0 => port,
            (Some(_), _) => return Err("its port is no number from 1 to 65535"),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { port, authority: authority.as_str().to_owned(), path: path.to_owned(), host })
    }

    /// Where a redirect of this place leads (RFC 9110 10.2.2): an absolute URL, one without its scheme, or a path, absolute or beside this one.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn follow(&self, location: &str) -> Result<Self, &'static str> {
        if location.starts_with("//") {
            return Self::parse(&format!("https:{location}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("https://{}{location}", self.authority));
        }
        // A scheme ends before anything that a path may begin with (RFC 3986 4.2).
        if location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) {
            return Self::parse(location);
        }
        let (mut steps, behind) = (self.folder(), location.find(['?', '#']).unwrap_or(location.len()));
        let (path, behind) = location.split_at(behind);
        if path.is_empty() {
            let here = self.path.split('?').next().unwrap_or_default();
            return Self::parse(&format!("https://{}{here}{behind}", self.authority));
        }
        let mut ends_in_folder = true;
        for step in path.split('/') {
            ends_in_folder = matches!(step, "." | "..");
            match step {
                "." => {}
                // Above the first there is nothing (RFC 3986 5.2.4).
                ".." => drop(steps.pop()),
                step => steps.push(step),
            }
        }
        let end = if ends_in_folder && !steps.is_empty() { "/" } else { "" };
        Self::parse(&format!("https://{}/{}{end}{behind}", self.authority, steps.join("/")))
    }

    /// The steps of the path but the last one.
    fn folder(&self) -> Vec<&str> {
        let path = self.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let mut steps: Vec<&str> = path.split('/').collect();
        steps.pop();
        steps
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}{}", self.authority, self.path)
    }
}

/// A document, and the marks by which its server knows it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What stands in it.
    pub octets: Bytes,
    /// Its marks.
    pub marks: Marks,
}

/// By what a server tells whether a document has changed: words of its own, which it gets back as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// `ETag`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `Last-Modified`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
}

/// What is wanted of a document.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The media type.
    pub accept: &'static str,
    /// At most so many octets.
    pub most: usize,
    /// The marks of what is known already.
    pub known: Option<&'a Marks>,
}

/// What a web server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// This document.
    Document(Document),
    /// It is as it was when it had those marks.
    Unchanged,
    /// It is elsewhere.
    Moved(String),
}

/// Asks for this place over a channel that was made to it. Nothing bounds the time; whoever asks does.
///
/// # Errors
/// Why there is no such document, in words.
pub async fn get<S>(stream: S, place: &Url, wish: &Wish<'_>) -> Result<Answered, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |error: hyper::Error| error.to_string();
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(words)?;
    let mut request = Request::get(&place.path)
        .header(header::HOST, &place.authority)
        .header(header::ACCEPT, wish.accept)
        .header(header::CONNECTION, "close");
    if let Some(tag) = wish.known.and_then(|marks| marks.tag.as_ref()) {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    if let Some(changed) = wish.known.and_then(|marks| marks.changed.as_ref()) {
        request = request.header(header::IF_MODIFIED_SINCE, changed);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        let status = answer.status();
        if status == StatusCode::NOT_MODIFIED && wish.known.is_some() {
            return Ok(Answered::Unchanged);
        }
        if status.is_redirection() {
            let location = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            return location
                .map(|to| Answered::Moved(to.to_owned()))
                .ok_or("it redirects to nowhere".to_owned());
        }
        if status != StatusCode::OK {
            return Err(format!("it answers {}", status.as_u16()));
        }
        let mark = |name| {
            let text = answer.headers().get(name).and_then(|value| value.to_str().ok());
            text.filter(|text| text.len() <= MARK).map(str::to_owned)
        };
        let marks = Marks { tag: mark(header::ETAG), changed: mark(header::LAST_MODIFIED) };
        let most = wish.most;
        match Limited::new(answer.into_body(), most).collect().await {
            Ok(body) => Ok(Answered::Document(Document { octets: body.to_bytes(), marks })),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(format!("its answer has more than {most} octets"))
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let mut asked = std::pin::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        _ended = connection => asked.await,
    }
}

/// Octets of the head of an answer; hyper takes no smaller ceiling than 8192.
const HEAD: usize = 16_384;
/// Octets of a mark.
const MARK: usize = 256;
/// Fields of it.
const HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_a_place() {
        let place = Url::parse("https://a.example/.well-known/posh/xmpp-server.json").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("a.example", 443));
        assert_eq!(Url::parse("https://A.example:8443").unwrap().port, 8443);
        assert_eq!(Url::parse("HTTPS://a.example/").unwrap(), Url::parse("https://a.example/").unwrap());
        assert_eq!(Url::parse("https://[2001:db8::1]:8443/x").unwrap().host, "2001:db8::1");
        for wrong in [
            "http://a.example/",
            "ftp://a.example/",
            "//a.example/",
            "/x",
            "a.example",
            "https://",
            "https:///x",
            "https://user:word@a.example/",
            "https://a.example:/",
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:x/",
            "https://a.example/ x",
            "",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(place.follow("/x?y").unwrap().to_string(), "https://a.example/x?y");
        assert_eq!(place.follow("https://b.example:444/z").unwrap().to_string(), "https://b.example:444/z");
        // RFC 9110 10.2.2, RFC 3986 5.2: what is no whole URL is read beside the place that answered.
        let place = Url::parse("https://a.example:8443/b/c.json?d").unwrap();
        for (location, there) in [
            ("//b.example/x", "https://b.example/x"),
            ("x", "https://a.example:8443/b/x"),
            ("./x?y#z:", "https://a.example:8443/b/x?y"),
            ("../x/y", "https://a.example:8443/x/y"),
            ("../../../x", "https://a.example:8443/x"),
            ("x/..", "https://a.example:8443/b/"),
            ("..", "https://a.example:8443/"),
            ("?e", "https://a.example:8443/b/c.json?e"),
            ("", "https://a.example:8443/b/c.json"),
        ] {
            assert_eq!(place.follow(location).map(|url| url.to_string()).as_deref(), Ok(there), "{location}");
        }
        for wrong in ["http://a.example/x", "//user@b.example/x", "//", "ftp:x", "x y"] {
            assert!(place.follow(wrong).is_err(), "{wrong}");
        }
    }
}
