//! How one program reaches another: all addresses of a name in the manner of RFC 8305, and the proxies that
//! an institution's network may have.

use std::io;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::net::TcpStream;
use tower::ServiceExt;

/// What all addresses of a name have together until one answers. Each has its share of it, so that a dead
/// first one does not hold up the others.
const CONNECT: Duration = Duration::from_secs(6);

/// In place of a proxy: none, whatever the environment says.
pub const DIRECT: &str = "direct";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not an address: expected HOST:PORT")]
    Address(String),
    #[error("the proxy is not one: expected http://HOST:PORT, socks5://HOST:PORT or direct")]
    Proxy,
    #[error("the proxy at {proxy} does not make the connection: {reason}")]
    Refused { proxy: String, reason: String },
}

/// The way to one address. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialler {
    to: Uri,
    way: Way,
}

/// Credentials stand in none of the messages.
#[derive(Clone)]
enum Way {
    Direct,
    Http {
        proxy: Uri,
        credentials: Option<HeaderValue>,
    },
    Socks {
        proxy: Uri,
        credentials: Option<(String, String)>,
    },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("Direct"),
            Self::Http { proxy, .. } | Self::Socks { proxy, .. } => {
                write!(f, "Proxy({})", place(proxy))
            }
        }
    }
}

impl Dialler {
    /// The way to a host, by `proxy`: `http://`, `socks5://`, or [`DIRECT`]. Without one the environment
    /// decides, by `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub fn new(host: &str, port: u16, proxy: Option<&str>) -> Result<Self, Error> {
        let bracketed = host.contains(':');
        let address = if bracketed {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let to = Uri::builder()
            .scheme("https")
            .authority(address.as_str())
            .path_and_query("/")
            .build()
            .map_err(|_| Error::Address(address.clone()))?;
        let way = match proxy {
            Some(DIRECT) => Way::Direct,
            Some(proxy) => {
                let matcher = Matcher::builder().all(proxy.to_owned()).build();
                by(&matcher, &to)?.ok_or(Error::Proxy)?
            }
            None => by(&Matcher::from_env(), &to)?.unwrap_or(Way::Direct),
        };
        Ok(Self { to, way })
    }

    /// A connection, once one of the addresses has answered.
    pub async fn dial(&self) -> io::Result<TcpStream> {
        let stream = match &self.way {
            Way::Direct => connector()
                .oneshot(self.to.clone())
                .await
                .map_err(io::Error::other)?,
            Way::Http { proxy, credentials } => {
                let mut tunnel = Tunnel::new(proxy.clone(), connector());
                if let Some(credentials) = credentials {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                let tunnelled = tunnel.oneshot(self.to.clone()).await;
                tunnelled.map_err(|error| refused(proxy, &error))?
            }
            Way::Socks { proxy, credentials } => {
                let mut socks = SocksV5::new(proxy.clone(), connector());
                if let Some((user, password)) = credentials {
                    socks = socks.with_auth(user.clone(), password.clone());
                }
                let tunnelled = socks.oneshot(self.to.clone()).await;
                tunnelled.map_err(|error| refused(proxy, &error))?
            }
        };
        let stream = stream.into_inner();
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector
}

fn by(matcher: &Matcher, to: &Uri) -> Result<Option<Way>, Error> {
    let Some(intercept) = matcher.intercept(to) else {
        return Ok(None);
    };
    let proxy = intercept.uri().clone();
    match proxy.scheme_str() {
        Some("http") => Ok(Some(Way::Http {
            credentials: intercept.basic_auth().cloned(),
            proxy,
        })),
        Some("socks5" | "socks5h") => {
            let credentials = intercept.raw_auth();
            let credentials =
                credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
            Ok(Some(Way::Socks { proxy, credentials }))
        }
        _ => Err(Error::Proxy),
    }
}

fn place(proxy: &Uri) -> String {
    let host = proxy.host().unwrap_or_default();
    proxy
        .port_u16()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn refused(proxy: &Uri, error: &dyn std::error::Error) -> io::Error {
    let mut reason = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        reason = format!("{reason}: {error}");
        next = error.source();
    }
    let proxy = place(proxy);
    io::Error::other(Error::Refused { proxy, reason })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that gives that answer; what it was asked.
    async fn proxy(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("address").port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.expect("asked");
                asked.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).await.expect("answered");
            String::from_utf8(asked).expect("text")
        });
        (port, asked)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_with_its_credentials() {
        let (port, asked) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
        let way = format!("http://user:word@127.0.0.1:{port}");
        let dialler = Dialler::new("fedner.test", 7443, Some(&way)).expect("a proxy");
        assert!(!format!("{dialler:?}").contains("word"));
        dialler.dial().await.expect("through");
        let asked = asked.await.expect("asked");
        assert!(asked.starts_with("CONNECT fedner.test:7443 "), "{asked}");
        // user:word
        assert!(asked.contains("Basic dXNlcjp3b3Jk"), "{asked}");
    }

    #[tokio::test]
    async fn a_proxy_that_says_no_is_named_and_its_password_is_not() {
        let (port, _) = proxy("HTTP/1.1 407 Who?\r\n\r\n").await;
        let way = format!("http://user:word@127.0.0.1:{port}");
        let dialler = Dialler::new("fedner.test", 7443, Some(&way)).expect("a proxy");
        let error = dialler.dial().await.expect_err("refused").to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
        assert!(error.contains("authorization required"), "{error}");
        assert!(!error.contains("word"), "{error}");
    }

    #[tokio::test]
    async fn without_a_proxy_the_host_itself_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("address").port();
        let dialler = Dialler::new("127.0.0.1", port, Some(DIRECT)).expect("direct");
        let (dialled, accepted) = tokio::join!(dialler.dial(), listener.accept());
        dialled.expect("dialled");
        accepted.expect("accepted");
        for wrong in ["ftp://h:1", "https://h:1"] {
            assert!(matches!(
                Dialler::new("h", 1, Some(wrong)),
                Err(Error::Proxy)
            ));
        }
    }
}
