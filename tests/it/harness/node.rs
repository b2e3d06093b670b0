//! A node's service: an HTTP server on the private address that moto believes in, which can be made to misbehave.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How a service behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Answers every request with this status.
    Status(u16),
    /// Nobody listens: the process is dead.
    Refuse,
    /// Accepts, and never says a word: the process hangs.
    Hang,
    /// Sends its status line a byte at a time, and takes several seconds over it.
    Drip,
}

pub const OK: Service = Service::Status(200);

/// Between two bytes of [`Service::Drip`]; its 17 bytes take 5 s.
const DRIP_MS: u64 = 300;

/// How long a connection waits for its request, and how soon it notices that the service has changed.
const LOOK_UP_MS: u64 = 20;

pub struct NodeServer {
    addr: SocketAddrV4,
    shared: Arc<Shared>,
    accepting: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Shared {
    /// With a number that grows with every change; connections of an earlier one are closed.
    service: Mutex<(Service, u64)>,
    connections: AtomicUsize,
}

impl NodeServer {
    /// Begins to serve [`OK`].
    pub fn start(listener: TcpListener) -> NodeServer {
        let std::net::SocketAddr::V4(addr) = listener.local_addr().unwrap() else { panic!("an IPv6 address") };
        let shared = Shared { service: Mutex::new((OK, 0)), connections: AtomicUsize::new(0) };
        let node = NodeServer { addr, shared: Arc::new(shared), accepting: Mutex::new(None) };
        node.accept(listener);
        node
    }

    pub fn ip(&self) -> Ipv4Addr {
        *self.addr.ip()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Changes the service, as a crash or a restart would: connections that are open are closed.
    pub fn set(&self, service: Service) {
        {
            let mut current = self.shared.service.lock().unwrap();
            *current = (service, current.1 + 1);
        }
        let mut accepting = self.accepting.lock().unwrap();
        if service == Service::Refuse {
            if let Some(thread) = accepting.take() {
                // Wakes the thread, which then closes its listener.
                let _ = TcpStream::connect(self.addr);
                thread.join().unwrap();
            }
        } else if accepting.is_none() {
            drop(accepting);
            self.accept(TcpListener::bind(self.addr).unwrap());
        }
    }

    fn accept(&self, listener: TcpListener) {
        let shared = self.shared.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let service = *shared.service.lock().unwrap();
                if service.0 == Service::Refuse {
                    break;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = shared.clone();
                thread::spawn(move || serve(stream, service, &shared));
            }
        });
        *self.accepting.lock().unwrap() = Some(thread);
    }
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        self.set(Service::Refuse);
    }
}

fn serve(mut stream: TcpStream, (service, generation): (Service, u64), shared: &Shared) {
    let same = || shared.service.lock().unwrap().1 == generation;
    let _ = stream.set_read_timeout(Some(Duration::from_millis(LOOK_UP_MS)));
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    // Until the request is complete, the client is gone, or the service has changed.
    while same() && !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
            Err(_) => {}
        }
    }
    match service {
        Service::Status(status) if same() => {
            let body = "served by a test\n";
            let _ = write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
        Service::Hang => while same() && !matches!(stream.read(&mut buffer), Ok(0)) {},
        Service::Drip => {
            for byte in b"HTTP/1.1 200 OK\r\n" {
                if !same() || stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(DRIP_MS));
            }
        }
        Service::Status(_) | Service::Refuse => {}
    }
}
