//! Where a PostgreSQL server is, and by whose name it is asked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Where a program of PostgreSQL finds the authorities that it trusts.
pub(super) const BUNDLE: &str = "PGSSLROOTCERT";
const CONNECT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const UNANSWERED: Duration = Duration::from_secs(15);

/// A database of a server. Its password is in no message.
#[derive(Clone)]
pub struct Address {
    pub(super) config: Config,
    /// Authorities beside those of the machine.
    pub(super) bundle: Option<PathBuf>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let database = self.config.get_dbname().unwrap_or_default();
        write!(f, "{:?}/{database}", self.config.get_hosts())
    }
}

impl Address {
    /// Reads `postgres://USER@HOST:PORT/DATABASE`. The password comes from the environment, or the file that it names;
    /// other machines are asked by TLS unless the URL says `sslmode=disable`.
    pub(in crate::store) fn parse(
        url: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut config: Config = url
            .parse()
            .map_err(|_| "store_url is not postgres://USER@HOST:PORT/DATABASE".to_owned())?;
        if config.get_password().is_some() {
            let message =
                "store_url has a password: put it into PGPASSWORD, or a file that PGPASSFILE names";
            return Err(message.to_owned());
        }
        let near = |host: &Host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .parse()
                        .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            Host::Unix(_) => true,
        };
        let said = url.contains("sslmode=");
        if !said {
            let near = config.get_hosts().iter().all(near);
            config.ssl_mode(if near {
                SslMode::Disable
            } else {
                SslMode::Require
            });
        } else if config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Require);
        }
        if config.get_user().is_none() {
            let user = environment
                .get("PGUSER")
                .or_else(|| environment.get("USER"));
            config.user(user.map_or("fedner", String::as_str));
        }
        if let Some(password) = password(&config, environment) {
            config.password(password);
        }
        config
            .application_name("fedner-coordinator")
            .connect_timeout(CONNECT)
            .keepalives_idle(KEEP_ALIVE)
            .tcp_user_timeout(UNANSWERED);
        Ok(Self {
            config,
            bundle: environment.get(BUNDLE).map(PathBuf::from),
        })
    }
}

/// `PGPASSWORD`, or that of the first fitting line of the file of passwords.
fn password(config: &Config, environment: &BTreeMap<String, String>) -> Option<String> {
    if let Some(password) = environment.get("PGPASSWORD") {
        return Some(password.clone());
    }
    let named = environment.get("PGPASSFILE").map(PathBuf::from);
    let home = || Some(Path::new(environment.get("HOME")?).join(".pgpass"));
    let text = fs::read_to_string(named.or_else(home)?).ok()?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(_)) | None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().unwrap_or(&5432).to_string();
    let (user, database) = (
        config.get_user()?,
        config.get_dbname().or(config.get_user())?,
    );
    let wanted = [host.as_str(), &port, database, user];
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.splitn(5, ':').collect();
        let [of @ .., password] = fields.as_slice() else {
            return None;
        };
        let fits = of.len() == 4
            && of
                .iter()
                .zip(wanted)
                .all(|(field, wanted)| *field == "*" || *field == wanted);
        fits.then(|| (*password).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_the_environment_or_a_file_and_never_from_the_url() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("passwords");
        let text = "other:*:*:*:no\n*:5433:north:fedner:by-port\n*:*:*:fedner:by-name\n";
        fs::write(&file, text).expect("written");
        let file = file.display().to_string();
        let environment = |name: &str, value: &str| {
            let pairs = [(name.to_owned(), value.to_owned())];
            BTreeMap::from(pairs)
        };
        let password = |url: &str, environment: &BTreeMap<String, String>| {
            let address = Address::parse(url, environment).expect("an address");
            let password = address.config.get_password();
            assert!(!format!("{address:?}").contains("by-"), "{address:?}");
            password.map(|word| String::from_utf8_lossy(word).into_owned())
        };
        let url = "postgres://fedner@db:5433/north";
        let of_file = environment("PGPASSFILE", &file);
        assert_eq!(password(url, &of_file).as_deref(), Some("by-port"));
        let elsewhere = "postgres://fedner@db/south";
        assert_eq!(password(elsewhere, &of_file).as_deref(), Some("by-name"));
        assert_eq!(password("postgres://else@db/south", &of_file), None);
        let said = environment("PGPASSWORD", "said");
        assert_eq!(password(url, &said).as_deref(), Some("said"));
        let error = Address::parse("postgres://fedner:secret@db/north", &said);
        assert!(!error.expect_err("refused").contains("secret"));
    }

    #[test]
    fn another_machine_is_asked_by_tls_unless_the_url_says_otherwise() {
        let mode = |url: &str| {
            let address = Address::parse(url, &BTreeMap::new());
            address.expect("an address").config.get_ssl_mode()
        };
        assert_eq!(mode("postgres://a@db.example.org/b"), SslMode::Require);
        assert_eq!(mode("postgres://a@db/b?sslmode=prefer"), SslMode::Require);
        assert_eq!(mode("postgres://a@db/b?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://a@127.0.0.1:5433/b"), SslMode::Disable);
        assert_eq!(mode("postgres:///b?host=/run/postgresql"), SslMode::Disable);
    }
}
