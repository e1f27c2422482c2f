use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dial::DIRECT;

/// A server's side and a client's, with one certificate for `name`.
fn pair(name: &str) -> (Arc<ServerConfig>, ClientConfig) {
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("params");
    let certificate = params.self_signed(&key).expect("certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a server");
    (Arc::new(server), client(roots))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("address");
    (listener, address.to_string().parse().expect("an address"))
}

/// Shakes hands with whoever comes, until it is aborted; who came is counted.
fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
) -> (tokio::task::JoinHandle<()>, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let counting = count.clone();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            // A client of TLS 1.3 is done before the server is: what came is counted, not what was finished.
            counting.fetch_add(1, Ordering::SeqCst);
            if let Ok(stream) = TlsAcceptor::from(config.clone()).accept(stream).await {
                open.push(stream);
            }
        }
    });
    (serving, count)
}

fn turn(addresses: &[&Address], tls: ClientConfig) -> Turn {
    let addresses = addresses.iter().map(|address| (*address).clone());
    let addresses = Addresses::new(addresses.collect()).expect("addresses");
    Turn::new(&addresses, None, Some(DIRECT), tls).expect("ways")
}

/// Where nobody listens.
async fn nowhere() -> Address {
    listen().await.1
}

#[tokio::test]
async fn one_that_refuses_costs_nothing_and_one_that_is_silent_a_little() {
    let (server, tls) = pair("127.0.0.1");
    let (listener, live) = listen().await;
    let (_silent, silent) = listen().await;
    let (_serving, count) = serve(listener, server);
    let refusing = nowhere().await;
    let began = Instant::now();
    let turn = turn(&[&refusing, &silent, &live], tls);
    turn.connect().await.expect("the last one answers");
    let waited = began.elapsed();
    assert!(
        waited >= PATIENCE,
        "the silent one had its time: {waited:?}"
    );
    assert!(waited < CONNECT, "and no more than that: {waited:?}");

    // Who answered last is first.
    let began = Instant::now();
    turn.clone().connect().await.expect("again");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn when_the_first_one_ends_the_next_one_serves_and_stays_first() {
    let (server, tls) = pair("127.0.0.1");
    let ((one, first), (two, second)) = (listen().await, listen().await);
    let (serving, count) = serve(one, server.clone());
    let (_serving, second_count) = serve(two, server.clone());
    let turn = turn(&[&first, &second], tls);
    turn.connect().await.expect("the first");
    serving.abort();
    let _ = serving.await;
    turn.connect().await.expect("the second");
    let back = TcpListener::bind((first.host.as_str(), first.port)).await;
    let (_serving, back) = serve(back.expect("listens again"), server);
    turn.connect().await.expect("the second again");
    let counts = [&count, &second_count, &back].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts, [1, 2, 0]);
}

#[tokio::test]
async fn each_address_is_held_to_its_own_name_and_the_right_authority() {
    let (server, tls) = pair("localhost");
    let (listener, by_ip) = listen().await;
    let by_name = Address {
        host: "localhost".to_owned(),
        port: by_ip.port,
    };
    let (_serving, _) = serve(listener, server);
    let (stranger, _) = pair("localhost");
    let (listener, foreign) = listen().await;
    let (_serving, _) = serve(listener, stranger);
    let foreign = Address {
        host: "localhost".to_owned(),
        ..foreign
    };
    let to = |addresses: &[&Address]| turn(addresses, tls.clone());
    let right = to(&[&foreign, &by_ip, &by_name]).connect().await;
    right.expect("what is wrong elsewhere does not stop it");
    let wrong = to(&[&foreign, &by_ip]).connect().await.expect_err("wrong");
    let both = wrong.get_ref().and_then(|both| both.source());
    assert!(both.is_some(), "a refusal of TLS is the cause: {wrong}");
    let (one, two) = (foreign.to_string(), by_ip.to_string());
    let text = wrong.to_string();
    assert!(text.contains(&one) && text.contains(&two), "{text}");

    let away = nowhere().await;
    let mixed = to(&[&foreign, &away]).connect().await.expect_err("away");
    let cause = mixed.get_ref().and_then(|mixed| mixed.source());
    assert!(cause.is_none(), "the other one may come back: {mixed}");
}
