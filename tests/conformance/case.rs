//! Cases: what is sent, what may be answered, and what becomes of the connection.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::answer::{Answer, Asked};
use crate::talk::{End, Talk, asked};

/// Follows what ends a connection, in the same segment, and is never answered.
pub const NEVER: &str = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
/// Shows that a connection is still good.
const PROBE: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

type Check = Arc<dyn Fn(&Answer) -> Result<(), String> + Send + Sync>;
type Scene = Arc<dyn Fn(SocketAddr) -> Result<(), String> + Send + Sync>;

/// What an answer may be. Of several statuses the first is the one that body and fields are checked for.
#[derive(Clone)]
pub struct Want {
    statuses: Vec<u16>,
    checks: Vec<Check>,
    asked: Option<Asked>,
    interim: bool,
    nothing: bool,
    cut: bool,
}

pub fn want(statuses: &[u16]) -> Want {
    let statuses = statuses.to_vec();
    Want { statuses, checks: Vec::new(), asked: None, interim: false, nothing: false, cut: false }
}

impl Want {
    /// It has exactly this body.
    pub fn body(self, body: impl AsRef<[u8]>) -> Want {
        let body = body.as_ref().to_vec();
        self.check(move |answer| {
            let shown = |bytes: &[u8]| format!("{:.100?} ({})", String::from_utf8_lossy(bytes), bytes.len());
            if answer.body == body {
                return Ok(());
            }
            Err(format!("body {} instead of {}", shown(&answer.body), shown(&body)))
        })
    }

    /// It has this field with this value, compared without case.
    pub fn field(self, name: &'static str, value: impl Into<String>) -> Want {
        let value = value.into();
        self.check(move |answer| match answer.field(name) {
            Some(found) if found.eq_ignore_ascii_case(&value) => Ok(()),
            found => Err(format!("{name}: {found:?} instead of {value:?}")),
        })
    }

    /// It has this field, and in its list these elements.
    pub fn lists(self, name: &'static str, elements: &'static [&'static str]) -> Want {
        self.check(move |answer| match elements.iter().find(|element| !answer.lists(name, element)) {
            Some(element) => Err(format!("{name}: {:?} without {element}", answer.field(name))),
            None => Ok(()),
        })
    }

    /// It does not have this field.
    pub fn without(self, name: &'static str) -> Want {
        self.check(move |answer| match answer.field(name) {
            Some(value) => Err(format!("{name}: {value}")),
            None => Ok(()),
        })
    }

    pub fn check(mut self, check: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static) -> Want {
        self.checks.push(Arc::new(check));
        self
    }

    /// It answers a request that is not the first of its case.
    pub fn to(mut self, request: impl AsRef<[u8]>) -> Want {
        self.asked = Some(asked(request.as_ref()));
        self
    }

    /// A 100 may come before it.
    pub fn after_continue(mut self) -> Want {
        self.interim = true;
        self
    }

    /// The end without an answer will do.
    pub fn or_nothing(mut self) -> Want {
        self.nothing = true;
        self
    }

    /// If it is a success it must be cut short, so that nobody takes it for whole.
    pub fn unless_cut(mut self) -> Want {
        self.cut = true;
        self
    }

    fn read(&self, talk: &mut Talk, first: Asked) -> Result<Option<Answer>, String> {
        let asked = self.asked.unwrap_or(first);
        if self.nothing && talk.peek()?.is_none() {
            return Ok(None);
        }
        let mut answer = talk.any_answer(asked)?;
        if self.interim && answer.status == 100 {
            answer = talk.any_answer(asked)?;
        }
        if self.cut && answer.status == 200 {
            if answer.whole {
                return Err("200, and nothing shows that the request broke off".into());
            }
            return Ok(Some(Answer { closes: true, ..answer }));
        }
        if !self.statuses.contains(&answer.status) {
            let body: String = String::from_utf8_lossy(&answer.body).chars().take(60).collect();
            return Err(format!("{} instead of {:?}: {body:?}", answer.status, self.statuses));
        }
        if !answer.whole {
            return Err(format!("{} was cut short after {} bytes", answer.status, answer.body.len()));
        }
        if answer.status == self.statuses[0] {
            self.checks.iter().try_for_each(|check| check(&answer))?;
        }
        Ok(Some(answer))
    }
}

#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// A byte at a time.
    Dribble(Vec<u8>),
    Answer(Want),
    /// These bytes are received; they are not taken.
    See(Vec<u8>),
    /// Nothing more is sent.
    Half,
}

pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another request is answered on it.
    Open,
    /// It ends in order, and the last answer said so.
    Closed,
    /// As the last answer says.
    Any,
    /// It ends, since the client ended it or was sending more than the server wanted.
    Ended,
    /// The client leaves.
    Left,
}

#[derive(Clone)]
enum Play {
    Steps(Vec<Step>, After),
    Scene(Scene),
}

/// One row of the table.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub rfc: &'static str,
    play: Play,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Case {
    pub fn run(&self, to: SocketAddr) -> Result<(), String> {
        match &self.play {
            Play::Scene(scene) => scene(to),
            Play::Steps(steps, after) => run(to, steps, *after),
        }
    }
}

