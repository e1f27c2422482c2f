//! What a crash may leave behind: nothing of private text.

/// Says of a panic where it was and not its message, which may quote text; and writes no core dump,
/// which would hold all of it. `FEDNER_CORE_DUMPS=1` allows dumps, for a machine without private text.
#[expect(
    clippy::print_stderr,
    reason = "a panic is said even where nothing is logged"
)]
pub fn begin() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        tracing::error!("the program has a fault at {place}");
        eprintln!("error: the program has a fault at {place}");
    }));
    if std::env::var_os("FEDNER_CORE_DUMPS").is_some_and(|value| value == "1") {
        return;
    }
    if let Err(error) = without_core_dumps() {
        eprintln!("warning: core dumps cannot be switched off: {error}");
    }
}

#[cfg(unix)]
fn without_core_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Core).maximum;
    let none = Rlimit {
        current: Some(0),
        maximum,
    };
    Ok(setrlimit(Resource::Core, none)?)
}

#[cfg(not(unix))]
fn without_core_dumps() -> std::io::Result<()> {
    Ok(())
}
