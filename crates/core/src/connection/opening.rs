//! Opening: the steps of an outgoing connection, from a socket to the first event.

use crate::agenda::Change;
use crate::desk::Handle;
use crate::errand::{Asker, Connect, ConnectError, Ticket};
use crate::flight::{Flight, FlightIndex, Flights};
use crate::operation::{Descriptor, Memory, Outcome, Submission};
use crate::service::{Reason, Service};
use crate::time::Time;
use crate::token::Kind;

use super::{Connection, Env, Limits, Stage};

/// What an outgoing connection needs until it is open.
#[derive(Debug)]
pub(crate) struct Opening {
    to: Connect,
    asker: (Asker, Ticket),
    step: Step,
    in_flight: InFlight,
    nodelay: bool,
    result: Option<Result<(), ConnectError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Socket,
    NoDelay,
    Bind,
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    Nothing,
    Operation {
        flight: Option<FlightIndex>,
        cancelled: bool,
    },
    /// The deadline is over: to be cancelled.
    TimedOut {
        flight: Option<FlightIndex>,
    },
}

/// What became of it, for who asked.
pub(crate) type Opened = (Asker, Ticket, Result<Handle, ConnectError>);

impl Opening {
    pub(super) fn give_up(&mut self, reason: Reason) {
        let error = match reason {
            Reason::ServerStopped => ConnectError::Stopping,
            _ => ConnectError::Failed(self.to.to.clone(), libc::ECANCELED),
        };
        self.result.get_or_insert(Err(error));
    }
}

impl Connection {
    /// A connection that is to be made. `descriptor` is its socket if one was prepared outside of the ring.
    pub(crate) fn outgoing(
        handle: Handle,
        to: Connect,
        asker: (Asker, Ticket),
        descriptor: Option<Descriptor>,
        nodelay: bool,
        now: Time,
        service: Box<dyn Service>,
    ) -> Connection {
        let mut connection = Connection::new(handle, service, Stage::Opening, now);
        connection.descriptor = descriptor;
        connection.deadline = Some(now + to.deadline);
        let step = if descriptor.is_some() { Step::Connect } else { Step::Socket };
        let in_flight = InFlight::Nothing;
        connection.opening = Some(Box::new(Opening { to, asker, step, in_flight, nodelay, result: None }));
        connection
    }

    pub(super) fn poll_opening(
        &mut self,
        memory: &mut Memory,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        if let Some(cancel) = self.cancel_opening() {
            return Some(cancel);
        }
        let descriptor = self.descriptor;
        let opening = self.opening.as_deref_mut()?;
        if opening.in_flight != InFlight::Nothing {
            return None;
        }
        let mut flight = None;
        let mut launch = |value| *flight.insert(memory.flights.launch(value));
        let (kind, submission) = match opening.step {
            Step::Socket => {
                let domain = opening.to.to.domain().into();
                (Kind::Socket, Submission::Socket { domain, direct: limits.abilities.direct })
            }
            Step::NoDelay => {
                let value = launch(Flight::OptionValue([1, 0]));
                let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
                (Kind::Option, Submission::SetOption { descriptor: descriptor?, level, name, value, len: 4 })
            }
            Step::Bind | Step::Connect => {
                let local = opening.to.from.as_ref().filter(|_| opening.step == Step::Bind);
                let address = local.unwrap_or(&opening.to.to).to_sock_addr();
                let Ok(address) = address else {
                    opening.result = Some(Err(ConnectError::Failed(opening.to.to.clone(), libc::EINVAL)));
                    return None;
                };
                let address = launch(Flight::Address(address));
                let descriptor = descriptor?;
                match opening.step {
                    Step::Bind => (Kind::Connect, Submission::Bind { descriptor, address }),
                    _ => (Kind::Connect, Submission::Connect { descriptor, address }),
                }
            }
        };
        opening.in_flight = InFlight::Operation { flight, cancelled: false };
        Some((kind, submission))
    }

    pub(super) fn cancel_opening(&mut self) -> Option<(Kind, Submission)> {
        let ending = matches!(self.stage, Stage::Ending(_));
        let kind = match self.opening.as_deref()?.step {
            Step::Socket => Kind::Socket,
            Step::NoDelay => Kind::Option,
            Step::Bind | Step::Connect => Kind::Connect,
        };
        let target = self.token(kind);
        let opening = self.opening.as_deref_mut()?;
        match opening.in_flight {
            InFlight::TimedOut { flight } => {
                opening.in_flight = InFlight::Operation { flight, cancelled: true }
            }
            InFlight::Operation { flight, cancelled: false } if ending => {
                opening.in_flight = InFlight::Operation { flight, cancelled: true };
            }
            _ => return None,
        }
        Some((Kind::Cancel, Submission::Cancel { target }))
    }

