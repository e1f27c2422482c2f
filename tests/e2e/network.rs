//! The network and the service manager that a program has: proxies, inspection of TLS, IPv6, signals, and a machine that
//! kills it again and again.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::binaries::binaries;
use fedner_tests::notes::Split;
use fedner_tests::process::{self, Process};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// A proxy of an institution's network: HTTP with CONNECT, or SOCKS5.
struct HouseProxy {
    address: String,
    /// How often it was asked for the coordinator.
    asked: Arc<AtomicU32>,
}

/// Reads up to an empty line.
fn head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        ensure!(head.len() < 10_000, "no end of the head");
    }
    Ok(String::from_utf8(head)?)
}

/// Answers a request, and returns where to.
fn greet(near: &mut TcpStream, http: bool, allows: bool) -> Result<Option<String>> {
    if http {
        let head = head(near)?;
        let to = head.strip_prefix("CONNECT ").context("a tunnel")?;
        let to = to.split(' ').next().context("an address")?.to_owned();
        let answer = if allows {
            "HTTP/1.1 200 OK\r\n\r\n"
        } else {
            "HTTP/1.1 403 Forbidden\r\n\r\n"
        };
        near.write_all(answer.as_bytes())?;
        return Ok(allows.then_some(to));
    }
    // RFC 1928: no authentication; CONNECT to an IPv4 address or a name.
    let mut two = [0; 2];
    near.read_exact(&mut two)?;
    let mut methods = vec![0; two[1].into()];
    near.read_exact(&mut methods)?;
    near.write_all(&[5, 0])?;
    let mut request = [0; 4];
    near.read_exact(&mut request)?;
    let host = if request[3] == 1 {
        let mut four = [0; 4];
        near.read_exact(&mut four)?;
        std::net::Ipv4Addr::from(four).to_string()
    } else {
        let mut length = [0];
        near.read_exact(&mut length)?;
        let mut name = vec![0; length[0].into()];
        near.read_exact(&mut name)?;
        String::from_utf8(name)?
    };
    let mut port = [0; 2];
    near.read_exact(&mut port)?;
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(Some(format!("{host}:{}", u16::from_be_bytes(port))))
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

impl HouseProxy {
    fn start(http: bool, allows: bool) -> Result<Self> {
        Self::start_to(None, http, allows)
    }

    /// Whatever is asked for, `target` is what is behind it.
    fn start_to(target: Option<String>, http: bool, allows: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let scheme = if http { "http" } else { "socks5" };
        let address = format!("{scheme}://{}", listener.local_addr()?);
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for mut near in listener.incoming().flatten() {
                let (count, target) = (count.clone(), target.clone());
                std::thread::spawn(move || -> Result<()> {
                    let to = greet(&mut near, http, allows)?;
                    count.fetch_add(1, Ordering::SeqCst);
                    let Some(to) = to else { return Ok(()) };
                    let far = TcpStream::connect(target.unwrap_or(to))?;
                    let back = (far.try_clone()?, near.try_clone()?);
                    std::thread::spawn(move || carry(back.0, back.1));
                    carry(near, far);
                    Ok(())
                });
            }
        });
        Ok(Self { address, asked })
    }

    fn take(&self) -> u32 {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

fn wait_for(what: &str, reached: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + MINUTES;
    while !reached()? {
        ensure!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn enroll(setting: &Setting, name: &str, more: &[&str]) -> Result<Command> {
    let invite = setting.cluster.invite(name)?;
    let data = setting.text(0, fedner_tests::notes::Split::Train, 2)?;
    let mut command = setting.cluster.client_command(name, &["enroll"])?;
    command.arg(invite).arg("--data").arg(data).args(more);
    // What the machine says of hosts without a proxy is not of this network.
    command.env("NO_PROXY", "").env("no_proxy", "");
    Ok(command)
}

#[test]
fn enrolment_check_and_daemon_go_through_the_proxy_of_the_environment_or_of_client_toml()
-> Result<()> {
    let mut setting = Setting::new()?;
    for (name, http) in [("i0", true), ("i1", false)] {
        let proxy = HouseProxy::start(http, true)?;
        let environment = [
            ("HTTPS_PROXY", proxy.address.as_str()),
            ("NO_PROXY", ""),
            ("no_proxy", ""),
        ];
        let mut command = enroll(&setting, name, &[])?;
        command.envs(environment);
        process::run(command)?;
        assert!(proxy.take() > 0, "the enrolment of {name}");
        let mut command = setting.cluster.client_command(name, &["check"])?;
        command.envs(environment);
        let _ = command.output()?;
        assert!(proxy.take() > 0, "the check of {name}");
        setting.cluster.start_client_with(name, &environment)?;
        wait_for("the daemon's call", || Ok(proxy.take() > 0))?;
        setting.cluster.kill_client(name)?;
    }
    // In the file it holds without the environment, and `direct` holds against it.
    let proxy = HouseProxy::start(true, true)?;
    process::run(enroll(&setting, "i2", &["--proxy", &proxy.address])?)?;
    assert!(proxy.take() > 0);
    let check = setting.cluster.client_command("i2", &["check"])?.output()?;
    assert!(proxy.take() > 0, "{check:?}");
    let mut direct = enroll(&setting, "i3", &["--proxy", "direct"])?;
    direct.env("HTTPS_PROXY", &proxy.address);
    process::run(direct)?;
    assert_eq!(proxy.take(), 0);
    // One that says no is named, with a code of its own.
    let no = HouseProxy::start(true, false)?;
    let said = refused(enroll(&setting, "i4", &["--proxy", &no.address])?)?;
    let place = no.address.trim_start_matches("http://");
    assert!(
        said.contains("proxy-refused") && said.contains(place),
        "{said}"
    );
    Ok(())
}

/// A middlebox that ends TLS with a certificate of the house; its address.
fn inspecting() -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let names = &mut params.distinguished_name;
    names.push(DnType::OrganizationName, "Hospital North");
    names.push(DnType::CommonName, "Hospital North Web Security");
    let certificate = params.self_signed(&key)?;
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || -> Result<()> {
                let mut session = ServerConnection::new(config)?;
                while session.is_handshaking() {
                    session.complete_io(&mut stream)?;
                }
                Ok(())
            });
        }
    });
    Ok(address)
}

