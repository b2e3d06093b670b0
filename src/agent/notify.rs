//! What systemd is told: ready, alive, in what state, stopping. Source: sd_notify(3) and systemd.service(5).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// systemd, if it asked to be told.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Without them every call does nothing.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Systemd {
        let address = vars("NOTIFY_SOCKET").and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(path).ok(),
        });
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // A message that systemd has no room for is as good as lost; the agent does not wait for it.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let mine = vars("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = vars("WATCHDOG_USEC").filter(|_| mine).and_then(|usec| usec.parse().ok());
        let watchdog = watchdog.filter(|usec| *usec > 0).map(Duration::from_micros);
        Systemd { socket, watchdog }
    }

    /// How often [`Systemd::alive`] is to be called: twice in the time after which systemd takes the agent for hung.
    pub fn watchdog_pause(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// The agent runs.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The agent still runs.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Scratch;

    #[test]
    fn systemd_is_told_if_it_asked() {
        let path = Scratch::new("notify");
        let systemd = UnixDatagram::bind(&*path).unwrap();
        let told = Systemd::from_vars(|name| match name {
            "NOTIFY_SOCKET" => Some(path.display().to_string()),
            "WATCHDOG_USEC" => Some("30000000".to_owned()),
            _ => None,
        });
        assert_eq!(told.watchdog_pause(), Some(Duration::from_secs(15)));
        told.ready();
        told.status("two\nlines");
        let mut buffer = [0; 100];
        for expected in ["READY=1", "STATUS=two lines"] {
            let length = systemd.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let told = Systemd::from_vars(|name| match name {
            "NOTIFY_SOCKET" => Some("@nobody".to_owned()),
            "WATCHDOG_USEC" => Some("30000000".to_owned()),
            "WATCHDOG_PID" => Some("1".to_owned()),
            _ => None,
        });
        assert_eq!(told.watchdog_pause(), None);
        // Nobody listens there, which harms nothing.
        told.ready();
        assert_eq!(Systemd::from_vars(|_| None).watchdog_pause(), None);
    }
}
