//! Who may open a page.
//!
//! A page is reached over plain HTTP on loopback, where every program of the machine and every page in a browser
//! can try. So the address that a person is given holds a word that is good once. It is exchanged for a key that
//! stands in the path of every further request; there is no cookie that a browser would add for another page. The
//! name that was asked for (`Host`) must be one of loopback, or a name that another one has bound to 127.0.0.1
//! would do; and what another page asks for (`Origin`, `Sec-Fetch-Site`) is refused.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use sha2::{Digest as _, Sha256};

/// Keys that hold at the same time; the oldest gives way.
const KEYS: usize = 16;

/// The largest path with its query.
const PATH_BYTES: usize = 4096;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self' data:; form-action 'self'; base-uri 'self'; frame-ancestors 'none'";

/// Called with each new one-time address.
type Announce = Box<dyn Fn(&str) + Send + Sync>;

/// Words and keys of one page, as their digests: what is compared takes the same time whatever is tried.
pub struct Guard {
    address: SocketAddr,
    secrets: Mutex<Secrets>,
    announce: Announce,
}

#[derive(Default)]
struct Secrets {
    once: Option<[u8; 32]>,
    keys: VecDeque<[u8; 32]>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Where a page's addresses begin; stands in the request once its key is known to be right.
#[derive(Debug, Clone)]
pub struct Base {
    /// With a slash at the end.
    pub address: String,
    /// What is asked for, seen from there.
    pub rest: String,
}

/// Whether `host` is this machine and this port: not a name that someone else resolves.
fn is_here(address: SocketAddr, host: &str) -> bool {
    let port = address.port();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|name| host == format!("{name}:{port}"))
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 256 bits as text.
fn draw() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

impl Guard {
    /// A guard for what is served at `address`. `announce` is handed the address to open, and a new one
    /// whenever that was used.
    pub fn new(
        address: SocketAddr,
        announce: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, getrandom::Error> {
        let guard = Self {
            address,
            secrets: Mutex::default(),
            announce: Box::new(announce),
        };
        guard.invite()?;
        Ok(Arc::new(guard))
    }

    fn invite(&self) -> Result<(), getrandom::Error> {
        let once = draw()?;
        self.secrets().once = Some(digest(&once));
        (self.announce)(&format!("http://{}/open/{once}", self.address));
        Ok(())
    }

    fn secrets(&self) -> std::sync::MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges a one-time word for a key.
    fn exchange(&self, once: &str) -> Result<Option<String>, getrandom::Error> {
        let right = self.secrets().once == Some(digest(once));
        if !right {
            return Ok(None);
        }
        let key = draw()?;
        {
            let mut secrets = self.secrets();
            // Of two that come at once one is too late.
            if secrets.once.take() != Some(digest(once)) {
                return Ok(None);
            }
            secrets.keys.push_back(digest(&key));
            if secrets.keys.len() > KEYS {
                secrets.keys.pop_front();
            }
        }
        self.invite()?;
        Ok(Some(key))
    }

    fn knows(&self, key: &str) -> bool {
        self.secrets().keys.contains(&digest(key))
    }

    /// Why a request is refused before its path is looked at.
    fn refuses(&self, method: &Method, headers: &HeaderMap, opens: bool) -> Option<&'static str> {
        let text = |name: header::HeaderName| match headers.get(&name).map(HeaderValue::to_str) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(()),
        };
        let Ok(Some(host)) = text(header::HOST) else {
            return Some("the request names no host");
        };
        if headers.get_all(header::HOST).iter().count() != 1 || !is_here(self.address, host) {
            return Some("this page is not served under that name");
        }
        let same = |origin: &str| {
            let origin = origin.strip_prefix("http://");
            origin.is_some_and(|origin| origin == host)
        };
        match text(header::ORIGIN) {
            Ok(Some(origin)) if same(origin) => {}
            Ok(None) if *method == Method::GET || *method == Method::HEAD => {}
            Ok(_) | Err(()) => return Some("another page asks"),
        }
        // A link in a mail may lead to the one-time address; nothing may lead further.
        let site = headers
            .get("sec-fetch-site")
            .and_then(|site| site.to_str().ok());
        if !opens && matches!(site, Some("cross-site" | "same-site")) {
            return Some("another page asks");
        }
        None
    }
}

/// Refuses what does not come from the page itself, and says to browsers what the page may do.
pub(crate) async fn watch(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let opens = request.uri().path().starts_with("/open/");
    let long = request
        .uri()
        .path_and_query()
        .is_some_and(|path| path.as_str().len() > PATH_BYTES);
    let response = match guard.refuses(request.method(), request.headers(), opens) {
        Some(why) => refused(StatusCode::FORBIDDEN, why),
        None if long => refused(StatusCode::URI_TOO_LONG, "the address is too long"),
        None => next.run(request).await,
    };
    protected(response)
}

/// Refuses names that are not of this machine, for what needs no key.
pub(crate) async fn watch_name(
    State(address): State<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_here(address, host)) {
        return refused(StatusCode::FORBIDDEN, "this is not served under that name");
    }
    protected(next.run(request).await)
}

