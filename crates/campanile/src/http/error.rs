//! The error: what a handler says instead of an answer, and the answer that becomes of it.

use std::borrow::Cow;
use std::fmt;

use campanile_protocol::http1::{BodyError, RequestError};

/// An error that is answered: a status, and a text for the client.
///
/// Any [`std::error::Error`] turns into one by `?`: the client is told 500 and no more, and the log (an event of
/// `tracing`) tells what it was. What is none itself, such as `Box<dyn Error>`, does so by
/// `.map_err(`[`Error::internal`]`)?`.
///
/// ```
/// use campanile::http::{self, Answered, Error, Request, Response};
///
/// fn double(request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
///     let number = request.query().ok_or(Error::new(400, "say ?N"))?;
///     let number: i64 = number.parse().map_err(|_| Error::new(400, "N is a number"))?;
///     response.text(200, &format!("{}\n", number * 2))
/// }
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(http::service(double));
/// ```
pub struct Error {
    pub(super) status: u16,
    pub(super) message: Cow<'static, str>,
    /// Seconds after which the client may try again.
    pub(super) retry_after: Option<u32>,
    pub(super) closes: bool,
    /// For the log alone.
    source: Option<Box<dyn std::error::Error>>,
}

impl Error {
    /// Answers with this status, from 400 to 599, and this text, which the client sees, with a line feed behind it. Any
    /// other status is answered as 500.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Error {
        let status = if (400..600).contains(&status) { status } else { 500 };
        Error { status, message: message.into(), retry_after: None, closes: false, source: None }
    }

    /// Answers 500 to whatever is an error, or can be made one, such as `Box<dyn Error>` and text: the client is told
    /// no more than that, and the log tells what it was.
    pub fn internal(source: impl Into<Box<dyn std::error::Error>>) -> Error {
        let message = Cow::Borrowed("internal server error");
        Error { status: 500, message, retry_after: None, closes: false, source: Some(source.into()) }
    }

    /// Tells the client after how many seconds it may try again (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Error {
        self.retry_after = Some(seconds);
        self
    }

    /// Ends the connection after the answer.
    #[must_use]
    pub fn closing(mut self) -> Error {
        self.closes = true;
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Tells the log what the client is not told.
    pub(super) fn report(&self) {
        if let Some(source) = &self.source {
            tracing::error!("a handler failed: {source}");
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(source: E) -> Error {
        Error::internal(source)
    }
}

/// A head that is no request: what follows it cannot be read.
pub(super) fn of_head(error: RequestError) -> Error {
    Error::new(error.status(), error.to_string()).closing()
}

/// A body that is none: what follows it cannot be read.
pub(super) fn of_body(error: BodyError) -> Error {
    Error::new(error.status(), error.to_string()).closing()
}

/// A handler panicked. What it left behind may be anything, so this is the last answer of its connection.
pub(super) fn of_panic() -> Error {
    Error::new(500, "internal server error").closing()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("status", &self.status)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