#[test]
fn whose_certificate_was_shown_in_place_of_the_coordinators_is_said() -> Result<()> {
    let setting = Setting::new()?;
    let middle = inspecting()?;
    let mut command = enroll(&setting, "i0", &[])?;
    let invite = setting.cluster.directory().join("i0.invite.toml");
    let text = fs::read_to_string(&invite)?.replace(&setting.cluster.address(), &middle);
    fs::write(&invite, text)?;
    command.env("HTTPS_PROXY", "");
    let inspected = |said: &str| {
        said.contains("certificate-untrusted")
            && said.contains("Hospital North Web Security")
            && said.contains("inspects TLS")
    };
    let said = refused(command)?;
    assert!(inspected(&said), "{said}");
    // Also of an institution that is enrolled.
    setting.enrol("i1", 1, 2)?;
    setting.cluster.redirect("i1", &middle)?;
    let check = setting.cluster.client_command("i1", &["check"])?.output()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(!check.status.success() && inspected(&said), "{said}");
    assert!(!said.contains("enrol with an invite"), "{said}");
    Ok(())
}

fn signal(process: Option<&mut Process>, name: &str) -> Result<()> {
    let id = process.context("a process")?.id().to_string();
    let sent = Command::new("kill").args([name, &id]).status()?;
    ensure!(sent.success(), "kill {name} {id}");
    Ok(())
}