    pub(super) fn opening_timed_out(&mut self) {
        if let Some(opening) = self.opening.as_deref_mut()
            && let InFlight::Operation { flight, cancelled: false } = opening.in_flight
        {
            opening.in_flight = InFlight::TimedOut { flight };
        }
    }

    /// The end of one step of opening; or of the option set while closing, which is no step.
    pub(crate) fn handle_opening(
        &mut self,
        outcome: Outcome,
        direct: bool,
        flights: &mut Flights,
        env: &mut Env<'_>,
    ) {
        if self.opening.as_deref().is_none_or(|opening| opening.in_flight == InFlight::Nothing) {
            if let Some(value) = self.ending_option() {
                flights.land(value);
            }
            return;
        }
        let Some(opening) = self.opening.as_deref_mut() else { return };
        let (flight, cancelled) = match std::mem::replace(&mut opening.in_flight, InFlight::Nothing) {
            InFlight::Operation { flight, cancelled } => (flight, cancelled),
            InFlight::TimedOut { flight } => (flight, true),
            InFlight::Nothing => return,
        };
        if let Some(flight) = flight {
            flights.land(flight);
        }
        let given_up = opening.result.take();
        let step = opening.step;
        match outcome {
            Outcome::Count(socket) if step == Step::Socket => {
                let socket =
                    if direct { Descriptor::Direct(socket) } else { Descriptor::Plain(socket as i32) };
                self.descriptor = Some(socket);
                opening.step = match (opening.nodelay, &opening.to.from) {
                    (true, _) => Step::NoDelay,
                    (false, Some(_)) => Step::Bind,
                    (false, None) => Step::Connect,
                };
            }
            // A socket without the option is a slower socket, not a failure.
            _ if step == Step::NoDelay => {
                opening.step = if opening.to.from.is_some() { Step::Bind } else { Step::Connect };
            }
            Outcome::Count(_) if step == Step::Bind => opening.step = Step::Connect,
            Outcome::Count(_) => opening.result = Some(Ok(())),
            Outcome::Retry | Outcome::NoBuffers if !cancelled => {}
            Outcome::Cancelled | Outcome::Retry | Outcome::NoBuffers => {
                opening.result = Some(Err(ConnectError::TimedOut(opening.to.to.clone())));
            }
            Outcome::PeerGone(errno) | Outcome::Failed(errno) => {
                opening.result = Some(Err(ConnectError::from_errno(opening.to.to.clone(), errno)));
            }
        }
        if matches!(self.stage, Stage::Ending(_)) {
            opening.result = given_up;
            return;
        }
        match &opening.result {
            None => {}
            Some(Ok(())) => {
                self.stage = Stage::Open;
                self.deadline = None;
                self.ages.touch(env.desk.now);
                self.agenda.add(Change::Open);
                self.drive(env);
            }
            Some(Err(_)) => self.end(Reason::NotConnected, env),
        }
    }

    /// Nobody wants it any more.
    pub(crate) fn give_up(&mut self, env: &mut Env<'_>) {
        if self.stage == Stage::Opening {
            self.end(Reason::NotConnected, env);
        }
    }

    /// It is not even tried.
    pub(crate) fn refuse(&mut self, error: ConnectError, env: &mut Env<'_>) {
        if let Some(opening) = self.opening.as_deref_mut() {
            opening.result = Some(Err(error));
        }
        self.end(Reason::NotConnected, env);
    }

    pub(super) fn is_opening(&self) -> bool {
        self.opening.as_deref().is_some_and(|opening| opening.in_flight != InFlight::Nothing)
    }

    /// What became of the opening, once: for who asked.
    pub(crate) fn take_opened(&mut self) -> Option<Opened> {
        if self.is_opening() {
            return None;
        }
        let result = self.opening.as_deref_mut()?.result.take()?;
        let opening = self.opening.take()?;
        Some((opening.asker.0, opening.asker.1, result.map(|()| self.handle)))
    }
}
