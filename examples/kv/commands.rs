//! The commands: what there is, and what each does.
//!
//! A command whose answer does not fit is run again when there is room (see `framed`), so each writes its answer before
//! it changes anything; one that only writes a word or a number always has room for it.

use std::borrow::Cow;
use std::time::Duration;

use campanile::protocol::VecSink;
use campanile::{Full, Reply, Sink, Then};

use crate::glob;
use crate::resp::{Request, array, bulk, error, integer, simple};
use crate::store::{Expiry, OutOfMemory, Store};

/// The longest answer that is put together from several values, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// The longest pattern of KEYS and SCAN, in bytes: matching a key may take the product of both lengths (`glob`), and
/// nobody else is served meanwhile.
const MAX_PATTERN: usize = 256;

/// Why a command was not run to its end.
enum Failure {
    /// There is no room for its answer.
    Full(Full),
    /// It is answered with an error.
    Said(Cow<'static, str>),
}

use Failure::Said;

impl From<Full> for Failure {
    fn from(full: Full) -> Failure {
        Failure::Full(full)
    }
}

impl From<OutOfMemory> for Failure {
    fn from(_: OutOfMemory) -> Failure {
        Said("OOM command not allowed when used memory > 'maxmemory'".into())
    }
}

const SYNTAX: Failure = Said(Cow::Borrowed("ERR syntax error"));
const NO_INTEGER: Failure = Said(Cow::Borrowed("ERR value is not an integer or out of range"));
const EXPIRE_TIME: Failure = Said(Cow::Borrowed("ERR invalid expire time"));

type Done = Result<(), Failure>;
type Run = fn(&mut Request<'_>, &mut Store, &mut Reply<'_, '_>) -> Done;

/// Every command: its name, how many arguments it takes at least and at most, and what it does. Those that are called
/// most often come first.
#[rustfmt::skip]
const COMMANDS: &[(&str, usize, usize, Run)] = &[
    ("get", 1, 1, |args, store, reply| Ok(bulk(reply, store.get(next(args)?))?)),
    ("set", 2, usize::MAX, set),
    ("incr", 1, 1, |args, store, reply| add(next(args)?, 1, store, reply)),
    ("decr", 1, 1, |args, store, reply| add(next(args)?, -1, store, reply)),
    ("incrby", 2, 2, |args, store, reply| add(next(args)?, number(next(args)?)?, store, reply)),
    ("del", 1, usize::MAX, |args, store, reply| count(args, reply, |key| store.remove(key))),
    ("exists", 1, usize::MAX, |args, store, reply| count(args, reply, |key| store.deadline(key).is_some())),
    ("mget", 1, usize::MAX, mget),
    ("mset", 2, usize::MAX, mset),
    ("expire", 2, 2, |args, store, reply| expire(args, 1000, store, reply)),
    ("pexpire", 2, 2, |args, store, reply| expire(args, 1, store, reply)),
    ("ttl", 1, 1, |args, store, reply| ttl(next(args)?, 1000, store, reply)),
    ("pttl", 1, 1, |args, store, reply| ttl(next(args)?, 1, store, reply)),
    ("persist", 1, 1, persist),
    ("ping", 0, 1, |args, _, reply| Ok(match args.next() {
        Some(word) => bulk(reply, Some(word)),
        None => simple(reply, "PONG"),
    }?)),
    ("echo", 1, 1, |args, _, reply| Ok(bulk(reply, Some(next(args)?))?)),
    ("keys", 1, 1, keys),
    ("scan", 1, 5, scan),
    ("dbsize", 0, 0, |_, store, reply| Ok(integer(reply, store.len() as i64)?)),
    ("flushall", 0, 1, |_, store, reply| { store.clear(); Ok(simple(reply, "OK")?) }),
    ("select", 1, 1, |args, _, reply| match number(next(args)?)? {
        0 => Ok(simple(reply, "OK")?),
        _ => Err(Said("ERR DB index is out of range".into())),
    }),
    ("hello", 0, usize::MAX, hello),
    ("command", 0, usize::MAX, command),
    ("config", 2, usize::MAX, config),
    ("info", 0, usize::MAX, info),
];

/// Runs a command and answers it.
pub(crate) fn run(
    mut request: Request<'_>,
    store: &mut Store,
    reply: &mut Reply<'_, '_>,
) -> Result<Then, Full> {
    // An empty line, or an array of nothing, is no command.
    let Some(name) = request.next() else { return Ok(Then::Next) };
    if name.eq_ignore_ascii_case(b"quit") {
        return simple(reply, "OK").map(|()| Then::Finish);
    }
    let found = COMMANDS.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()));
    let done = match found {
        Some((_, least, most, run)) if (*least..=*most).contains(&request.len()) => {
            run(&mut request, store, reply)
        }
        Some((name, ..)) => Err(Said(format!("ERR wrong number of arguments for '{name}' command").into())),
        None => {
            let name = String::from_utf8_lossy(&name[..name.len().min(64)]);
            Err(Said(format!("ERR unknown command '{name}'").into()))
        }
    };
    match done {
        Ok(()) => {}
        Err(Said(message)) => error(reply, &message)?,
        Err(Failure::Full(full)) => return Err(full),
    }
    Ok(Then::Next)
}