fn protected(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut put = |name: header::HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    put(header::CONTENT_SECURITY_POLICY, POLICY);
    // Under `no-referrer` a browser says of the page's own forms that they come from nowhere.
    put(header::REFERRER_POLICY, "same-origin");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::X_FRAME_OPTIONS, "DENY");
    let own = header::HeaderName::from_static;
    put(own("cross-origin-opener-policy"), "same-origin");
    put(own("cross-origin-resource-policy"), "same-origin");
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

pub(crate) fn refused(status: StatusCode, why: &str) -> Response {
    let hint = "hint: open the address that the command prints";
    (status, format!("{why}\n{hint}\n")).into_response()
}

/// `/open/WORD`.
pub(crate) async fn open(State(guard): State<Arc<Guard>>, Path(once): Path<String>) -> Response {
    match guard.exchange(&once) {
        Ok(Some(key)) => Redirect::to(&format!("/s/{key}/")).into_response(),
        Ok(None) => refused(
            StatusCode::FORBIDDEN,
            "this address was used before, or never held",
        ),
        Err(error) => {
            tracing::error!("the machine gives no random numbers: {error}");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "no key could be drawn")
        }
    }
}

/// Whether the path begins with a key that holds.
pub(crate) async fn unlock(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let key = key_of(request.uri()).unwrap_or_default();
    if !guard.knows(key) {
        return refused(StatusCode::FORBIDDEN, "this address holds no longer");
    }
    let address = format!("/s/{key}/");
    let rest = &request.uri().path()[address.len()..];
    let rest = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    // From here on nothing needs the key, and nothing can write it down.
    let uri = format!("/{rest}");
    let base = Base { address, rest };
    let Ok(uri) = uri.parse::<Uri>() else {
        return refused(StatusCode::BAD_REQUEST, "the address cannot be read");
    };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(base);
    next.run(request).await
}

/// `/s/KEY/…`.
fn key_of(uri: &Uri) -> Option<&str> {
    let (key, _) = uri.path().strip_prefix("/s/")?.split_once('/')?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> (Arc<Guard>, Arc<Mutex<Vec<String>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let announce = move |address: &str| {
            heard.lock().expect("lock").push(address.to_owned());
        };
        let address = "127.0.0.1:4000".parse().expect("address");
        (Guard::new(address, announce).expect("drawn"), said)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("value"));
        }
        headers
    }

    #[test]
    fn an_address_is_good_once_and_its_key_stays_good() {
        let (guard, said) = guard();
        let word = |number: usize| {
            let said = said.lock().expect("lock");
            said[number].rsplit('/').next().expect("word").to_owned()
        };
        let key = guard.exchange(&word(0)).expect("drawn").expect("a key");
        assert!(guard.knows(&key));
        assert_eq!(guard.exchange(&word(0)).expect("drawn"), None, "stale");
        assert_eq!(guard.exchange("").expect("drawn"), None);
        assert!(!guard.knows("") && !guard.knows(&word(1)) && !guard.knows(&key[1..]));
        for number in 1..=KEYS {
            let next = guard.exchange(&word(number)).expect("drawn");
            assert!(guard.knows(&next.expect("a key")));
        }
        assert!(!guard.knows(&key), "the oldest key gave way");
        assert!(!format!("{guard:?}").contains(&word(KEYS + 1)));
    }

    #[test]
    fn other_names_and_other_origins_are_refused() {
        let (guard, _) = guard();
        let look = |method: Method, pairs: &[(&'static str, &str)]| {
            guard.refuses(&method, &headers(pairs), false)
        };
        let here = ("host", "127.0.0.1:4000");
        let own = ("origin", "http://127.0.0.1:4000");
        assert_eq!(look(Method::GET, &[here]), None);
        assert_eq!(look(Method::GET, &[("host", "localhost:4000")]), None);
        assert_eq!(look(Method::POST, &[here, own]), None);
        for host in [
            "evil.example:4000",
            "127.0.0.1.evil.example:4000",
            "127.0.0.1",
            "127.0.0.1:4001",
            "localhost.:4000",
        ] {
            assert!(look(Method::GET, &[("host", host)]).is_some(), "{host}");
        }
        assert!(look(Method::GET, &[]).is_some());
        assert!(look(Method::GET, &[here, ("host", "evil.example:4000")]).is_some());
        for origin in [
            "http://evil.example",
            "null",
            "https://127.0.0.1:4000",
            "http://127.0.0.1:4001",
            "http://localhost:4000",
        ] {
            assert!(
                look(Method::GET, &[here, ("origin", origin)]).is_some(),
                "{origin}"
            );
            assert!(
                look(Method::POST, &[here, ("origin", origin)]).is_some(),
                "{origin}"
            );
        }
        // A form of another page sends an origin; what sends none is no browser's form.
        assert!(look(Method::POST, &[here]).is_some());
        assert!(look(Method::GET, &[here, ("sec-fetch-site", "cross-site")]).is_some());
        assert_eq!(
            look(Method::GET, &[here, ("sec-fetch-site", "same-origin")]),
            None
        );
        let link = headers(&[here, ("sec-fetch-site", "cross-site")]);
        assert_eq!(guard.refuses(&Method::GET, &link, true), None);
    }
}
