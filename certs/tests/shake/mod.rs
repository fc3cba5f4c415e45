//! A TLS handshake in memory.

use rustls::{ClientConnection, ServerConnection};

/// Moves bytes between the two until both are done or one has refused and the other has heard of it.
pub(crate) fn shake(
    mut client: ClientConnection,
    mut server: ServerConnection,
) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            at_server = at_server.and(server.process_new_packets().map(|_| ()));
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            at_client = at_client.and(client.process_new_packets().map(|_| ()));
        }
    }
    (at_client, at_server)
}