fn next<'a>(args: &mut Request<'a>) -> Result<&'a [u8], Failure> {
    args.next().ok_or(SYNTAX)
}

/// A number as it is written, and no other way: no `+`, no zero before it.
fn number(text: &[u8]) -> Result<i64, Failure> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NO_INTEGER)?;
    if itoa::Buffer::new().format(number).as_bytes() == text { Ok(number) } else { Err(NO_INTEGER) }
}

/// So many times `millis`, as a length of time.
fn length(text: &[u8], millis: i64) -> Result<i64, Failure> {
    number(text)?.checked_mul(millis).ok_or(EXPIRE_TIME)
}

/// `SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]`
fn set(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let (key, value) = (next(args)?, next(args)?);
    let (mut expiry, mut only_if, mut gets) = (None, None, false);
    while let Some(option) = args.next() {
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        match option {
            _ if is("nx") && only_if != Some(true) => only_if = Some(false),
            _ if is("xx") && only_if != Some(false) => only_if = Some(true),
            _ if is("get") => gets = true,
            _ if is("keepttl") && expiry.is_none() => expiry = Some(Expiry::Keep),
            _ if (is("ex") || is("px")) && expiry.is_none() => {
                let length = length(next(args)?, if is("ex") { 1000 } else { 1 })?;
                let length = u64::try_from(length).ok().filter(|&length| length > 0).ok_or(EXPIRE_TIME)?;
                expiry = Some(Expiry::At(store.time() + Duration::from_millis(length)));
            }
            _ => return Err(SYNTAX),
        }
    }
    let is_wanted = only_if.is_none_or(|there| store.deadline(key).is_some() == there);
    if gets {
        if is_wanted {
            store.check([(key, value)])?;
        }
        bulk(reply, store.get(key))?;
    }
    if is_wanted {
        store.set(key, value, expiry.unwrap_or(Expiry::Never))?;
    }
    match (gets, is_wanted) {
        (true, _) => Ok(()),
        (false, true) => Ok(simple(reply, "OK")?),
        (false, false) => Ok(bulk(reply, None)?),
    }
}

fn add(key: &[u8], by: i64, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let before = store.get(key).map_or(Ok(0), number)?;
    let sum = before.checked_add(by).ok_or(Said("ERR increment or decrement would overflow".into()))?;
    store.set(key, itoa::Buffer::new().format(sum).as_bytes(), Expiry::Keep)?;
    Ok(integer(reply, sum)?)
}

/// Answers for how many keys it is so.
fn count(args: &mut Request<'_>, reply: &mut Reply<'_, '_>, mut is_so: impl FnMut(&[u8]) -> bool) -> Done {
    Ok(integer(reply, args.filter(|key| is_so(key)).count() as i64)?)
}

/// Collects an answer of any number of values, because together they may be longer than the room there can ever be; but
/// no longer than what one connection may hold. It is not begun before it can be handed over.
fn collect(reply: &mut Reply<'_, '_>, write: impl FnOnce(&mut VecSink<'_>) -> Result<(), Full>) -> Done {
    if !reply.can_send() {
        return Err(Failure::Full(Full { needed: MAX_ANSWER, room: 0 }));
    }
    let mut answer = Vec::new();
    let written = write(&mut VecSink::new(&mut answer, MAX_ANSWER));
    written.map_err(|_| Said("ERR the answer would be longer than 4 MiB: ask for less".into()))?;
    Ok(reply.send(answer.into())?)
}

fn mget(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    collect(reply, |answer| {
        array(answer, args.len())?;
        args.try_for_each(|key| bulk(answer, store.get(key)))
    })
}

fn mset(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    if args.len() % 2 == 1 {
        return Err(Said("ERR wrong number of arguments for 'mset' command".into()));
    }
    store.check(args.clone().pairs())?;
    for (key, value) in args.clone().pairs() {
        store.set(key, value, Expiry::Never)?;
    }
    Ok(simple(reply, "OK")?)
}

fn expire(args: &mut Request<'_>, millis: i64, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let (key, length) = (next(args)?, length(next(args)?, millis)?);
    // What expires in the past is gone at once.
    let at = store.time() + Duration::from_millis(u64::try_from(length).unwrap_or(0));
    Ok(integer(reply, store.expire(key, Some(at)).into())?)
}

/// Answers how long a key is still there; -1 means for ever, and -2 that it is not.
fn ttl(key: &[u8], millis: u128, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let left = match store.deadline(key) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => ((at.since(store.time()).as_millis() + millis / 2) / millis) as i64,
    };
    Ok(integer(reply, left)?)
}