fn run(to: SocketAddr, steps: &[Step], after: After) -> Result<(), String> {
    let mut talk = Talk::to(to)?;
    let first = steps.iter().find_map(|step| match step {
        Step::Send(bytes) | Step::Dribble(bytes) => Some(asked(bytes)),
        _ => None,
    });
    let (mut answers, mut closes) = (0, None);
    for step in steps {
        match step {
            Step::Send(bytes) => talk.send(bytes),
            Step::Dribble(bytes) => talk.dribble(bytes),
            Step::See(bytes) => talk.see(bytes)?,
            Step::Half => talk.half_close(),
            Step::Answer(want) => {
                let answer = want.read(&mut talk, first.unwrap_or_default());
                let answer = answer.map_err(|wrong| format!("answer {answers}: {wrong}"))?;
                closes = Some(answer.is_none_or(|answer| answer.closes));
                answers += 1;
            }
        }
    }
    match (after, closes) {
        (After::Left, _) => return Ok(()),
        (After::Ended, _) => return talk.ends().map(drop),
        (After::Open, Some(true)) => return Err("it closes".into()),
        (After::Closed, Some(false)) => return Err("it does not say that it closes (RFC 9112 9.6)".into()),
        (After::Closed, _) | (After::Any, Some(true)) => {
            let end = talk.ends()?;
            return if end == End::Orderly { Ok(()) } else { Err("a reset (RFC 9112 9.6)".into()) };
        }
        (After::Open | After::Any, _) => {}
    }
    let answer = talk.ask(PROBE).map_err(|wrong| format!("the next request: {wrong}"))?;
    if answer.status != 200 || answer.body != b"Hello, World!" {
        return Err(format!(
            "the next request: {} {:?}",
            answer.status,
            answer.body.escape_ascii().to_string()
        ));
    }
    talk.ends().map(drop)
}

/// All cases, gathered area by area.
#[derive(Debug, Default)]
pub struct Table {
    pub cases: Vec<Case>,
    rfc: &'static str,
}

impl Table {
    /// The section that the cases from here on come from.
    pub fn rfc(&mut self, section: &'static str) {
        self.rfc = section;
    }

    /// Steps of every kind.
    pub fn talk(&mut self, name: impl Into<String>, steps: Vec<Step>, after: After) -> &mut Table {
        self.cases.push(Case { name: name.into(), rfc: self.rfc, play: Play::Steps(steps, after) });
        self
    }

    /// What steps cannot say.
    pub fn scene(
        &mut self,
        name: impl Into<String>,
        scene: impl Fn(SocketAddr) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.cases.push(Case { name: name.into(), rfc: self.rfc, play: Play::Scene(Arc::new(scene)) });
    }

    /// One request and its answer.
    pub fn one(
        &mut self,
        name: impl Into<String>,
        bytes: impl AsRef<[u8]>,
        want: Want,
        after: After,
    ) -> &mut Table {
        self.talk(name, vec![send(bytes), Step::Answer(want)], after)
    }

    /// A request that is served, with this body.
    pub fn serve(
        &mut self,
        name: impl Into<String>,
        bytes: impl AsRef<[u8]>,
        body: impl AsRef<[u8]>,
    ) -> &mut Table {
        self.one(name, bytes, want(&[200]).body(body), After::Open)
    }

    /// A request that is answered by one of these; the first has the body of `/plaintext` if it is 200.
    pub fn allow(
        &mut self,
        name: impl Into<String>,
        statuses: &[u16],
        bytes: impl AsRef<[u8]>,
    ) -> &mut Table {
        self.one(name, bytes, want(statuses), After::Any)
    }

    /// What is no request: 400, and nothing that follows is looked at.
    pub fn refuse(&mut self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> &mut Table {
        self.refuse_as(name, &[400], bytes)
    }

    /// The same, with one of these statuses.
    pub fn refuse_as(
        &mut self,
        name: impl Into<String>,
        statuses: &[u16],
        bytes: impl AsRef<[u8]>,
    ) -> &mut Table {
        self.one(name, [bytes.as_ref(), NEVER.as_bytes()].concat(), want(statuses), After::Closed)
    }

    /// Requests in one segment, and an answer to each.
    pub fn pipeline(
        &mut self,
        name: impl Into<String>,
        turns: Vec<(Vec<u8>, Want)>,
        after: After,
    ) -> &mut Table {
        let bytes = turns.iter().flat_map(|(request, _)| request.clone()).collect();
        let answers = turns.into_iter().map(|(request, want)| Step::Answer(want.to(request)));
        self.talk(name, [Step::Send(bytes)].into_iter().chain(answers).collect(), after)
    }

    /// The case before, once more a byte at a time.
    pub fn slowly(&mut self) -> &mut Table {
        let last = self.cases.last().expect("a case came before").clone();
        let Play::Steps(mut steps, after) = last.play else { return self };
        for step in &mut steps {
            if let Step::Send(bytes) = step {
                *step = Step::Dribble(std::mem::take(bytes));
            }
        }
        self.talk(format!("{}, a byte at a time", last.name), steps, after)
    }

    /// The case before, once more with its first bytes in two segments, for every place to cut.
    pub fn at_every_split(&mut self) -> &mut Table {
        let last = self.cases.last().expect("a case came before").clone();
        let Play::Steps(steps, after) = last.play else { return self };
        let Some((Step::Send(bytes), rest)) = steps.split_first() else { return self };
        for at in 1..bytes.len() {
            let (start, end) = bytes.split_at(at);
            let cut = [send(start), send(end)].into_iter().chain(rest.iter().cloned()).collect();
            self.talk(format!("{}, cut at {at}", last.name), cut, after);
        }
        self
    }
}

/// `GET path`, with these field lines besides Host, each with its CRLF.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request with any method; its body follows the head as it is.
pub fn with(method: &str, path: &str, fields: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// `POST path` with a Content-Length that is right.
pub fn post(path: &str, body: &str) -> String {
    with("POST", path, &format!("Content-Length: {}\r\n", body.len()), body)
}

/// `POST path` in chunks that are given as they go over the wire.
pub fn chunked(path: &str, chunks: &str) -> String {
    with("POST", path, "Transfer-Encoding: chunked\r\n", chunks)
}
