//! Connecting: a stream to somewhere else.

use std::rc::Rc;

use super::Stream;
use super::endpoint::Endpoint;
use crate::errand::{Answer, Connect, ConnectError, Request};
use crate::local::Local;
use crate::task::Asking;

/// Opens a connection to an address, as [`Connect`] says how: with a deadline, from a local address.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use campanile_core::{Address, Connect, connect};
///
/// let mut stream = connect(Connect::to("127.0.0.1:7000".parse::<Address>()?)).await?;
/// stream.write(b"hello\n").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Why there is no connection.
///
/// # Panics
/// Outside of a worker.
pub async fn connect(to: impl Into<Connect>) -> Result<Stream, ConnectError> {
    let local = Local::expect("connect");
    let (endpoint, stream) = Endpoint::connected(Rc::clone(&local));
    let to: Connect = to.into();
    let address = to.to.clone();
    let request = Request::Connect(to, Box::new(endpoint));
    match Asking::new(local, request).await {
        Answer::Connected(Ok(_)) => Ok(stream),
        Answer::Connected(Err(error)) => Err(error),
        // There is no other answer to it.
        _ => Err(ConnectError::Failed(address, libc::EPROTO)),
    }
}