fn persist(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let key = next(args)?;
    let expires = store.deadline(key).flatten().is_some();
    store.expire(key, None);
    Ok(integer(reply, expires.into())?)
}

/// A pattern for keys.
fn pattern<'a>(args: &mut Request<'a>) -> Result<&'a [u8], Failure> {
    let pattern = next(args)?;
    if pattern.len() > MAX_PATTERN {
        return Err(Said(format!("ERR the pattern is longer than {MAX_PATTERN} bytes").into()));
    }
    Ok(pattern)
}

fn keys(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let pattern = pattern(args)?;
    collect(reply, |answer| {
        let keys: Vec<&[u8]> = store.keys().filter(|key| glob::matches(pattern, key)).collect();
        bulks(answer, &keys)
    })
}

/// Writes an array.
fn bulks(sink: &mut impl Sink, all: &[&[u8]]) -> Result<(), Full> {
    array(sink, all.len())?;
    all.iter().try_for_each(|bytes| bulk(sink, Some(bytes)))
}

/// `SCAN cursor [MATCH pattern] [COUNT count]`
fn scan(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let cursor = usize::try_from(number(next(args)?)?).map_err(|_| Said("ERR invalid cursor".into()))?;
    let (mut wanted, mut count) = (&b"*"[..], 10);
    while let Some(option) = args.next() {
        match option {
            _ if option.eq_ignore_ascii_case(b"match") => wanted = pattern(args)?,
            _ if option.eq_ignore_ascii_case(b"count") => {
                let value = number(next(args)?)?;
                count = usize::try_from(value).ok().filter(|&count| count > 0).ok_or(SYNTAX)?;
            }
            _ => return Err(SYNTAX),
        }
    }
    let (next, keys) = store.scan(cursor, count);
    let keys: Vec<&[u8]> = keys.filter(|key| glob::matches(wanted, key)).collect();
    collect(reply, |answer| {
        array(answer, 2)?;
        bulk(answer, Some(itoa::Buffer::new().format(next).as_bytes()))?;
        bulks(answer, &keys)
    })
}

/// Who connects asks for a version of the protocol; there is the second.
fn hello(args: &mut Request<'_>, _: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    match args.next() {
        None | Some(b"2") => {}
        Some(_) => return Err(Said("NOPROTO unsupported protocol version".into())),
    }
    if args.next().is_some() {
        return Err(SYNTAX);
    }
    array(reply, 6)?;
    for (name, value) in [("server", "campanile-kv"), ("version", env!("CARGO_PKG_VERSION"))] {
        bulk(reply, Some(name.as_bytes()))?;
        bulk(reply, Some(value.as_bytes()))?;
    }
    bulk(reply, Some(b"proto"))?;
    Ok(integer(reply, 2)?)
}

/// `redis-cli` asks for the commands, to complete and explain them, and does without.
fn command(args: &mut Request<'_>, _: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    match args.next() {
        Some(what) if what.eq_ignore_ascii_case(b"count") => Ok(integer(reply, COMMANDS.len() as i64)?),
        _ => Ok(array(reply, 0)?),
    }
}

/// `redis-benchmark` asks what is written to the disk: nothing.
fn config(args: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    if !next(args)?.eq_ignore_ascii_case(b"get") {
        return Err(Said("ERR there is nothing to set: see --help".into()));
    }
    let max_memory = store.memory().1.to_string();
    let settings = [("save", ""), ("appendonly", "no"), ("maxmemory", &max_memory), ("databases", "1")];
    let patterns: Vec<&[u8]> = args.collect();
    let is_wanted = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let wanted: Vec<_> = settings.iter().filter(|(name, _)| is_wanted(name)).collect();
    array(reply, wanted.len() * 2)?;
    for (name, value) in wanted {
        bulk(reply, Some(name.as_bytes()))?;
        bulk(reply, Some(value.as_bytes()))?;
    }
    Ok(())
}

fn info(_: &mut Request<'_>, store: &mut Store, reply: &mut Reply<'_, '_>) -> Done {
    let (used, max) = store.memory();
    let text = format!(
        "# Server\r\nserver_name:campanile-kv\r\nserver_version:{}\r\n\r\n\
         # Memory\r\nused_memory:{used}\r\nmaxmemory:{max}\r\nmaxmemory_policy:noeviction\r\n\r\n\
         # Keyspace\r\ndb0:keys={},expires={}\r\n",
        env!("CARGO_PKG_VERSION"),
        store.len(),
        store.expiring(),
    );
    Ok(bulk(reply, Some(text.as_bytes()))?)
}