#[test]
fn a_hangup_ends_neither_program_and_takes_over_what_may_change() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.start_client("i0")?;
    let says = |name: &str, words: &str| {
        let name = name.to_owned();
        let words = words.to_owned();
        let log = setting.cluster.log(&name);
        move || Ok(fs::read_to_string(&log)?.contains(&words))
    };
    let (client, coordinator) = (
        says("i0", "asked to reload"),
        says("coordinator", "is as it was"),
    );
    let (taken, later) = (
        says("coordinator", "in force now: min_client, names, [limits]"),
        says(
            "coordinator",
            "used at the next start: listen, connection_age_s",
        ),
    );
    let broken = says("coordinator", "the configuration in use stays");
    wait_for("the start", says("i0", "i0 starts"))?;
    signal(setting.cluster.client_process("i0"), "-HUP")?;
    wait_for("the client's word", client)?;
    signal(setting.cluster.coordinator_process(), "-HUP")?;
    wait_for("the coordinator's word", coordinator)?;

    // Another name for the same coordinator, known in one institution's network only.
    setting.enrol("i1", 1, 2)?;
    let gateway = HouseProxy::start_to(Some(setting.cluster.address()), true, true)?;
    setting.cluster.redirect("i1", "gateway.test:7443")?;
    let client = setting.cluster.client_directory("i1").join("client.toml");
    let text = fs::read_to_string(&client)?;
    fs::write(&client, format!("proxy = {:?}\n{text}", gateway.address))?;
    let check = |setting: &Setting, name: &str| -> Result<String> {
        let check = setting.cluster.client_command(name, &["check"])?.output()?;
        Ok(String::from_utf8_lossy(&check.stdout).into_owned())
    };
    let said = check(&setting, "i1")?;
    assert!(said.contains("server-name"), "{said}");
    let file = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let before = fs::read_to_string(&file)?;
    fs::write(&file, "name = ")?;
    signal(setting.cluster.coordinator_process(), "-HUP")?;
    wait_for("the refusal of half a file", broken)?;
    let listen = before.lines().find(|line| line.starts_with("listen"));
    let after = before.replace(listen.context("listen")?, "listen = \"127.0.0.1:1\"");
    let keys = "min_client = \"999.0.0\"\nnames = [\"gateway.test\"]\n";
    fs::write(
        &file,
        format!("{keys}{after}\n[limits]\nconnections = 4096\nconnection_age_s = 99\n"),
    )?;
    signal(setting.cluster.coordinator_process(), "-HUP")?;
    wait_for("the change", taken)?;
    wait_for("what waits", later)?;
    for name in ["i0", "i1"] {
        let said = check(&setting, name)?;
        assert!(said.contains("client-too-old"), "{name}: {said}");
    }
    for process in [
        setting
            .cluster
            .client_process("i0")
            .map(Process::is_running),
        setting
            .cluster
            .coordinator_process()
            .map(Process::is_running),
    ] {
        assert_eq!(process, Some(true));
    }
    Ok(())
}

#[test]
fn a_service_manager_is_told_when_each_program_is_ready() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.enrol("i0", 0, 2)?;
    setting.cluster.kill_coordinator()?;
    let path = setting.path("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(MINUTES))?;
    let environment = [("NOTIFY_SOCKET", path.to_str().context("path")?)];
    let said = || -> Result<String> {
        let mut text = [0; 256];
        let length = socket.recv(&mut text)?;
        Ok(String::from_utf8_lossy(&text[..length]).into_owned())
    };
    setting.cluster.start_coordinator_with(&environment)?;
    assert!(said()?.contains("READY=1"));
    setting.cluster.start_client_with("i0", &environment)?;
    assert!(said()?.contains("READY=1"));
    Ok(())
}

/// Too little memory: the training is killed, the daemon is started again, and takes it up again.
#[test]
fn an_institution_whose_training_dies_again_and_again_is_not_waited_for() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    setting.enrol("i1", 1, 4)?;
    setting.cluster.start_client("i0")?;
    let dies = [("FEDNER_CRASH_AT", "before commit release update:1")];
    setting.cluster.start_client_with("i1", &dies)?;
    // Far longer than the test waits.
    let cohort = "train_timeout_s = 3600\naway_after_s = 3600";
    let run = setting.start_run(&plan(2, 1, 1, "head", cohort, NO_NOISE))?;
    let deadline = Instant::now() + 3 * MINUTES;
    let mut deaths = 0;
    loop {
        let view = setting.cluster.coordinate(&["run", "show", &run])?;
        if view["state"] == "completed" {
            break;
        }
        ensure!(Instant::now() < deadline, "{view}\n{}", setting.logs());
        let process = setting.cluster.client_process("i1").context("i1")?;
        if !process.is_running() {
            deaths += 1;
            setting.cluster.start_client_with("i1", &dies)?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(deaths > 1, "{deaths} deaths");
    let log = fs::read_to_string(setting.cluster.log("i1"))?;
    assert!(log.contains("was it killed, or out of memory?"), "{log}");
    Ok(())
}

/// Where the machine has IPv6.
#[test]
fn a_coordinator_with_an_ipv6_address_is_reached_by_it() -> Result<()> {
    let Ok(free) = TcpListener::bind("[::1]:0") else {
        return Ok(());
    };
    let port = free.local_addr()?.port();
    drop(free);
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("coordinator");
    let command = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(&binaries()?.coordinator);
        command.arg("--dir").arg(&directory).args(arguments);
        Ok(command)
    };
    let address = format!("[::1]:{port}");
    process::run(command(&["init", "--name", "six", "--address", &address])?)?;
    let log = folder.path().join("log");
    let within = Duration::from_secs(30);
    let serve = command(&["serve"])?;
    let _serving = Process::start_ready("the coordinator", serve, &log, "listening on ", within)?;
    let invite = process::run(command(&["invite", "i0"])?)?.stdout;
    let file = folder.path().join("invite.toml");
    fs::write(&file, invite)?;
    let corpus = folder.path().join("a.conll");
    fs::write(&corpus, "the O\nflu B-Disease\n\n")?;
    let mut enroll = Command::new(&binaries()?.client);
    enroll.arg("--dir").arg(folder.path().join("i0"));
    enroll.arg("enroll").arg(&file).arg("--data").arg(&corpus);
    enroll.args(["--proxy", "direct"]);
    process::run(enroll)?;
    Ok(())
}

