//! The metrics: what all workers counted, as Prometheus reads it.
//!
//! Nothing is registered or counted here. When somebody asks, every worker is asked for its own figures, and they are
//! written down under the names that [`Counters::FIGURES`] gives them.

use std::time::{Duration, SystemTime};

use campanile_core::{Bytes, Counters, Event, Figure, FigureKind, Monitor, Survey};
use campanile_protocol::http1::FieldLine;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::Handler;
use super::error::Error;
use super::exchange::{Exchange, Next, Responder};
use super::probes::NO_STORE;
use super::request::Request;
use super::response::{Answered, Response};

const KIND: FieldLine = FieldLine::from_static("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");

/// How long workers may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A handler that answers with what all workers counted, in the text format of Prometheus (version 0.0.4), by worker.
///
/// It holds up nobody: the workers answer between two turns, and one that does not within a second is told by
/// `campanile_worker_up 0` and not waited for. Each answer looks at every connection once, so it is not for the public.
///
/// ```no_run
/// use campanile::{Server, http};
///
/// let server = Server::new().listen("127.0.0.1:8080");
/// let monitor = server.monitor();
/// http::serve(server, http::Config::default(), move || {
///     http::Router::new()
///         .get("/", |_, response| response.text(200, "Hello, World!\n"))
///         .route("GET", "/metrics", http::Metrics::new(monitor.clone()))
/// })?;
/// # Ok::<(), campanile::ServeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Metrics {
    monitor: Monitor,
}

impl Metrics {
    /// Of the server that this monitor is of: [`Server::monitor`](crate::Server::monitor).
    #[must_use]
    pub fn new(monitor: Monitor) -> Metrics {
        Metrics { monitor }
    }
}

impl Handler for Metrics {
    fn handle(&self, _: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        Ok(response.respond(Asking { monitor: self.monitor.clone(), survey: None }))
    }
}

/// Waits for the workers.
struct Asking {
    monitor: Monitor,
    survey: Option<Survey>,
}

impl Responder for Asking {
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let control = exchange.control();
        let survey = self.survey.get_or_insert_with(|| {
            control.set_timer_in(PATIENCE);
            self.monitor.ask(control.waker())
        });
        if !survey.is_complete() && !matches!(event, Event::Timer) {
            return Ok(Next::Wait);
        }
        control.clear_timer();
        let text = write(&self.monitor, &survey.answers())?;
        exchange.answer(|response| response.status(200).line(KIND).line(NO_STORE).bytes(Bytes::from(text)))
    }

    fn reads_body(&self) -> bool {
        false
    }
}

/// The text. It is made anew each time, since the figures are the workers' own.
fn write(monitor: &Monitor, answers: &[Option<Counters>]) -> prometheus::Result<String> {
    let registry = Registry::new_custom(Some("campanile".into()), None)?;
    let up = gauge(&registry, "worker_up", "Whether the worker answered within a second.", &["worker"])?;
    for (worker, answer) in answers.iter().enumerate() {
        up.with_label_values(&[&worker.to_string()]).set(i64::from(answer.is_some()));
    }
    for family in Counters::FIGURES.chunk_by(|one, other| one.name == other.name) {
        write_family(&registry, family, answers)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = gauge(&registry, "build_info", "What runs: always 1.", &["version", "ring"])?;
    build
        .with_label_values(&[version, &monitor.ring().map_or_else(|| "none".into(), |ring| ring.to_string())])
        .set(1);
    let since = monitor.started_at().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let start = Opts::new("start_time_seconds", "When the server was started, in seconds since 1970.");
    let start = GaugeVec::new(start, &[])?;
    registry.register(Box::new(start.clone()))?;
    start.with_label_values::<&str>(&[]).set(since.unwrap_or_default().as_secs_f64());
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// The figures of one name, of all workers that answered.
fn write_family(
    registry: &Registry,
    family: &[Figure],
    answers: &[Option<Counters>],
) -> prometheus::Result<()> {
    let Figure { name, help, kind, label, .. } = family[0];
    let labels: Vec<&str> = ["worker"].into_iter().chain(label.map(|(name, _)| name)).collect();
    let total = match kind {
        FigureKind::Total => {
            let total = IntCounterVec::new(Opts::new(format!("{name}_total"), help), &labels)?;
            registry.register(Box::new(total.clone()))?;
            Ok(total)
        }
        FigureKind::Gauge => Err(gauge(registry, name, help, &labels)?),
    };
    for (worker, counters) in answers.iter().enumerate().filter_map(|(at, it)| Some((at, it.as_ref()?))) {
        for figure in family {
            let worker = worker.to_string();
            let values: Vec<&str> =
                [&*worker].into_iter().chain(figure.label.map(|(_, value)| value)).collect();
            match &total {
                Ok(total) => total.with_label_values(&values).inc_by(figure.of(counters)),
                Err(gauge) => gauge.with_label_values(&values).set(figure.of(counters) as i64),
            }
        }
    }
    Ok(())
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}
