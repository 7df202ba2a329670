//! The monitor: services learn what all workers counted, and wait for none of them.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campanile_core::{
    Config, Context, Counters, Event, Flow, Monitor, Server, Service, Survey, Verdict, WorkerId,
};
use support::{LONG, Told, client, counted, echo, nothing_held, round, tcp, until};

/// Tells which worker it is on (`w`), gets that worker stuck (`s`), or asks all of them how many turns they made: with
/// patience (`p`) or without (`q`).
struct Census {
    worker: usize,
    free: Arc<AtomicBool>,
    monitor: Monitor,
    survey: Option<Survey>,
}

impl Service for Census {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let asked = if matches!(event, Event::Input) { cx.input.consume_all()[0] } else { 0 };
        match asked {
            b'w' => cx.output.write(&[b'0' + self.worker as u8]).expect("there is room"),
            b's' => {
                while !self.free.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            b'p' | b'q' => {
                cx.set_timer_in(if asked == b'p' { LONG } else { Duration::from_millis(200) });
                self.survey = Some(self.monitor.ask(cx.waker()));
            }
            _ => {}
        }
        let is_late = matches!(event, Event::Timer);
        if let Some(survey) = self.survey.take_if(|survey| survey.is_complete() || is_late) {
            let answered =
                |answer: &Option<Counters>| if answer.is_some_and(|it| it.turns > 0) { b'+' } else { b'-' };
            let line: Vec<u8> = survey.answers().iter().map(answered).collect();
            cx.output.write(&line).expect("there is room");
        }
        Flow::More(1)
    }
}

fn ask(stream: &mut TcpStream, what: u8, len: usize) -> Vec<u8> {
    stream.write_all(&[what]).expect("it reads");
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_service_asks_all_workers_and_a_stuck_one_is_not_waited_for() {
    let server = Server::new().listen("127.0.0.1:0").workers(2);
    let (monitor, free) = (server.monitor(), Arc::new(AtomicBool::new(false)));
    assert_eq!((monitor.started_at(), monitor.ring()), (None, None));
    let (asker, release) = (monitor.clone(), Arc::clone(&free));
    let server = server.serve_with(WorkerId::index, move |worker, _| {
        let (free, monitor) = (Arc::clone(&free), asker.clone());
        Census { worker: *worker, free, monitor, survey: None }
    });
    let server = server.expect("a free port of loopback");
    assert!(monitor.started_at().is_some() && monitor.ring().is_some());
    // The kernel chooses who is accepted where.
    let mut of_worker = [None, None];
    until("there is a connection on each", || {
        let mut stream = client(tcp(&server));
        let worker = usize::from(ask(&mut stream, b'w', 1)[0] - b'0');
        of_worker[worker] = Some(stream);
        of_worker.iter().all(Option::is_some)
    });
    let [Some(mut one), Some(mut other)] = of_worker else { unreachable!("just looked at") };
    assert_eq!(ask(&mut one, b'p', 2), b"++");
    other.write_all(b"s").expect("it reads");
    // Until it is stuck it answers.
    until("it is stuck", || ask(&mut one, b'q', 2) == b"+-");
    release.store(true, Ordering::SeqCst);
    assert_eq!(ask(&mut one, b'p', 2), b"++");
    drop(server);
    assert!(monitor.started_at().is_some(), "it outlives the server");
}

#[test]
fn every_figure_moves_and_gauges_return_to_rest() {
    let config = Config { max_connections: 2, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| {
        Told(|event, cx: &mut Context<'_>| {
            if matches!(event, Event::Input) {
                cx.count_request();
                let verdict = match cx.input[0] {
                    b'2' => Verdict::Success,
                    b'3' => Verdict::Redirect,
                    b'4' => Verdict::ClientError,
                    b'5' => Verdict::ServerError,
                    _ => Verdict::Cut,
                };
                cx.count_answer(verdict);
                cx.set_timer_in(LONG);
                assert!(!cx.is_draining());
            }
            echo(&mut cx.input, &mut cx.output)
        })
    });
    let server = server.expect("a free port of loopback");
    let mut clients = [client(tcp(&server)), client(tcp(&server))];
    for byte in *b"2234455555x" {
        assert_eq!(round(&mut clients[0], &[byte]).unwrap(), [byte]);
    }
    // A third finds no place.
    let third = client(tcp(&server));
    until("all places are taken", || counted(&server).accepts_paused == 1);
    let now = counted(&server);
    let answers = [now.succeeded, now.redirected, now.refused, now.failed, now.cut];
    assert_eq!((now.requests, answers), (11, [2, 1, 2, 5, 1]));
    assert_eq!((now.connections, now.connections_limit, now.slots), (2, 2, 2));
    assert!(now.timers > 0, "{now:?}");
    assert!(now.in_flight > 0 && now.receive_buffers > 0 && now.send_buffers_limit > 0, "{now:?}");
    assert_eq!((now.backlog, now.starved, now.hungry, now.reads_waiting, now.file_buffers), (0, 0, 0, 0, 0));
    drop(clients);
    until("the third has its place", || counted(&server).accepted == 3);
    drop(third);
    nothing_held(&server);
    let rest = counted(&server);
    assert_eq!((rest.timers, rest.waiting, rest.errands_running, rest.errands_waiting), (0, 0, 0, 0));
}

/// Whoever asks a server whose workers have ended hears so at once.
#[test]
fn a_server_that_has_ended_counts_nothing() {
    let server =
        Server::new().listen("127.0.0.1:0").workers(2).serve(|| echo).expect("a free port of loopback");
    assert_eq!(server.counters().len(), 2);
    server.stop();
    until("it has ended", || server.counters().is_empty());
}