/// A balancer in front of the coordinator, which says of each connection that it is that one's.
fn balancer(target: String, last: u8) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let target = target.clone();
            std::thread::spawn(move || -> Result<()> {
                let mut far = TcpStream::connect(target)?;
                far.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c")?;
                far.write_all(&[203, 0, 113, last, 127, 0, 0, 1, 0, 9, 0, 9])?;
                let back = (far.try_clone()?, near.try_clone()?);
                std::thread::spawn(move || carry(back.0, back.1));
                carry(near, far);
                Ok(())
            });
        }
    });
    Ok(address)
}

/// An enrolment by the invite of that text, through that address.
fn enrol_by(setting: &Setting, invite: &str, through: &str) -> Result<Command> {
    let (file, data) = (
        setting.path("through.toml"),
        setting.text(0, Split::Train, 2)?,
    );
    fs::write(&file, invite.replace(&setting.cluster.address(), through))?;
    let mut enroll = setting.cluster.client_command("i0", &["enroll"])?;
    enroll.arg(file).arg("--data").arg(data);
    Ok(enroll)
}

/// Limits count by the address that the balancer names. Without the key nobody is believed.
#[test]
fn behind_a_balancer_the_caller_is_whom_its_header_names() -> Result<()> {
    let mut setting = Setting::new()?;
    let target = setting.cluster.address();
    let (one, other) = (balancer(target.clone(), 1)?, balancer(target.clone(), 2)?);
    let invite = setting.cluster.invite("i0")?;
    let text = fs::read_to_string(&invite)?;
    let secret = text.lines().find(|line| line.starts_with("secret"));
    let guessed = text.replace(secret.context("secret")?, "secret = \"guessed\"");
    let said = refused(enrol_by(&setting, &text, &one)?)?;
    assert!(!said.contains("[invite"), "not TLS: {said}");

    let file = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let before = fs::read_to_string(&file)?;
    let key = "proxy_protocol_from = [\"127.0.0.1\"]\n";
    let limits = "[limits]\nwrong_invites_per_minute = 1\n";
    fs::write(&file, format!("{key}{before}\n{limits}"))?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    let direct = refused(enrol_by(&setting, &text, &target)?)?;
    assert!(!direct.contains("[invite"), "without a header: {direct}");
    for (through, code) in [
        (&one, "invite-unknown"),
        (&one, "rate-limited"),
        (&other, "invite-unknown"),
    ] {
        let said = refused(enrol_by(&setting, &guessed, through)?)?;
        assert!(said.contains(code), "{code}: {said}");
    }
    let third = balancer(target.clone(), 3)?;
    process::run(enrol_by(&setting, &text, &third)?)?;
    let check = setting.cluster.client_command("i0", &["check"])?.output()?;
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    let connection = check.lines().find(|line| line.contains("connection"));
    assert!(
        connection.is_some_and(|line| line.starts_with("ok")),
        "{check}"
    );
    Ok(())
}
