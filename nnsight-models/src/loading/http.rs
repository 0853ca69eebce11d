//! Downloads that end: with the bytes, or with an error after a while.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use crate::{Error, Result};

/// How long a server is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the connection to be made.
    pub connect: Duration,
    /// For the next bytes.
    pub read: Duration,
    /// Within which `least` bytes of a file must arrive.
    pub window: Duration,
    pub least: u64,
    /// Redirects that are followed.
    pub redirects: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { connect: Duration::from_secs(10), read: Duration::from_secs(30), window: Duration::from_secs(60), least: 64 << 10, redirects: 10 }
    }
}

/// A client of one server, which may redirect to others.
pub struct Client {
    agent: Agent,
    patience: Patience,
    /// The server: scheme, host and port.
    endpoint: String,
    token: Option<String>,
}

/// The last answer to a request, and what was said of the file on the way to it.
pub struct Answer {
    pub status: u16,
    pub commit: Option<String>,
    pub etag: Option<String>,
    response: Response<Body>,
}

impl Client {
    pub fn new(endpoint: &str, token: Option<String>, patience: Patience) -> Self {
        let config = Agent::config_builder()
            // Redirects are followed here: headers on the way are needed, and the token is for the endpoint alone.
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.read))
            .timeout_recv_response(Some(patience.read))
            .timeout_per_read(Some(patience.read))
            .build();
        Client { agent: config.into(), patience, endpoint: endpoint.trim_end_matches('/').to_string(), token }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks for the bytes of a file from `range` on: `bytes=0-0` is the first byte.
    pub fn get(&self, url: &str, range: &str) -> Result<Answer> {
        let failed = |problem: String| Error::Download { url: url.to_string(), problem };
        let (mut next, mut commit, mut etag) = (url.to_string(), None, None);
        let mut linked = None;
        for _ in 0..=self.patience.redirects {
            let mut request = self.agent.get(&next).header("range", range).header("user-agent", concat!("nnsight/", env!("CARGO_PKG_VERSION")));
            let is_endpoint = origin(&next).is_some_and(|origin| Some(origin) == self::origin(&self.endpoint));
            if let (Some(token), true) = (&self.token, is_endpoint) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| failed(error.to_string()))?;
            if is_endpoint {
                // Of the endpoint's own answers, the first that names the file it links to.
                commit = commit.or_else(|| header(response.headers(), "x-repo-commit"));
                linked = linked.or_else(|| header(response.headers(), "x-linked-etag"));
                etag = header(response.headers(), "etag").or(etag);
            }
            let status = response.status().as_u16();
            match header(response.headers(), "location") {
                Some(location) if matches!(status, 301 | 302 | 303 | 307 | 308) => {
                    next = resolve(&next, &location).ok_or_else(|| failed(format!("it redirects to {location:?}, which is no address")))?;
                }
                _ => {
                    return Ok(Answer { status, commit, etag: linked.or(etag).map(|etag| etag.trim_start_matches("W/").replace('"', "")), response });
                }
            }
        }
        Err(failed(format!("it redirects more than {} times", self.patience.redirects)))
    }

    /// Writes the rest of a file, of which `start` bytes are there, to its end at `size`.
    pub fn save(&self, url: &str, answer: Answer, file: &mut File, start: u64, size: u64) -> Result<()> {
        let failed = |problem: String| Error::Download { url: url.to_string(), problem };
        let mut reader = answer.response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        let (mut written, mut since, mut recent) = (start, Instant::now(), 0);
        loop {
            let read = reader.read(&mut buffer).map_err(|error| failed(format!("after {written} of {size} bytes: {error}")))?;
            if read == 0 {
                break;
            }
            written += read as u64;
            recent += read as u64;
            if written > size {
                return Err(failed(format!("it sends more than the {size} bytes that it announced")));
            }
            file.write_all(&buffer[..read]).map_err(|error| failed(format!("the bytes cannot be kept: {error}")))?;
            if since.elapsed() > self.patience.window {
                if recent < self.patience.least {
                    return Err(failed(format!("{recent} bytes in {} seconds are too few", self.patience.window.as_secs())));
                }
                (since, recent) = (Instant::now(), 0);
            }
        }
        match written == size {
            true => Ok(()),
            false => Err(failed(format!("it ends after {written} of {size} bytes"))),
        }
    }
}

impl Answer {
    /// The first byte that is sent.
    pub fn start(&self) -> u64 {
        let range = header(self.response.headers(), "content-range");
        let start = range.as_ref().and_then(|range| range.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok());
        // A server that does not know ranges begins at the beginning.
        start.unwrap_or(0)
    }

    /// The length of the whole file, as the answer to a range says it.
    pub fn size(&self) -> Option<u64> {
        let range = header(self.response.headers(), "content-range");
        match range {
            Some(range) => range.rsplit_once('/')?.1.trim().parse().ok(),
            None => header(self.response.headers(), "content-length")?.trim().parse().ok(),
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_string)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String, Option<u16>)> {
    let uri = url.parse::<Uri>().ok()?;
    Some((uri.scheme_str()?.to_string(), uri.host()?.to_string(), uri.port_u16()))
}

/// Where a redirect leads: to an address, or to a path of the same server. Never from an encrypted connection to one that is not.
fn resolve(from: &str, location: &str) -> Option<String> {
    let here = from.parse::<Uri>().ok()?;
    let (scheme, authority) = (here.scheme_str()?, here.authority()?);
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    let there = location.parse::<Uri>().ok()?;
    match (scheme, there.scheme_str()?) {
        (_, "https") | ("http", "http") => Some(location.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_addresses_only() {
        let from = "https://huggingface.co/a/b?c=d";
        assert_eq!(resolve(from, "/x/y").as_deref(), Some("https://huggingface.co/x/y"));
        assert_eq!(resolve(from, "https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
        for location in ["http://cdn.example/x", "file:///etc/passwd", "//host/x", "x", ""] {
            assert_eq!(resolve(from, location), None, "{location}");
        }
    }
}
