//! A UDP relay that behaves like a bad network: it stands between WebRTC clients and a server on
//! the same machine and lets [`crate::impairment`] decide what becomes of each datagram.
//!
//! Every client address gets a socket of its own towards the server, so that the server can tell
//! the clients apart, and a link in each direction with seeds of their own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::impairment::{Conditions, Link, Tally};

/// Most clients at a time; datagrams of more are dropped.
const MAX_CLIENTS: usize = 256;
/// Datagrams of one client that wait for its task; more are dropped, as a socket's buffer does.
const QUEUE: usize = 256;
/// Larger than any datagram over Ethernet.
const MAX_DATAGRAM: usize = 2_048;

/// What became of the datagrams of all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelayReport {
    /// Client addresses that were seen.
    pub clients: usize,
    /// From clients to the server.
    pub to_server: Tally,
    /// From the server to clients.
    pub to_clients: Tally,
}

/// A relay that is bound but does not run yet.
#[derive(Debug)]
pub struct Relay {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    conditions: Conditions,
    seed: u64,
}

impl Relay {
    /// Binds a port of the loopback interface (0: any) for clients of `server`.
    ///
    /// # Errors
    /// What the system says, when the port is taken.
    pub async fn bind(
        port: u16,
        server: SocketAddr,
        conditions: Conditions,
        seed: u64,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await?);
        Ok(Self { socket, server, conditions, seed })
    }

    /// Where clients send to.
    ///
    /// # Errors
    /// What the system says; not for a bound socket.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Relays until `stop` is done.
    ///
    /// # Errors
    /// What the system says when a socket cannot be made or breaks.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<RelayReport> {
        let mut clients: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; MAX_DATAGRAM];
        tokio::pin!(stop);
        loop {
            let (length, from) = tokio::select! {
                () = &mut stop => break,
                received = self.socket.recv_from(&mut buffer) => received?,
            };
            let count = clients.len();
            let sender = match clients.entry(from) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if count >= MAX_CLIENTS => continue,
                Entry::Vacant(place) => {
                    let (sender, datagrams) = mpsc::channel(QUEUE);
                    let seed = self.seed.wrapping_add(2 * count as u64);
                    let client = Client::new(&self, from, seed).await?;
                    tasks.spawn(client.run(datagrams));
                    place.insert(sender)
                }
            };
            // A full queue drops the newest.
            let _ = sender.try_send(buffer[..length].to_vec());
        }
        let mut report = RelayReport { clients: clients.len(), ..RelayReport::default() };
        // The clients' tasks end with their queues.
        drop(clients);
        while let Some(ended) = tasks.join_next().await {
            let (to_server, to_client) = ended.map_err(io::Error::other)??;
            report.to_server += to_server;
            report.to_clients += to_client;
        }
        Ok(report)
    }
}

/// One client's way to the server and back.
struct Client {
    listening: Arc<UdpSocket>,
    address: SocketAddr,
    /// Connected to the server.
    upstream: UdpSocket,
    to_server: Link<Vec<u8>>,
    to_client: Link<Vec<u8>>,
}

impl Client {
    async fn new(relay: &Relay, address: SocketAddr, seed: u64) -> io::Result<Self> {
        let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        upstream.connect(relay.server).await?;
        Ok(Self {
            listening: Arc::clone(&relay.socket),
            address,
            upstream,
            to_server: Link::new(relay.conditions, seed),
            to_client: Link::new(relay.conditions, seed.wrapping_add(1)),
        })
    }

    async fn run(mut self, mut datagrams: mpsc::Receiver<Vec<u8>>) -> io::Result<(Tally, Tally)> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let next =
                self.to_server.next_arrival().into_iter().chain(self.to_client.next_arrival());
            let next = next.min();
            tokio::select! {
                datagram = datagrams.recv() => match datagram {
                    Some(datagram) => {
                        self.to_server.send_sized(Instant::now(), datagram.len(), datagram);
                    }
                    None => return Ok((self.to_server.tally(), self.to_client.tally())),
                },
                received = self.upstream.recv(&mut buffer) => {
                    // A server that is gone answers with an ICMP error: nothing arrived.
                    if let Ok(length) = received {
                        let datagram = buffer[..length].to_vec();
                        self.to_client.send_sized(Instant::now(), length, datagram);
                    }
                }
                () = sleep_until(next) => {}
            }
            let now = Instant::now();
            while let Some((_, datagram)) = self.to_server.receive(now) {
                let _ = self.upstream.send(&datagram).await;
            }
            while let Some((_, datagram)) = self.to_client.receive(now) {
                let _ = self.listening.send_to(&datagram, self.address).await;
            }
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::impairment::Loss;

    /// Sends numbered datagrams from two clients to an echo server through the relay; gives what
    /// came back to the first, and the report.
    async fn echo(conditions: Conditions) -> (Vec<u8>, RelayReport) {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Relay::bind(0, server.local_addr().unwrap(), conditions, 4).await.unwrap();
        let address = relay.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(relay.run(async {
            let _ = stopped.await;
        }));
        let echoing = tokio::spawn(async move {
            let mut buffer = [0; 16];
            loop {
                let (length, from) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        for number in 0..200u8 {
            client.send_to(&[number], address).await.unwrap();
            other.send_to(&[number, 1], address).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut heard = Vec::new();
        let mut buffer = [0; 16];
        let patience = Duration::from_millis(300);
        while let Ok(received) = tokio::time::timeout(patience, client.recv(&mut buffer)).await {
            assert_eq!(received.unwrap(), 1, "the other client's datagrams are not ours");
            heard.push(buffer[0]);
        }
        let _ = stop.send(());
        echoing.abort();
        (heard, running.await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_clean_relay_brings_every_datagram_back_in_order() {
        let (heard, report) = echo(Conditions::default()).await;
        assert_eq!(heard, (0..200).collect::<Vec<u8>>());
        assert_eq!(report.clients, 2);
        assert_eq!((report.to_server.sent, report.to_server.lost), (400, 0));
        assert_eq!((report.to_clients.sent, report.to_clients.lost), (400, 0));
    }

    #[tokio::test]
    async fn a_lossy_relay_loses_in_both_directions() {
        let loss = Loss::Random { share: 0.2 };
        let (heard, report) = echo(Conditions { loss, ..Conditions::default() }).await;
        assert!((90..170).contains(&heard.len()), "{} of 200 came back", heard.len());
        for tally in [report.to_server, report.to_clients] {
            let share = tally.lost as f64 / tally.sent as f64;
            assert!((0.1..0.3).contains(&share), "{tally:?}");
        }
    }
}
